"""A source and a sink in memory, for tests and for programs that bring their own transport."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streamrec.errors import StateError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place


def encode_event(event: Event) -> bytes:
    """The JSON object that `JsonCodec` reads back as this event.

    Examples
    --------
    >>> encode_event(Event("u1", "m7", 3.5))
    b'{"user":"u1","mark":"m7","time":3.5}'
    """
    fields: dict[str, object] = {"user": event.user, "mark": event.mark, "time": event.time}
    if event.id is not None:
        fields["id"] = event.id
    if event.value is not None:
        fields["value"] = event.value
    return msgspec.json.encode(fields)


class MemorySource:
    """Values by (topic, partition); offsets count from 0 in each.

    The next record is the one with the lowest offset (of these, the first place), so that partitions take
    turns and a source that was sought goes on in the same order.

    Parameters
    ----------
    values : what every place holds; None is a tombstone
    live : more may come by `append`, so that the end is never reached until `finish`

    Examples
    --------
    >>> source = MemorySource({("clicks", 0): [b"a", b"b"], ("clicks", 1): [b"c"]})
    >>> [(record.partition, record.offset, record.value) for record in source.poll(10)]
    [(0, 0, b'a'), (1, 0, b'c'), (0, 1, b'b')]
    """

    def __init__(self, values: Mapping[Place, Sequence[bytes | None]], live: bool = False) -> None:
        self._values = {place: list(held) for place, held in values.items()}
        self._next = dict.fromkeys(self._values, 0)
        self._live = live

    @classmethod
    def of_events(cls, events: Iterable[Event], topic: str = "memory") -> "MemorySource":
        """A source of these events as JSON, each in its own partition."""
        values: dict[Place, list[bytes | None]] = {}
        for event in events:
            values.setdefault((topic, event.partition), []).append(encode_event(event))
        return cls({place: values[place] for place in sorted(values)})

    def append(self, place: Place, value: bytes | None) -> None:
        """One more record at a place."""
        self._values[place].append(value)

    def finish(self) -> None:
        """No more will be appended."""
        self._live = False

    def topics(self) -> list[Place]:
        """Every place, in the order given."""
        return list(self._values)

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Go to the next offset per place; 0 for those not named."""
        self._next = {place: positions.get(place, 0) for place in self._values}

    def poll(self, max_records: int) -> list[Record]:
        """At most `max_records` records, lowest offset first."""
        out: list[Record] = []
        while len(out) < max_records:
            places = [place for place, at in self._next.items() if at < len(self._values[place])]
            if not places:
                break
            place = min(places, key=self._next.__getitem__)
            offset = self._next[place]
            out.append(Record(*place, offset, self._values[place][offset]))
            self._next[place] = offset + 1
        return out

    def at_end(self) -> bool:
        """Everything was given, and nothing more will be appended."""
        return not self._live and all(at >= len(self._values[place]) for place, at in self._next.items())

    def close(self) -> None:
        """Nothing to give back."""


class MemorySink:
    """Keeps lines in a list, `lines`; a line counts one byte more than it has, as it would in a file."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def emit(self, lines: Sequence[bytes], keys: Sequence[str] = ()) -> None:
        """Take lines."""
        self.lines.extend(lines)

    def hand_over(self) -> None:
        """Nothing to do."""

    def sync(self) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Nothing to do."""

    def tail(self) -> int:
        """Always 0: nobody can exchange it."""
        return 0

    def position(self) -> int:
        """Bytes taken, line ends counted."""
        return sum(len(line) + 1 for line in self.lines)

    def cut_back(self, position: int, tail: int = 0) -> None:
        """Forget lines after `position`, which has to be one that `position()` gave."""
        at = 0
        for kept, line in enumerate([*self.lines, b""]):
            if at == position:
                del self.lines[kept:]
                return
            at += len(line) + 1
        raise StateError(f"memory sink: no line ends at byte {position}; it holds {self.position()} bytes")

    def close(self) -> None:
        """Nothing to give back."""
