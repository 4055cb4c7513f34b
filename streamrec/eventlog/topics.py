"""Topics as logs, sinks and letters; and the one place that chooses a client library.

    TopicLog      what topics hold when it is opened, as a finite log:
                  records in order of (offset, place), whatever arrives first
    TopicSink     lines to a topic, keyed
    TopicLetters  dead letters to a topic: the record as it came, and in headers why and whence

The order of a log is that of `MemorySource`: partitions take turns, and a log that was sought goes on as if
it had never stopped. A record can be given once every partition was read up to its offset.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streamrec.errors import OutOfRangeError, UnavailableError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec, Place, Reject
from streamrec.eventlog.clients import Member, Message, Outlet, Reader, Transactor
from streamrec.settings import KafkaSettings

POLL_S: Final = 0.2
PATIENCE_S: Final = 60.0
AHEAD_RECORDS: Final = 200_000
"""Records that partitions may be read ahead of the one that lags most, all together."""

LETTER_BYTES: Final = 900_000
"""Longest value of a dead letter; brokers take a mebibyte with its headers unless told otherwise."""


@dataclass(frozen=True)
class Clients:
    """Makes clients of the chosen library; each call makes a new one, which is to be closed.

    Parameters
    ----------
    settings : how the cluster is reached, and by which library
    """

    settings: KafkaSettings

    @property
    def whole_lanes(self) -> bool:
        """Whether a lane may have several partitions; otherwise lanes are partitions."""
        return self.settings.client == "kafka-python"

    def member(self) -> Member:
        """A member of the group, which has not joined yet."""
        if self.settings.client == "confluent":
            from streamrec.eventlog.confluent import ConfluentMember  # noqa: PLC0415 (one of two)

            return ConfluentMember(self.settings)
        from streamrec.eventlog.kafka_python import KafkaPythonMember  # noqa: PLC0415

        return KafkaPythonMember(self.settings)

    def reader(self) -> Reader:
        """A reader outside of groups."""
        if self.settings.client == "confluent":
            from streamrec.eventlog.confluent import ConfluentReader  # noqa: PLC0415

            return ConfluentReader(self.settings)
        from streamrec.eventlog.kafka_python import KafkaPythonReader  # noqa: PLC0415

        return KafkaPythonReader(self.settings)

    def outlet(self) -> Outlet:
        """An outlet without transactions."""
        if self.settings.client == "confluent":
            from streamrec.eventlog.confluent_outlet import ConfluentOutlet  # noqa: PLC0415

            return ConfluentOutlet(self.settings)
        from streamrec.eventlog.kafka_outlet import KafkaPythonOutlet  # noqa: PLC0415

        return KafkaPythonOutlet(self.settings)

    def transactor(self, transactional_id: str) -> Transactor:
        """An outlet with transactions; `recover` is its first call, and makes its connections."""
        if self.settings.client == "confluent":
            from streamrec.eventlog.confluent_outlet import ConfluentTransactor  # noqa: PLC0415

            return ConfluentTransactor(self.settings, transactional_id)
        from streamrec.eventlog.kafka_outlet import KafkaPythonTransactor  # noqa: PLC0415

        return KafkaPythonTransactor(self.settings, transactional_id)


def connect(settings: KafkaSettings) -> Clients:
    """What makes clients of the library that the settings name; nothing is connected yet.

    Raises
    ------
    ConfigError
        If that library is not installed.

    Examples
    --------
    >>> connect(KafkaSettings()).whole_lanes
    True
    """
    if settings.client == "confluent":
        from streamrec.eventlog.confluent_options import library  # noqa: PLC0415

        library()
    return Clients(settings)


class TopicLog:
    """A finite log of what topics hold when it is opened.

    Parameters
    ----------
    reader : reads them, and is closed with the log
    topics : their names
    codec : reads records
    patience_s : how long the cluster may be away

    Raises
    ------
    BrokerError
        If a topic does not exist; while reading, if the cluster is away for longer than `patience_s`, or
        records are gone that were to be read (`OutOfRangeError`).
    """

    def __init__(
        self, reader: Reader, topics: Sequence[str], codec: Codec, patience_s: float = PATIENCE_S
    ) -> None:
        self._reader, self._codec, self._patience_s = reader, codec, patience_s
        self._places = reader.places(topics)
        self._bounds = reader.bounds(self._places)
        self._at = {place: self._bounds[place].first for place in self._places}  # read up to
        self._rank = {place: i for i, place in enumerate(self._places)}
        self._held: list[Record] = []  # read, and perhaps not next
        self._ready: deque[Record] = deque()
        self._assigned: frozenset[Place] = frozenset()
        self._ahead = max(1000, AHEAD_RECORDS // max(len(self._places), 1))

    def topics(self) -> list[Place]:
        """Every partition of the topics, in order."""
        return list(self._places)

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Go to the next offset per place; a place that is not named starts at the first that it holds."""
        self._at = {place: positions.get(place, self._bounds[place].first) for place in self._places}
        for place, at in self._at.items():
            if at > self._bounds[place].end or at < self._bounds[place].first:
                first, end = self._bounds[place]
                raise OutOfRangeError(
                    f"{place[0]}[{place[1]}]: next offset is {at}, but the log holds {first} to {end}: "
                    "records are gone, or the topic was made anew; start over, or name the one that was read",
                    {place: at},
                )
        self._held, self._ready, self._assigned = [], deque(), frozenset()

    def count(self) -> int:
        """Offsets left to read; transaction markers and compacted records are among them."""
        left = sum(self._bounds[place].end - at for place, at in self._at.items())
        return left + len(self._held) + len(self._ready)

    def poll(self, max_records: int) -> list[Record]:
        """At most `max_records` further records; none when nothing came in a while, or at the end."""
        if not self._ready and not self._is_read():
            self._read(max_records)
        return [self._ready.popleft() for _ in range(min(max_records, len(self._ready)))]

    def decode_many(self, records: Sequence[Record]) -> list[Event | Reject]:
        """Read records in order."""
        return self._codec.decode_many(records)

    def at_end(self) -> bool:
        """Everything was given."""
        return self._is_read() and not self._ready

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()

    def _is_read(self) -> bool:
        return all(at >= self._bounds[place].end for place, at in self._at.items())

    def _read(self, max_records: int) -> None:
        """Read on where it lags, and make ready what is certain to be next."""
        self._choose()
        records = self._patiently(max_records)
        ends = {place: self._bounds[place].end for place in self._assigned}
        self._held += [one for one in records if one.offset < ends[one.topic, one.partition]]
        self._at.update(self._reader.positions(list(self._assigned)))
        open_ends = [(at, self._rank[p]) for p, at in self._at.items() if at < self._bounds[p].end]
        horizon = min(open_ends, default=None)
        self._held.sort(key=self._key)
        n = len(self._held) if horizon is None else sum(self._key(one) < horizon for one in self._held)
        self._ready.extend(self._held[:n])
        del self._held[:n]

    def _key(self, record: Record) -> tuple[int, int]:
        return record.offset, self._rank[record.topic, record.partition]

    def _choose(self) -> None:
        """Assign the partitions that lag, when one of them is not read or one of the others is far ahead."""
        unread = [place for place in self._places if self._at[place] < self._bounds[place].end]
        last = min(unread, key=lambda place: (self._at[place], self._rank[place]))
        far = any(self._at[place] > self._at[last] + 2 * self._ahead for place in self._assigned)
        if last not in self._assigned or far or not self._assigned.issubset(unread):
            near = [place for place in unread if self._at[place] <= self._at[last] + self._ahead]
            self._assigned = frozenset(near)
            self._reader.assign({place: self._at[place] for place in near})

    def _patiently(self, max_records: int) -> list[Record]:
        """A poll that bears with a cluster that is away."""
        end = time.monotonic() + self._patience_s
        while True:
            try:
                return self._reader.poll(max_records, POLL_S)
            except UnavailableError:
                if time.monotonic() >= end:
                    raise


