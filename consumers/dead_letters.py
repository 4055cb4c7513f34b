"""Watches dead letters: `python consumers/dead_letters.py kafka://events.dead`.

Prints how many new ones there are, a line per reason, at most every ten seconds. Settings come from the
environment (STREAMREC_KAFKA__BOOTSTRAP, ...) or a file (-c); SIGINT or SIGTERM ends it. Options: `--help`.
"""

import sys

from streamrec.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["dlq", "follow"]
    main()
