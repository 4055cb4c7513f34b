"""Forecasts and learns from a topic: `python consumers/forecast.py kafka://clicks --state runs/shop`.

The daemon, the same as `streamrec run`: joins its group, restores its lanes, goes on at their
checkpoints, and with `--sink kafka:forecasts` publishes. Settings come from the environment
(STREAMREC_KAFKA__BOOTSTRAP, ...) or a file (-c). The first SIGINT or SIGTERM keeps the state and leaves
the group; a second one ends at once, and nothing is lost by that either. Options: `--help`.
"""

import sys

from streamrec.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
