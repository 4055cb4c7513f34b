"""Doing again what a journal says was done: the same records in the same cuts give the same bits.

    journal ─► ranges of records ─► finder ─► records ─► the same cuts ─► lane

The journal names its records by place and offset, so that a log which has grown since, or whose files are now
given in another order, still gives the same cuts.

LogFinder     files: where the next record is not the wanted one, it is sought
TopicFinder   topics: partitions are read side by side, whatever the order in which a live run took turns
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from streamrec.entries import CutEntry, Entry, Rewound
from streamrec.errors import InvariantError, OutOfRangeError, StateError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec, Place, Reject
from streamrec.eventlog.clients import Bounds, Reader
from streamrec.eventlog.shelves import Shelves
from streamrec.journal import Position
from streamrec.lane import Lane
from streamrec.spans import Read
from streamrec.stream import Log

Pair = tuple[Record, Event | Reject]

BEYOND = 2**62
"""An offset that no log reaches: a place that is sought there gives nothing."""

POLL = 2000


class Finder(Protocol):
    """Gives the decoded records of ranges that a journal names."""

    def pairs(self, reads: Sequence[Read]) -> Iterator[Pair]:
        """Records of the ranges, in their order; StateError if one is not there."""
        ...


class LogFinder:
    """Gives the records of any ranges of a log; quick for ranges in the order of the log.

    Parameters
    ----------
    log : that can be sought
    entries : whose ranges will be asked for
    """

    def __init__(self, log: Log, entries: Sequence[tuple[Position, Entry]]) -> None:
        self.log = log
        self._next: dict[Place, int] = dict.fromkeys(sorted(ranges_of(entries)), 0)
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


class TopicFinder:
    """Gives the records of ranges that rise within every partition, as those of a journal do.

    Parameters
    ----------
    reader : of the cluster; nobody else may use it meanwhile
    codec : decodes records
    entries : whose ranges will be asked for
    patience_s : longest wait for a record

    Raises
    ------
    StateError
        If the topics cannot hold all records that were read: some are gone, or another log came in between.
    BrokerError
        If the cluster does not answer, or a topic is not there.
    """

    def __init__(
        self,
        reader: Reader,
        codec: Codec,
        entries: Sequence[tuple[Position, Entry]],
        patience_s: float = 30.0,
    ) -> None:
        self.codec = codec
        _refuse_rewound(entries)
        ranges = ranges_of(entries)
        refuse_lost(ranges, reader.bounds(sorted(ranges)))
        self.shelves = Shelves(reader, ranges, patience_s)

    def pairs(self, reads: Sequence[Read]) -> Iterator[Pair]:
        """Records of the ranges, in their order; gaps between them are as they were.

        Raises
        ------
        StateError
            If the last record of a range, which was there when it was read, is gone.
        UnavailableError
            If the cluster stays silent.
        """
        for topic, partition, first, last in reads:
            try:
                records = self.shelves.below((topic, partition), last)
            except OutOfRangeError as error:
                raise _gone(topic, partition, first, last) from error
            if not records or records[-1].offset != last - 1:
                raise _gone(topic, partition, first, last)
            mine = [record for record in records if record.offset >= first]
            yield from zip(mine, self.codec.decode_many(mine), strict=True)


def ranges_of(entries: Sequence[tuple[Position, Entry]]) -> dict[Place, tuple[int, int]]:
    """First and next offset of all that cuts read, per place.

    Examples
    --------
    >>> cuts = [CutEntry((("clicks", 0, 4, 9),), 1, 0, False), CutEntry((("clicks", 0, 9, 12),), 1, 1, False)]
    >>> ranges_of([(Position(1, i), cut) for i, cut in enumerate(cuts)])
    {('clicks', 0): (4, 12)}
    """
    ranges: dict[Place, tuple[int, int]] = {}
    for _, entry in entries:
        if isinstance(entry, CutEntry):
            for topic, partition, first, last in entry.reads:
                begin, end = ranges.get((topic, partition), (first, last))
                ranges[topic, partition] = min(begin, first), max(end, last)
    return ranges


def refuse_lost(ranges: Mapping[Place, tuple[int, int]], bounds: Mapping[Place, Bounds]) -> None:
    """Make sure that a log reaches over ranges.

    Raises
    ------
    StateError
        Naming every partition of which something is gone.

    Examples
    --------
    >>> refuse_lost({("clicks", 0): (0, 40)}, {("clicks", 0): Bounds(0, 50)})
    """
    told = [
        f"{topic}[{partition}]: offsets {first} to {end - 1} were read, the topic holds "
        f"{bounds[topic, partition].first} to {bounds[topic, partition].end - 1}"
        for (topic, partition), (first, end) in sorted(ranges.items())
        if first < bounds[topic, partition].first or end > bounds[topic, partition].end
    ]
    if told:
        raise StateError(
            f"{'; '.join(told)}: records are gone (retention, or another topic); a topic that is to be "
            "replayed needs retention.ms=-1"
        )


def replay_cuts(lane: Lane, finder: Finder, entries: Sequence[tuple[Position, Entry]]) -> int:
    """Apply journalled cuts to a fresh lane, and what happened between them.

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
    for position, entry in entries:
        if isinstance(entry, CutEntry):
            _again(lane, entry, finder)
        else:
            _turn(lane, position, entry)
    return sum(isinstance(entry, CutEntry) for _, entry in entries)


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


def _refuse_rewound(entries: Sequence[tuple[Position, Entry]]) -> None:
    """What was read of a log before it was made anew, or lost its end, is in no log any more."""
    for position, entry in entries:
        if isinstance(entry, Rewound):
            what = "was made anew" if entry.cause == "recreated" else "lost its end"
            raise StateError(
                f"{entry.topic}[{entry.partition}]: not comparable since epoch {position.epoch} of the "
                f"journal, byte {position.offset}: the topic {what} after its records below {entry.next} "
                "had been read, and those cannot be had again"
            )


def _gone(topic: str, partition: int, first: int, last: int) -> StateError:
    return StateError(
        f"{topic}[{partition}]: records {first} to {last - 1} were read, the journal says, but not all of "
        "them are there (compaction, retention or another topic); it cannot be replayed any more"
    )
