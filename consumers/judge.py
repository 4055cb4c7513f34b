"""Judges forecasts as they come:
`python consumers/judge.py --forecasts kafka://forecasts --events kafka://events --state runs/judge`.

Settings come from the environment (STREAMREC_KAFKA__BOOTSTRAP, ...) or a file (-c). The first SIGINT or
SIGTERM keeps the state, and the same command goes on from there. Options: `--help`.
"""

import sys

from streamrec.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["judge", "--follow"]
    main()
