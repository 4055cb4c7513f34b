"""A known process to a topic: `python producers/simulate.py hawkes --to kafka://clicks --poison 0.01`.

The same as `streamrec simulate`. Settings come from the environment (STREAMREC_KAFKA__BOOTSTRAP, ...) or
a file (-c). The first SIGINT or SIGTERM ends with what is in hand, and the same command goes on from
there. Options: `--help`.
"""

import sys

from streamrec.cli import main

if __name__ == "__main__":
    main(["simulate", *sys.argv[1:]])
