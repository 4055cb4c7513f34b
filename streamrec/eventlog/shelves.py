"""Partitions read side by side, each taken from when it is wanted, with bounded memory.

    reader ──poll──► (clicks, 0)  ██████████ full: not read on until half of it is taken
                     (clicks, 1)  ███
                     (clicks, 2)  ▯ wanted and empty: polled until something comes, or its end is reached

Whoever wants records of one partition does not make the reader seek: what comes of the others meanwhile is
kept for later. The reader is sent to fewer partitions only when one is far ahead of the others.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping

from streamrec.errors import UnavailableError
from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Reader

POLL = 2000
POLL_S = 0.1
KEPT = 100_000
"""Most records that wait, over all partitions, give or take a poll."""


class Shelves:
    """The records of some ranges, one per partition, in the order in which they are asked for.

    Parameters
    ----------
    reader : reads them; nobody else may use it meanwhile
    ranges : first offset and the offset after the last, per partition; the log has to reach up to there
    patience_s : longest wait for a record that has to be there
    kept : most records that wait
    clock : s, monotonic

    Examples
    --------
    >>> from streamrec.eventlog.base import Place
    >>> class Two:
    ...     def assign(self, positions): self.left = [Record("t", p, o, b"") for p in (0, 1) for o in (0, 1)]
    ...     def poll(self, n, timeout_s): out, self.left = self.left[:n], self.left[n:]; return out
    ...     def positions(self, places): return {place: 2 for place in places}
    >>> shelves = Shelves(Two(), {("t", 0): (0, 2), ("t", 1): (0, 2)})
    >>> [r.offset for r in shelves.below(("t", 1), 2)], shelves.peek(("t", 0)).offset, shelves.peek(("t", 1))
    ([0, 1], 0, None)
    """

    def __init__(
        self,
        reader: Reader,
        ranges: Mapping[Place, tuple[int, int]],
        patience_s: float = 30.0,
        kept: int = KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reader, self.patience_s, self.clock = reader, patience_s, clock
        self._next = {place: first for place, (first, _) in ranges.items()}
        self._end = {place: end for place, (_, end) in ranges.items()}
        self._shelf: dict[Place, deque[Record]] = {place: deque() for place in ranges}
        self._read: set[Place] = set()
        self._full = max(1, kept // max(1, len(ranges)))

    def peek(self, place: Place) -> Record | None:
        """The next record of a partition, None after its last one.

        Raises
        ------
        OutOfRangeError
            If the log does not hold the offset any more that was to be read next.
        UnavailableError
            If nothing came in time.
        """
        shelf = self._shelf[place]
        if not shelf and self._next[place] < self._end[place]:
            self._fill(place)
        return shelf[0] if shelf else None

    def take(self, place: Place) -> Record:
        """Take the record that `peek` gave."""
        return self._shelf[place].popleft()

    def below(self, place: Place, end: int) -> list[Record]:
        """Take all records with offsets below `end`; errors as for `peek`."""
        taken, shelf = [], self._shelf[place]
        while (record := self.peek(place)) is not None and record.offset < end:
            taken.append(shelf.popleft())
        return taken

    def _fill(self, wanted: Place) -> None:
        """Poll until the partition has a record or is at its end."""
        deadline = self.clock() + self.patience_s
        while not self._shelf[wanted] and self._next[wanted] < self._end[wanted]:
            self._share_out(wanted)
            try:
                came = self._poll()
            except UnavailableError:
                if self.clock() >= deadline:
                    raise
                continue
            if came:
                deadline = self.clock() + self.patience_s
                continue
            self._look_past_markers()
            if self.clock() >= deadline and not self._is_at_end(wanted):
                raise UnavailableError(
                    f"{wanted[0]}[{wanted[1]}]: no record from {self._next[wanted]} on within "
                    f"{self.patience_s:g} s, though the log reaches to {self._end[wanted]}; try again"
                )

    def _share_out(self, wanted: Place) -> None:
        """Let the reader read what has room; as seldom as possible, for it drops what it has fetched."""
        idle = any(self._is_at_end(p) or len(self._shelf[p]) >= self._full for p in self._read)
        if wanted in self._read and not idle:
            return
        room = [p for p in self._shelf if not self._is_at_end(p) and len(self._shelf[p]) <= self._full // 2]
        self._read = {*room, wanted}
        self.reader.assign({place: self._next[place] for place in sorted(self._read)})

    def _poll(self) -> bool:
        records = self.reader.poll(POLL, POLL_S)
        for record in records:
            place = record[:2]
            if self._next[place] <= record.offset < self._end[place]:
                self._shelf[place].append(record)
            self._next[place] = max(self._next[place], record.offset + 1)
        return bool(records)

    def _look_past_markers(self) -> None:
        for place, at in self.reader.positions(sorted(self._read)).items():
            self._next[place] = max(self._next[place], at)

    def _is_at_end(self, place: Place) -> bool:
        return self._next[place] >= self._end[place]
