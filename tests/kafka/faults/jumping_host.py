"""`fork_host` with a wall clock that jumps at every look: on time, a day ahead, a day back, 10 s back.

Whatever is told by Python's own clock is told wrong; monotonic clocks go on as they do.
"""

import itertools
import sys
import time
from pathlib import Path

JUMPS_S = itertools.cycle([0.0, 86_400.0, -86_400.0, -10.0])
TRUE = time.time


def jumped() -> float:
    """A wrong time, s since the epoch."""
    return TRUE() + next(JUMPS_S)


if __name__ == "__main__":
    time.time = jumped
    time.time_ns = lambda: int(jumped() * 1e9)
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    import fork_host  # clocks that are looked up on import are wrong too

    fork_host.serve()
