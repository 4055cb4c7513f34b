"""Partitions as one stream in the order of broker time, and what has to happen at certain offsets of it.

    next record   of all partitions the one with the lowest clock; of these the first partition
    clock         of a partition: the largest timestamp so far, that of its next record included
    barrier       once a group of partitions has reached its offsets; their records beyond it come after

A function of the log alone: how records are fetched changes nothing. By the clock a record with an early
timestamp does not overtake, and one without (-1) comes right after the one before it.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.shelves import Shelves


class Barrier(NamedTuple):
    """What has to happen to a user when these partitions are read up to these offsets."""

    limits: Mapping[Place, int]
    user: str


class Merged:
    """Iterates over records and barriers, once.

    Parameters
    ----------
    shelves : the partitions
    places : those to be merged
    groups : barriers by group, in order; a partition is in the barriers of one group at most. Barriers that
        name none of `places` are left out

    Examples
    --------
    >>> stamps = [(0, 0, 5), (0, 1, 9), (1, 0, 7), (1, 1, -1)]  # partition, offset, ms
    >>> class Two:
    ...     def assign(self, positions): self.left = [Record("t", p, o, b"", None, ms) for p, o, ms in stamps]
    ...     def poll(self, n, timeout_s): out, self.left = self.left[:n], self.left[n:]; return out
    ...     def positions(self, places): return {place: 2 for place in places}
    >>> places = [("t", 0), ("t", 1)]
    >>> shelves = Shelves(Two(), {place: (0, 2) for place in places})
    >>> merged = Merged(shelves, places, [[Barrier({("t", 0): 2}, "u1")]])
    >>> [one.user if isinstance(one, Barrier) else (one.partition, one.offset) for one in merged]
    [(0, 0), (1, 0), (1, 1), (0, 1), 'u1']
    """

    def __init__(
        self, shelves: Shelves, places: Sequence[Place], groups: Sequence[Sequence[Barrier]] = ()
    ) -> None:
        self.shelves, self.places = shelves, sorted(places)
        ours = set(places)
        self._groups = [deque(b for b in group if ours & b.limits.keys()) for group in groups]
        self._clock: dict[Place, int] = dict.fromkeys(self.places, -1)
        self._next: list[tuple[int, Place]] = []
        self._offered: set[Place] = set()

    def __iter__(self) -> Iterator[Record | Barrier]:
        """Records and barriers in order; errors as for `Shelves.peek`."""
        for place in self.places:
            self._offer(place)
        while True:
            yield from self._due()
            if not self._next:
                return
            place = heappop(self._next)[1]
            self._offered.discard(place)
            yield self.shelves.take(place)
            self._offer(place)

    def _offer(self, place: Place) -> None:
        """Let the partition's next record take part, unless it is behind a barrier."""
        record = self.shelves.peek(place)
        if record is None or any(record.offset >= b[0].limits.get(place, 2**63) for b in self._groups if b):
            return
        self._clock[place] = max(self._clock[place], record.timestamp_ms)
        self._offered.add(place)
        heappush(self._next, (self._clock[place], place))

    def _due(self) -> Iterator[Barrier]:
        """Barriers whose partitions have all come to them."""
        for group in self._groups:
            while group and not self._offered.intersection(group[0].limits):
                barrier = group.popleft()
                yield barrier
                for place in self.places:
                    if place in barrier.limits:
                        self._offer(place)
