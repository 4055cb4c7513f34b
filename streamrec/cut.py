"""Cuts: what is processed in one go, as a function of what was read and never of how it was fetched.

    (record, event | reject) ... ──► order ──► released sets ──► Cut, Cut, ...

A cut closes after the record with which it holds `cut_events` accepted events (or `cut_records` records, so
that a flood of bad ones makes progress), or as soon as so many marks are released; `close` and `finish` end
one earlier. Its sets are those that were released and not yet in a cut, at most up to the set that reaches
`cut_events` marks: when one record releases thousands of sets (the first event of a new day in a log with
dates only), the rest follows in further cuts that read nothing. A set is never split; sets that are still
open are carried on by the order stage.

    Σ bins + held = Σ over partitions (next offset - first offset)         asserted at every cut

Source: recording which offsets make up a step, so that others can repeat it, is Materialize's "reclocking".
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from streamrec.bins import Bins, Counts
from streamrec.errors import ConfigError, InvariantError
from streamrec.event import Event, Record, TieSet
from streamrec.eventlog.base import Reject
from streamrec.eventlog.reasons import SKIPPED
from streamrec.order import Order
from streamrec.packed import pack, unpack
from streamrec.places import NO_CHECK, Place, check_sum, own_clock
from streamrec.spans import CutterState, Read, Span


class Cut(NamedTuple):
    """What is processed in one go.

    Parameters
    ----------
    serial : tie sets in all cuts of the lane before this one
    reads : records read, in order; adjacent ranges of a partition are one
    sets : tie sets released, in the order in which they are processed
    counts : records that got their bin while this cut was read
    rejects : the dead letters among the records, with their reasons
    flushed : open sets and held events were released after the last record
    """

    serial: int
    reads: tuple[Read, ...]
    sets: list[TieSet]
    counts: Counts
    rejects: list[tuple[Record, Reject]]
    flushed: bool = False


class Cutter:
    """Reads decoded records in order and closes cuts.

    A cut must be applied before the next one is asked for: `last_time` is looked up while records are read.

    Parameters
    ----------
    order : takes the events in
    last_time : user -> time of the user's last applied set, NaN if none (the arena knows)
    cut_events : accepted events, or released marks, at which a cut closes
    cut_records : records of any kind at which a cut closes; default 32 * cut_events
    clock_of : topic -> name of the clock that its partitions move

    Raises
    ------
    ConfigError
        If a limit is below 1.

    Examples
    --------
    >>> cutter = Cutter(Order(), last_time=lambda user: float("nan"), cut_events=2)
    >>> pairs = [(Record("log", 0, i, b""), Event("u", "a", 60.0 * i, offset=i)) for i in range(3)]
    >>> [(cut.reads, len(cut.sets)) for cut in [*cutter.feed(pairs), *cutter.finish()]]
    [((('log', 0, 0, 2),), 1), ((('log', 0, 2, 3),), 2)]
    """

    def __init__(
        self,
        order: Order,
        last_time: Callable[[str], float],
        cut_events: int = 128,
        cut_records: int | None = None,
        clock_of: Callable[[str], str] = own_clock,
    ) -> None:
        self.order = order
        self.last_time = last_time
        self.cut_events = cut_events
        self.cut_records = 32 * cut_events if cut_records is None else cut_records
        if min(cut_events, self.cut_records) < 1:
            raise ConfigError(f"cut_events, cut_records: wanted >= 1, got {cut_events}, {self.cut_records}")
        self.clock_of = clock_of
        self.bins = Bins()
        self.serial = 0
        self._places: dict[tuple[str, int], Place] = {}
        self._begin()

    def _begin(self) -> None:
        """Start an empty cut."""
        self._span = Span("", -1, -1, "")
        self._reads: list[Span] = []
        self._rejects: list[tuple[Record, Reject]] = []
        self._causes: list[tuple[str, int]] = []
        self._records = 0
        self._close_at = self.bins.counts.ok + self.cut_events

    @property
    def has_reads(self) -> bool:
        """Records were read that are not in a cut yet."""
        return bool(self._reads)

    @property
    def has_work(self) -> bool:
        """Records were read, or sets released, that are not in a cut yet."""
        return bool(self._reads or self.order.released)

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """Next offset of every (topic, partition), as of the last closed cut."""
        return {key: place.next for key, place in sorted(self._places.items())}

    @property
    def begins(self) -> dict[tuple[str, int], int]:
        """First offset of every place; one whose log was made anew has one that counts all it ever read."""
        return {key: place.first for key, place in sorted(self._places.items())}

    @property
    def checks(self) -> dict[tuple[str, int], int]:
        """`check_sum` of the last record read of every place; places without one are left out."""
        return {key: p.check for key, p in sorted(self._places.items()) if p.check != NO_CHECK}

    @property
    def offsets_advanced(self) -> int:
        """Records (and gaps) that went by since the lane's first, as of the last closed cut."""
        return sum(place.next - place.first for place in self._places.values())

    def assign(self, topic: str, partition: int, first: int) -> None:
        """Begin a partition at `first` unless it is known; without this its first record decides."""
        self._places.setdefault((topic, partition), Place(first, first))

    def feed(self, pairs: Iterable[tuple[Record, Event | Reject]]) -> Iterator[Cut]:
        """Read decoded records and yield every cut that closes; apply each before going on.

        Raises
        ------
        InvariantError
            If a record was read already, or the bins do not add up.
        """
        yield from self._drain()
        for record, decoded in pairs:
            self._read(record, decoded)
            if (
                self.order.n_ok >= self._close_at
                or self._records >= self.cut_records
                or self.order.released_marks >= self.cut_events
            ):
                yield self.close()
                yield from self._drain()

    def close(self) -> Cut:
        """End the cut here: with what was read and, up to `cut_events` marks, what is released."""
        return self._cut(self._sets_within_limit(), flushed=False)

    def finish(self) -> Iterator[Cut]:
        """End the log: release everything, in as many cuts as it takes; the first one says `flushed`.

        Where nothing was read and nothing is to be released there is no cut.
        """
        n_held = self.order.n_held
        self.order.flush()
        if self._reads or self.order.released or n_held:
            yield self._cut(self._sets_within_limit(), flushed=True)
        while self.order.released:
            yield self.close()

    def replay(
        self,
        reads: Iterable[Read],
        n_sets: int,
        flushed: bool,
        pairs: Iterable[tuple[Record, Event | Reject]],
    ) -> Cut:
        """Make a cut again from its journal entry and the records of its ranges.

        Raises
        ------
        InvariantError
            If the records are not those of the ranges, or release less than the entry says.
        """
        for record, decoded in pairs:
            self._read(record, decoded)
        if flushed:
            self.order.flush()
        found, released = tuple(span.read for span in self._reads), len(self.order.released)
        if found != tuple(reads) or released < n_sets:
            raise InvariantError(
                f"replay of the cut at set {self.serial}: the journal has reads {tuple(reads)} and {n_sets} "
                f"sets, the log gave {found} and {released}; the log or the settings have changed since."
            )
        return self._cut(n_sets, flushed)

    def tick(self, topic: str, partition: int, time: float) -> None:
        """Let an idle partition's clock go to `time`; between cuts only, journalled by the caller."""
        self._between_cuts("tick")
        self.order.tick(partition, time, self.clock_of(topic))

    def skip(self, topic: str, partition: int, first: int, next_offset: int, cause: str) -> int:
        """Skip the records [first, next_offset) and count them; between cuts only, journalled by the caller.

        Returns how many that are.

        Raises
        ------
        InvariantError
            If `first` is not where the partition stands, or `next_offset` is before it.
        """
        self._between_cuts("skip")
        begin, at, check = self._places.setdefault((topic, partition), Place(first, first))
        if at != first or next_offset < first:
            raise InvariantError(
                f"{topic}[{partition}]: cannot skip from {first} to {next_offset}, the next offset is {at}"
            )
        self._places[topic, partition] = Place(begin, next_offset, NO_CHECK if next_offset > at else check)
        self.bins.add(Counts(skipped=next_offset - first), causes=[(cause, next_offset - first)])
        return next_offset - first

    def rewind(self, topic: str, partition: int, next_offset: int, to: int) -> None:
        """Go on at `to` in a log that is another one, or shorter; between cuts only, journalled.

        What was read keeps its bins: `first` moves along, so that the sum over partitions stays.

        Raises
        ------
        InvariantError
            If `next_offset` is not where the partition stands.
        """
        self._between_cuts("rewind")
        place = self._places.setdefault((topic, partition), Place(to, to))
        if place.next not in (next_offset, to):
            raise InvariantError(
                f"{topic}[{partition}]: cannot go from {next_offset} to {to}, the next offset is {place.next}"
            )
        self._places[topic, partition] = Place(place.first + to - place.next, to, NO_CHECK)

    def resize(self, cut_events: int) -> None:
        """Close further cuts at so many accepted events; between cuts only, no business of the journal."""
        self._between_cuts("resize")
        if cut_events != self.cut_events:
            self.cut_records = self.cut_records // self.cut_events * cut_events
            self.cut_events = cut_events
            self._begin()

    def forget(self, user: str) -> int:
        """Drop what is open, held or released of a user; between cuts only, journalled. Events dropped."""
        self._between_cuts("forget")
        held_before = self.order.n_forgotten
        dropped = self.order.forget(user)
        n = self.order.n_forgotten - held_before
        self.bins.add(Counts(skipped=n), causes=[("forgotten", n)])
        return dropped

    def dump(self) -> bytes:
        """The whole state, the order's included; between cuts only. Equal states give equal bytes."""
        self._between_cuts("dump")
        places = [(topic, partition, place) for (topic, partition), place in sorted(self._places.items())]
        return pack(CutterState(self.serial, places, self.bins.dump(), self.order.dump()))

    def load(self, data: bytes) -> None:
        """Become what `dump` wrote down; CorruptStateError if it did not."""
        state = unpack(data, CutterState, "cutter")
        self.order.load(state.order)
        self.bins.load(state.bins)
        self.serial = state.serial
        self._places = {(topic, partition): place for topic, partition, place in state.places}
        self._begin()

    def _read(self, record: Record, decoded: Event | Reject) -> None:
        topic, partition, offset, value, _, timestamp_ms = record
        span = self._span
        if offset != span.next or partition != span.partition or topic != span.topic:
            span = self._locate(topic, partition, offset)
        span.next, span.last = offset + 1, value
        self._records += 1
        if isinstance(decoded, Event):
            broker_time = timestamp_ms * 0.001 if timestamp_ms >= 0 else math.nan
            self.order.push(decoded, self.last_time(decoded.user), topic, broker_time, span.clock)
        elif decoded.reason in SKIPPED:
            self._causes.append((decoded.reason, 1))
        else:
            self._rejects.append((record, decoded))

    def _locate(self, topic: str, partition: int, offset: int) -> Span:
        """The range that goes on with `offset`; a gap before it (markers, compaction) is skipped."""
        last = self._span
        if topic != last.topic or partition != last.partition:
            expected = self._expected(topic, partition, offset)
            self._span = last = Span(topic, partition, expected, self.clock_of(topic))
            self._reads.append(last)
        if offset < last.next:
            raise InvariantError(
                f"{topic}[{partition}]: next offset is {last.next}, but record {offset} came (again); "
                "seek to the checkpoint's offsets and start over."
            )
        if offset > last.next:
            self._causes.append(("log", offset - last.next))
        return last

    def _expected(self, topic: str, partition: int, offset: int) -> int:
        for span in reversed(self._reads):
            if span.topic == topic and span.partition == partition:
                return span.next
        return self._places.setdefault((topic, partition), Place(offset, offset)).next

    def _drain(self) -> Iterator[Cut]:
        while self.order.released_marks >= self.cut_events:
            yield self.close()

    def _sets_within_limit(self) -> int:
        released = self.order.released
        if self.order.released_marks <= self.cut_events:
            return len(released)
        marks = 0
        for n, tie_set in enumerate(released, 1):
            marks += len(tie_set.marks)
            if marks >= self.cut_events:
                return n
        return len(released)

    def _cut(self, n_sets: int, flushed: bool) -> Cut:
        counts = self._counts()
        cut = Cut(
            self.serial,
            tuple(span.read for span in self._reads),
            self.order.take(n_sets),
            counts,
            self._rejects,
            flushed,
        )
        self.serial += len(cut.sets)
        self.bins.add(counts, (reject.reason for _, reject in self._rejects), self._causes)
        for span in self._reads:
            first = self._places[span.topic, span.partition].first
            self._places[span.topic, span.partition] = Place(first, span.next, check_sum(span.last))
        self._begin()
        self._assert_bins()
        return cut

    def _counts(self) -> Counts:
        order, before = self.order, self.bins.counts
        return Counts(
            order.n_ok - before.ok,
            order.n_late - before.late,
            order.n_duplicate - before.duplicate,
            len(self._rejects),
            sum(n for _, n in self._causes),
        )

    def _assert_bins(self) -> None:
        held = self.order.n_held
        if self.bins.total + held != self.offsets_advanced:
            raise InvariantError(
                f"bins {self.bins.counts} and {held} held events make {self.bins.total + held}, but "
                f"{self.offsets_advanced} offsets went by: a record was lost or counted twice."
            )

    def _between_cuts(self, what: str) -> None:
        if self._reads:
            raise InvariantError(
                f"{what}: wanted between two cuts, got it after {self._records} records of one"
            )