class TopicSink:
    """Sends lines to a topic; what was sent cannot be cut back, so that its position stays 0.

    Parameters
    ----------
    outlet : sends them; is shared, and not closed here
    topic : where to
    timeout_s : most time that `sync` waits for the broker
    """

    def __init__(self, outlet: Outlet, topic: str, timeout_s: float) -> None:
        self._outlet, self._topic, self._timeout_s = outlet, topic, timeout_s

    def emit(self, lines: Sequence[bytes], keys: Sequence[str] = ()) -> None:
        """Send lines, each under its key; lines of one key keep their order."""
        if keys:
            pairs = zip(lines, keys, strict=True)
            self._outlet.send([Message(self._topic, line, key.encode()) for line, key in pairs])
        else:
            self._outlet.send([Message(self._topic, line) for line in lines])

    def hand_over(self) -> None:
        """Nothing to do: what was emitted is on its way."""

    def sync(self) -> None:
        """What was emitted is acknowledged by the broker when this returns; errors of `Outlet.flush`."""
        self._outlet.flush(self._timeout_s)

    def flush(self) -> None:
        """As `sync`."""
        self.sync()

    def position(self) -> int:
        """Always 0."""
        return 0

    def tail(self) -> int:
        """Always 0."""
        return 0

    def cut_back(self, position: int, tail: int = 0) -> None:
        """Nothing to do: what is sent again has the same id."""

    def close(self) -> None:
        """Nothing to give back: the outlet is closed by whoever made it."""


class TopicLetters(TopicSink):
    """Sends dead letters to a topic, with the key and the bytes that they came with.

    Headers: reason, detail, topic, partition, offset, timestamp_ms (text in UTF-8). A value longer than
    `LETTER_BYTES` is cut there, and a header `bytes` says how long it was; a record with neither key nor
    value becomes an empty one.
    """

    def write(self, record: Record, reject: Reject) -> None:
        """Send one dead letter."""
        self._outlet.send([letter(self._topic, record, reject)])


def letter(topic: str, record: Record, reject: Reject) -> Message:
    """The message of one dead letter.

    Examples
    --------
    >>> letter("dead", Record("clicks", 3, 7, b"{"), Reject("not_json", "cut off")).headers[:3]
    (('reason', b'not_json'), ('detail', b'cut off'), ('topic', b'clicks'))
    """
    value = record.value
    fields: dict[str, object] = {
        "reason": reject.reason,
        "detail": reject.detail,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
    }
    if value is not None and len(value) > LETTER_BYTES:
        fields["bytes"] = len(value)
        value = value[:LETTER_BYTES]
    if value is None and record.key is None:
        value = b""
    headers = tuple((name, str(text).encode(errors="replace")) for name, text in fields.items())
    return Message(topic, value, record.key, headers)
