"""Doing again what a journal says was done: the same records in the same cuts give the same bits.

The journal names its records by place and offset, so that a log which has grown since, or whose files are now
given in another order, still gives the same cuts: where its next record is not the wanted one, it is sought.
"""

from collections.abc import Iterator, Sequence

from streamrec.cut import Read
from streamrec.entries import CutEntry, Entry
from streamrec.errors import InvariantError, StateError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject
from streamrec.journal import Position
from streamrec.lane import Lane
from streamrec.stream import Log

Pair = tuple[Record, Event | Reject]

BEYOND = 2**62
"""An offset that no log reaches: a place that is sought there gives nothing."""

POLL = 2000


class Finder:
    """Gives the records of any ranges of a log; quick for ranges in the order of the log.

    Parameters
    ----------
    log : that can be sought
    places : all places of the log that will be asked for
    """

    def __init__(self, log: Log, places: Sequence[Place]) -> None:
        self.log = log
        self._next: dict[Place, int] = dict.fromkeys(places, 0)
        self._ready: list[Pair] = []
        self._at = 0
        self.log.seek({})

    def pairs(self, reads: Sequence[Read]) -> Iterator[Pair]:
        """Decoded records of ranges, in their order.

        Raises
        ------
        StateError
            If the log does not hold one of them.
        """
        for topic, partition, first, last in reads:
            at = first
            while at < last:
                pair = self._take((topic, partition), at, last)
                at = pair[0].offset + 1
                self._next[topic, partition] = at
                yield pair

    def _take(self, place: Place, at: int, last: int) -> Pair:
        """The next record of a place: as the log goes on, else by going to it with all others, or alone."""
        alone = dict.fromkeys(self._next, BEYOND) | {place: at}
        for positions in (None, self._next | {place: at}, alone):
            if positions is not None:
                self._seek(positions)
            pair = self._peek()
            if pair is not None and pair[0][:2] == place and at <= pair[0].offset < last:
                self._at += 1
                return pair
        raise StateError(
            f"{place[0]}: records {at} to {last - 1} were read, the journal says, but they are not there; "
            "name the log that the state was made from"
        )

    def _peek(self) -> Pair | None:
        if self._at == len(self._ready):
            records = self.log.poll(POLL)
            while not records and not self.log.at_end():
                records = self.log.poll(POLL)
            self._ready, self._at = list(zip(records, self.log.decode_many(records), strict=True)), 0
        return self._ready[self._at] if self._ready else None

    def _seek(self, positions: dict[Place, int]) -> None:
        self.log.seek(positions)
        self._ready, self._at = [], 0


def replay_cuts(lane: Lane, log: Log, entries: Sequence[tuple[Position, Entry]]) -> int:
    """Apply journalled cuts to a fresh lane.

    Returns
    -------
    int
        How many cuts there were.

    Raises
    ------
    StateError
        If the journal holds an entry that a log cannot bring about again, or the log is not the one that
        the journal is about.
    """
    cuts = [entry for _, entry in entries if isinstance(entry, CutEntry)]
    finder = Finder(log, sorted({(topic, part) for cut in cuts for topic, part, _, _ in cut.reads}))
    for position, entry in entries:
        if isinstance(entry, CutEntry):
            _again(lane, entry, finder)
        else:
            _turn(lane, position, entry)
    return len(cuts)


def _again(lane: Lane, entry: CutEntry, finder: Finder) -> None:
    if entry.serial != lane.cutter.serial:
        raise StateError(
            f"the journal goes on at set {entry.serial}, but its cuts before end at "
            f"{lane.cutter.serial}: entries are missing; restore the journal files of this directory"
        )
    try:
        cut = lane.cutter.replay(entry.reads, entry.n_sets, entry.flushed, finder.pairs(entry.reads))
    except InvariantError as error:
        raise StateError(f"the log does not fit the journal: {error}") from error
    lane.apply(cut)


def _turn(lane: Lane, position: Position, entry: Entry) -> None:
    try:
        lane.turn(entry)
    except (InvariantError, StateError) as error:
        raise StateError(f"journal at {position}: {error}") from error
