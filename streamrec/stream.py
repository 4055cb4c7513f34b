"""Drives a source of records through a lane, cut by cut.

What is read in one go (`poll_events`) changes no result: cuts close by what was read, not by how.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from streamrec.cut import Cut
from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec, Place, Reject, Source
from streamrec.lane import Lane
from streamrec.processor import CutResult
from streamrec.rejoin import Rejoin

PAUSE_S = 0.02


class Log(Protocol):
    """A source that is also the codec of its own records (`eventlog.files`, `eventlog.memory`)."""

    def seek(self, positions: Mapping[Place, int]) -> None: ...
    def poll(self, max_records: int) -> list[Record]: ...
    def decode_many(self, records: Sequence[Record]) -> list[Event | Reject]: ...
    def at_end(self) -> bool: ...
    def count(self) -> int | None: ...
    def close(self) -> None: ...


def read_all(log: Log, max_records: int | None = None, poll: int = 10_000) -> Iterator[list[Record]]:
    """Records from where a finite log stands, in polls that gave some, up to its end or `max_records`."""
    left = float("inf") if max_records is None else max_records
    while left > 0:
        records = log.poll(int(min(poll, left)))
        left -= len(records)
        if records:
            yield records
        elif log.at_end():
            return
        else:
            time.sleep(PAUSE_S)


class Coded:
    """A source and the codec of its records, as one log.

    Parameters
    ----------
    source : gives records
    codec : reads them
    n_records : how many will come, if that is known
    """

    def __init__(self, source: Source, codec: Codec, n_records: int | None = None) -> None:
        self.seek, self.poll, self.at_end, self.close = source.seek, source.poll, source.at_end, source.close
        self.decode_many = codec.decode_many
        self._n_records = n_records

    def count(self) -> int | None:
        """Records in all, None if nobody knows."""
        return self._n_records


class Events:
    """A log of which at most `max_events` records are read.

    Parameters
    ----------
    log : the source
    max_events : records to read in all, over all runs; None for no limit
    poll_events : records asked for at once
    wait : called when a live source has nothing now
    """

    def __init__(
        self,
        log: Log,
        max_events: int | None = None,
        poll_events: int = 2000,
        wait: Callable[[], None] = lambda: time.sleep(PAUSE_S),
    ) -> None:
        self.log, self.max_events, self.poll_events, self.wait = log, max_events, poll_events, wait
        self.stopped = False

    def stop(self) -> None:
        """Read no further than the cut that is being made; may be called from a signal handler."""
        self.stopped = True

    @property
    def live(self) -> bool:
        """Whether more may always come, so that a cut may never fill up."""
        return self.log.count() is None

    def count(self) -> int:
        """Records that will be read in all; 0 if nobody can know."""
        n = self.log.count() or 0
        return n if self.max_events is None else min(n, self.max_events)

    def read(
        self, positions: Mapping[Place, int], already: int, checks: Mapping[Place, int] | None = None
    ) -> Iterator[list[tuple[Record, Event | Reject]]]:
        """Decoded records from `positions` on; an empty list now and then while a live source is silent.

        Parameters
        ----------
        positions : next offset per place
        already : records read before, which count for `max_events`
        checks : check sum of the record before the next offset, where it is known

        Raises
        ------
        StateError
            If the log is not the one that was read, by these check sums.
        """
        left = float("inf") if self.max_events is None else self.max_events - already
        if left <= 0:
            return
        rejoin = Rejoin(positions, checks or {})
        self.log.seek(rejoin.start)
        while left > 0:
            polled = self.log.poll(min(self.poll_events, int(min(left, self.poll_events))))
            records = rejoin.fresh(polled)
            left -= len(records)
            yield list(zip(records, self.log.decode_many(records), strict=True))
            if not polled and self.log.at_end():
                return rejoin.end()
            if not polled:
                self.wait()


class Watcher(Protocol):
    """Whoever wants to see the loop at work (`serving.Watch`); it changes nothing of the lane."""

    def reading(
        self, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Iterable[tuple[Record, Event | Reject]]:
        """Decoded records, perhaps none, on their way into the cutter; they have to pass as they are."""
        ...

    def applying(self, cut: Cut) -> None:
        """A cut is about to be applied."""
        ...

    def applied(self, cut: Cut, result: CutResult) -> None:
        """A cut was applied."""
        ...

    def between(self) -> None:
        """The loop is between two cuts; called after every cut, and while a live source is silent."""
        ...


class Nobody:
    """A watcher who looks away."""

    def reading(
        self, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Iterable[tuple[Record, Event | Reject]]:
        """The pairs."""
        return pairs

    def applying(self, cut: Cut) -> None:
        """Nothing."""

    def applied(self, cut: Cut, result: CutResult) -> None:
        """Nothing."""

    def between(self) -> None:
        """Nothing."""


NOBODY = Nobody()


def drive(events: Events, lane: Lane, watcher: Watcher = NOBODY) -> Iterator[CutResult]:
    """Read on where the lane stands, apply every cut, and flush at the end of the log.

    A log in which nothing is new changes nothing. Whoever iterates has seen the result of a cut before a
    checkpoint is made after it. Once `events.stop()` was called, the cut that is being made is the last:
    cuts of a file stay those of an undisturbed run, and a live log's last cut is closed as it is.
    """
    cutter = lane.cutter
    for pairs in events.read(lane.positions, cutter.offsets_advanced, cutter.checks):
        for cut in cutter.feed(watcher.reading(pairs)):
            yield _applied(cut, lane, watcher)
            lane.keep_if_due()
            if events.stopped:
                return
        watcher.between()
        if events.stopped and events.live:
            if cutter.has_reads:
                yield _applied(cutter.close(), lane, watcher)
            return
    for cut in cutter.finish():
        yield _applied(cut, lane, watcher)
        lane.keep_if_due()


def _applied(cut: Cut, lane: Lane, watcher: Watcher) -> CutResult:
    watcher.applying(cut)
    result = lane.apply(cut)
    watcher.applied(cut, result)
    watcher.between()
    return result
