"""Work that takes longer than it should, in a daemon under test.

STREAMREC_TEST_SLOW=restore:3        every restore of a lane takes 3 s longer
STREAMREC_TEST_SLOW=before_cut:0.2   every cut waits 0.2 s before it is begun
STREAMREC_TEST_SLOW=in_cut:5:1       the first cut takes 5 s longer, learned already, not yet sent

What sleeps does so where the real work is done: in the thread that restores, in the loop's own thread.
"""

import time
from collections.abc import Callable
from typing import Any

from streamrec.daemon.workshop import Plain, Transactional
from streamrec.lane import Lane

NAME = "STREAMREC_TEST_SLOW"
PLACES: dict[str, list[tuple[type, str]]] = {
    "restore": [(Plain, "restore"), (Transactional, "_restore")],
    "before_cut": [(Lane, "apply")],
    "in_cut": [(Lane, "_emit")],
}


def arm(spec: str) -> None:
    """Make work slow in this process, for good."""
    if not spec:
        return
    name, seconds, times = [*spec.split(":"), "inf"][:3]
    left = [float(times)]
    for owner, method in PLACES[name]:
        setattr(owner, method, _slowed(getattr(owner, method), float(seconds), left))


def _slowed(job: Callable[..., Any], seconds: float, left: list[float]) -> Callable[..., Any]:
    def slow(*args: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            time.sleep(seconds)
        return job(*args)

    return slow
