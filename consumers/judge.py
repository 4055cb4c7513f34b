"""Judges forecasts as they come:
`python consumers/judge.py --forecasts kafka://forecasts --events kafka://clicks`.

The same as `streamrec judge --follow`. Settings come from the environment (STREAMREC_KAFKA__BOOTSTRAP,
...) or a file (-c). With `--state` the first SIGINT or SIGTERM keeps what was counted, and the same
command goes on from there. Options: `--help`.
"""

import sys

from streamrec.cli import main

if __name__ == "__main__":
    main(["judge", "--follow", *sys.argv[1:]])
