"""A simulated stream as messages, and as a file: the same lines, the same faults.

A message is keyed by its user (poison has no key but a tombstone, which needs one), stamped with event time
like those of a log, and says in the header `planted` what it is: ok, late, duplicate, or a kind of poison.
"""

import zlib
from collections.abc import Iterator
from typing import Final

from streamrec.errors import StateError
from streamrec.eventlog.clients import Message
from streamrec.produce.faults import Stream
from streamrec.produce.logfeed import stamp_of
from streamrec.produce.partition import partition_of
from streamrec.produce.sending import Line

TOMBSTONE_KEY: Final = b"poison"


class StreamFeed:
    """Lines of a simulated stream for a topic.

    Parameters
    ----------
    stream : what to send
    topic, partitions : where messages go
    """

    def __init__(self, stream: Stream, topic: str, partitions: int) -> None:
        self._stream, self._topic, self._partitions = stream, topic, partitions
        self._next = 0

    def pass_over(self, lines: int) -> int:
        """Go behind the first lines."""
        if lines > len(self._stream):
            raise StateError(
                f"the stream has {len(self._stream)} lines, but {lines} were sent before: simulate what was "
                "begun, or choose another --id"
            )
        check = 0
        for line in range(self._next, lines):
            check = zlib.crc32(self._stream.value(line) or b"", check)
        self._next = lines
        return check

    def lines(self, most: int, stamp_ms: int) -> list[Line]:
        """At most so many further lines."""
        last = min(self._next + most, len(self._stream))
        out = []
        for line in range(self._next, last):
            out.append(self._line(line, stamp_ms))
            stamp_ms = out[-1].stamp_ms
        self._next = last
        return out

    def at_end(self) -> bool:
        """All lines were given."""
        return self._next >= len(self._stream)

    def _line(self, line: int, stamp_ms: int) -> Line:
        event, value = self._stream.event(line), self._stream.value(line)
        headers = (("planted", self._stream.label(line).encode()),)
        if event is None:
            partition = line % self._partitions
            key = TOMBSTONE_KEY if value is None else None
            message = Message(self._topic, value, key, headers, stamp_ms, partition)
            return Line(value or b"", message, None, stamp_ms)
        key = event.user.encode()
        stamp_ms = stamp_of(event.time)
        partition = partition_of(key, self._partitions)
        message = Message(self._topic, value, key, headers, stamp_ms, partition)
        return Line(value or b"", message, event.time, stamp_ms)


def file_lines(stream: Stream) -> Iterator[bytes]:
    """Every line with its end; the stream has to be one of lines."""
    for line in range(len(stream)):
        yield (stream.value(line) or b"") + b"\n"
