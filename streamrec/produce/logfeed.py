"""A historical log as messages: one per line, keyed by user, stamped with event time, with its place.

    key        the user in UTF-8; none for a line that is no event
    value      the line's own bytes if they are JSON that is read as the same event without any settings,
               else the event as JSON
    stamp      event time in ms, rounded down; a line that is no event (its time may be negative, or not
               there) takes the stamp of the line before it, 1 at the start
    partition  by murmur2 of the key; lines without one take turns
    headers    `source-file` and `source-line` (from 1, as an editor counts)

A line that is no event is sent as it is, so that the consumer counts it, or left out if so wished; one that
is longer than a topic takes (`MAX_VALUE_BYTES`) is left out and counted in any case.
"""

import zlib
from collections import Counter
from typing import Final

from streamrec.errors import StateError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.eventlog.clients import Message
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import FileSource
from streamrec.eventlog.memory import encode_event
from streamrec.produce.partition import partition_of
from streamrec.produce.sending import Line

MAX_VALUE_BYTES: Final = 1_000_000
"""Longest value that is sent; Kafka's default limit of a batch is 1,048,588 bytes with all that is around."""


def stamp_of(time: float) -> int:
    """Milliseconds of an event's time, rounded down, so that the stamp is not ahead of the event; at least 1.

    Examples
    --------
    >>> stamp_of(1700000000.2509), stamp_of(0.0)
    (1700000000250, 1)
    """
    return max(1, int(time * 1000))  # one of the clients takes 0 for now


class LogFeed:
    """Lines of files or a pipe.

    Parameters
    ----------
    source : at its start
    topic, partitions : where messages go
    keep_bad : whether lines that are no events are sent too

    Attributes
    ----------
    counts : lines seen by what became of them: `ok`, the reason of those that are no events, `oversize`
    """

    def __init__(self, source: FileSource, topic: str, partitions: int, keep_bad: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self._source = source
        self._topic, self._partitions, self._keep_bad = topic, partitions, keep_bad
        self._plain = JsonCodec(FieldNames())
        self._n = 0

    def pass_over(self, lines: int) -> int:
        """Read and drop the first lines."""
        check = 0
        while self._n < lines:
            records = self._source.poll(min(10_000, lines - self._n))
            if not records and self._source.at_end():
                raise StateError(
                    f"the log has {self._n} lines, but {lines} were sent before: give the log that was "
                    "begun, or another --id"
                )
            for record in records:
                check = zlib.crc32(record.value or b"", check)
            self._n += len(records)
        return check

    def lines(self, most: int, stamp_ms: int) -> list[Line]:
        """At most so many further lines."""
        records = self._source.poll(most)
        out = []
        for record, read in zip(records, self._source.decode_many(records), strict=True):
            if isinstance(read, Event):
                stamp_ms = stamp_of(read.time)
                message = self._good(record, read, stamp_ms)
                self.counts["ok"] += 1
                out.append(Line(record.value or b"", message, read.time, stamp_ms))
            else:
                out.append(Line(record.value or b"", self._bad(record, read, stamp_ms), None, stamp_ms))
            self._n += 1
        return out

    def at_end(self) -> bool:
        """Nothing more will come."""
        return self._source.at_end()

    def _good(self, record: Record, event: Event, stamp_ms: int) -> Message:
        key = event.user.encode()
        value = self._value(record, event)
        partition = partition_of(key, self._partitions)
        return Message(self._topic, value, key, self._headers(record), stamp_ms, partition)

    def _value(self, record: Record, event: Event) -> bytes:
        value = record.value or b""
        if value[:1] == b"{" and len(value) <= MAX_VALUE_BYTES and self._plain.decode(record) == event:
            return value
        return encode_event(event)

    def _bad(self, record: Record, read: Reject, stamp_ms: int) -> Message | None:
        oversize = len(record.value or b"") > MAX_VALUE_BYTES
        self.counts["oversize" if oversize else read.reason] += 1
        if oversize or not self._keep_bad:
            return None
        partition = self._n % self._partitions
        return Message(self._topic, record.value, None, self._headers(record), stamp_ms, partition)

    def _headers(self, record: Record) -> tuple[tuple[str, bytes], ...]:
        line = self._source.line(record.topic, record.offset)
        return ("source-file", record.topic.encode(errors="replace")), ("source-line", b"%d" % line)
