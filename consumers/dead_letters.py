"""Watches dead letters: `python consumers/dead_letters.py kafka://clicks-dead`.

The same as `streamrec dlq follow`: prints how many new ones there are, a line per reason, at most every
ten seconds. Settings come from the environment (STREAMREC_KAFKA__BOOTSTRAP, ...) or a file (-c); SIGINT
or SIGTERM ends it. Options: `--help`.
"""

import sys

from streamrec.cli import main

if __name__ == "__main__":
    main(["dlq", "follow", *sys.argv[1:]])
