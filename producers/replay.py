"""A historical log to a topic: `python producers/replay.py clicks.csv --to kafka://clicks`.

The same as `streamrec replay`. Settings come from the environment (STREAMREC_KAFKA__BOOTSTRAP, ...) or a
file (-c). The first SIGINT or SIGTERM ends with what is in hand, and the same command goes on from there.
Options: `--help`.
"""

import sys

from streamrec.cli import main

if __name__ == "__main__":
    main(["replay", *sys.argv[1:]])
