"""A checkpoint thread with a stopwatch: how long the loop was blocked, and how long writing took.

Durations go into queues that any thread may empty; `telemetry.py` does so between cuts.
"""

import time
from collections import deque
from collections.abc import Callable

from streamrec.state.snapshot import Snapshot
from streamrec.state.store import LaneStore
from streamrec.state.writer import InlineWriter, Take, ThreadWriter

Clock = Callable[[], float]


class Durations:
    """Seconds by kind, appended by the thread they were measured in.

    Examples
    --------
    >>> durations = Durations()
    >>> durations.written.append(0.25)
    >>> drained(durations.written), drained(durations.written)
    ([0.25], [])
    """

    def __init__(self) -> None:
        self.blocked: deque[float] = deque(maxlen=1000)
        self.written: deque[float] = deque(maxlen=1000)


def drained(queue: deque[float]) -> list[float]:
    """Take everything out, oldest first."""
    return [queue.popleft() for _ in range(len(queue))]


class _Timed(InlineWriter):
    """Writes as its base does, and notes how long it took, whether or not the disk refused."""

    def __init__(
        self, store: LaneStore, sync: Callable[[], object] | None, into: deque[float], clock: Clock
    ) -> None:
        super().__init__(store, sync)
        self._into, self._clock = into, clock

    def write(self, snapshot: Snapshot) -> None:
        """Write one snapshot."""
        began = self._clock()
        super().write(snapshot)
        self._into.append(self._clock() - began)


class MeasuredWriter(ThreadWriter):
    """A `ThreadWriter` whose durations are noted.

    Parameters
    ----------
    store, sync : see `ThreadWriter`
    durations : where seconds are noted
    clock : s, monotonic
    """

    def __init__(
        self,
        store: LaneStore,
        sync: Callable[[], object] | None = None,
        durations: Durations | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(store, sync)
        self.durations, self._clock = durations or Durations(), clock
        self.inner = _Timed(store, sync, self.durations.written, clock)  # nothing was submitted yet

    def try_submit(self, take: Take) -> bool:
        """As its base; the time is noted if a snapshot was taken."""
        began = self._clock()
        taken = super().try_submit(take)
        if taken:
            self.durations.blocked.append(self._clock() - began)
        return taken
