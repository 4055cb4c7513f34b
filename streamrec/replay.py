"""Doing again what a journal says was done: the same records in the same cuts give the same bits."""

from collections.abc import Iterable, Iterator
from itertools import islice

from streamrec.entries import CutEntry, Entry
from streamrec.errors import StateError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.journal import Position
from streamrec.lane import Lane
from streamrec.stream import Log

Pair = tuple[Record, Event | Reject]


def replay_cuts(lane: Lane, log: Log, entries: Iterable[tuple[Position, Entry]], stop: int) -> int:
    """Apply the journalled cuts to a fresh lane, up to the one that ends at set `stop`.

    Returns
    -------
    int
        How many cuts there were.

    Raises
    ------
    StateError
        If the journal holds an entry that a log cannot bring about again.
    InvariantError
        If the log does not hold the records that the journal names.
    """
    log.seek({})
    pairs, n = _decoded(log), 0
    for position, entry in entries:
        if lane.cutter.serial >= stop:
            break
        if not isinstance(entry, CutEntry):
            raise StateError(
                f"journal at {position}: a {type(entry).__name__} entry is not replayed by this version"
            )
        wanted = sum(last - first for _, _, first, last in entry.reads)
        cut = lane.cutter.replay(entry.reads, entry.n_sets, entry.flushed, islice(pairs, wanted))
        lane.apply(cut)
        n += 1
    return n


def _decoded(log: Log) -> Iterator[Pair]:
    while records := log.poll(2000):
        yield from zip(records, log.decode_many(records), strict=True)
