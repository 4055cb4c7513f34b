"""What an event log is to the rest of the program: sources of records, codecs, and sinks.

    Source ──poll──► Record ──Codec──► Event | Reject          line ──emit──► Sink

A position is a mapping from (topic, partition) to the *next* offset to read, so that an empty
mapping stands for the beginning of everything. A sink's position is its length in bytes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from streamrec.event import Event, Record

Place = tuple[str, int]
"""A topic and a partition of it."""


class Reject(NamedTuple):
    """Why a record did not become an event.

    Parameters
    ----------
    reason : one of `reasons.REASONS` (a dead letter) or of `reasons.SKIPPED`
    detail : one line for people; nothing may depend on its wording

    Examples
    --------
    >>> Reject("missing_user", "no field user").reason
    'missing_user'
    """

    reason: str
    detail: str


@runtime_checkable
class Codec(Protocol):
    """Reads records; a function of the record's bytes alone: no clock, no memory of other records."""

    def decode(self, record: Record) -> Event | Reject:
        """Read one record; whatever the bytes are, this does not raise."""
        ...

    def decode_many(self, records: Sequence[Record]) -> list[Event | Reject]:
        """`decode` of every record, in order; the fast way."""
        ...


@runtime_checkable
class Source(Protocol):
    """Gives the records of some partitions, each partition in rising offset.

    Examples
    --------
    >>> from streamrec.eventlog.memory import MemorySource
    >>> source = MemorySource({("clicks", 0): [b"a", b"b", b"c"]})
    >>> source.seek({("clicks", 0): 1})
    >>> [record.value for record in source.poll(10)], source.poll(10), source.at_end()
    ([b'b', b'c'], [], True)
    """

    def topics(self) -> list[Place]:
        """Every (topic, partition) that records can come from, in a fixed order."""
        ...

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Go to the next offset to read per place; a place that is not named starts at its beginning."""
        ...

    def poll(self, max_records: int) -> list[Record]:
        """At most `max_records` further records; none when there is nothing now."""
        ...

    def at_end(self) -> bool:
        """A finite source has given everything; certain only after a `poll` that gave nothing."""
        ...

    def close(self) -> None:
        """Give back files and connections; may be called twice."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Takes lines, in order, and can be cut back to an earlier length.

    Examples
    --------
    >>> from streamrec.eventlog.memory import MemorySink
    >>> sink = MemorySink()
    >>> sink.emit([b"one", b"two"]); mark = sink.position(); sink.emit([b"three"])
    >>> sink.cut_back(mark); sink.lines, sink.position()
    ([b'one', b'two'], 8)
    """

    def emit(self, lines: Sequence[bytes], keys: Sequence[str] = ()) -> None:
        """Take lines without their line ends; DiskError if they cannot be written.

        `keys` says per line what it is about (a user), for sinks that keep lines of one key together.
        """
        ...

    def hand_over(self) -> None:
        """Give everything taken so far to the system, so that others can read it."""
        ...

    def sync(self) -> None:
        """What was handed over is on the disk when this returns; another thread may call it."""
        ...

    def flush(self) -> None:
        """Everything taken so far is on the disk when this returns: `hand_over` and `sync`."""
        ...

    def position(self) -> int:
        """Length in bytes of everything taken so far, flushed or not."""
        ...

    def tail(self) -> int:
        """Check sum of the last bytes handed over, by which the output is known again; 0 if there is none."""
        ...

    def cut_back(self, position: int, tail: int = 0) -> None:
        """Forget what was taken after `position`.

        StateError if the output is shorter than that, or has another `tail` there; 0 fits any.
        """
        ...

    def close(self) -> None:
        """Flush and give the file back; may be called twice."""
        ...


@runtime_checkable
class Letters(Protocol):
    """Takes dead letters; otherwise like a `Sink`."""

    def write(self, record: Record, reject: Reject) -> None:
        """Take one dead letter."""
        ...

    def hand_over(self) -> None:
        """See `Sink.hand_over`."""
        ...

    def sync(self) -> None:
        """See `Sink.sync`."""
        ...

    def position(self) -> int:
        """See `Sink.position`."""
        ...

    def tail(self) -> int:
        """See `Sink.tail`."""
        ...

    def cut_back(self, position: int, tail: int = 0) -> None:
        """See `Sink.cut_back`."""
        ...

    def close(self) -> None:
        """See `Sink.close`."""
        ...
