"""Rolling windows over the score boards, as differences of sums: the sums now less the sums as they were.

window of n   gain = now - kept,  kept = the newest sums that are at least n scored events old
"""

from collections import deque
from typing import NamedTuple

from streamrec.arrays import Floats
from streamrec.metrics.boards import Boards

STEPS = 32
"""A window grows longer than it says by at most one part in so many, and one cut."""


class Sums(NamedTuple):
    """Sums of scores at a moment, or what they gained since another one.

    Parameters
    ----------
    marks : (scorers, slices, stats) of `metrics.marks`
    times : (scorers, stats) of `metrics.times`
    pit : (scorers, bins)
    half : (scorers,) gaps inside the central interval of level 0.5
    """

    marks: Floats
    times: Floats
    pit: Floats
    half: Floats

    @staticmethod
    def of(boards: Boards, half: Floats) -> "Sums":
        """The sums as they stand; not copied."""
        return Sums(boards.marks.sums, boards.times.sums, boards.times.pit, half)

    def less(self, earlier: "Sums") -> "Sums":
        """What came since an earlier moment."""
        return Sums(*(now - then for now, then in zip(self, earlier, strict=True)))

    @property
    def n(self) -> int:
        """Events scored by the mixture."""
        return int(self.marks[0, 0, 0])


class Window:
    """Sums over the last `size` scored events, in steps of a thirty-second of it.

    Parameters
    ----------
    size : events
    now : where it begins
    """

    def __init__(self, size: int, now: Sums) -> None:
        self.size = size
        self._past: deque[Sums] = deque()
        self._keep(now)

    def add(self, now: Sums) -> None:
        """The sums have risen."""
        n = now.n
        if n - self._past[-1].n >= self.size // STEPS:
            self._keep(now)
        while len(self._past) > 1 and self._past[1].n <= n - self.size:
            self._past.popleft()

    def gain(self, now: Sums) -> Sums:
        """Sums over the window."""
        return now.less(self._past[0])

    def _keep(self, now: Sums) -> None:
        self._past.append(Sums(*(array.copy() for array in now)))
