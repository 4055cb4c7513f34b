"""Where forecasts and dead letters go: a file of JSON lines, or nowhere.

A sink's length in bytes is part of the checkpoint, and restoring cuts the file back to it, so that after any
crash the file equals that of an undisturbed run to the byte. A write that fails half way (disk full) leaves
the written part counted as written: a later flush goes on exactly there.
"""

import json
import os
import stat
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from streamrec.errors import DiskError, StateError
from streamrec.event import Record
from streamrec.eventlog.base import Reject, Sink

_BUFFER_BYTES: Final = 1 << 18


class JsonLinesSink:
    """Appends lines to a file, which is made if it is not there.

    Parameters
    ----------
    path : the file; a pipe or device works too, and is then never cut back

    Raises
    ------
    DiskError
        If the file cannot be opened, and from every method that writes if writing fails.

    Examples
    --------
    >>> import tempfile
    >>> sink = JsonLinesSink(tempfile.mkdtemp() + "/forecasts.jsonl")
    >>> sink.emit([b'{"user":"u1"}']); sink.position()
    14
    >>> sink.close()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._buffer = bytearray()
        self._closed = False
        with self._disk_errors():
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            status = os.fstat(self._file)
        self._regular = stat.S_ISREG(status.st_mode)
        self._written = status.st_size if self._regular else 0

    def emit(self, lines: Sequence[bytes]) -> None:
        """Take lines without their line ends."""
        for line in lines:
            self._buffer += line
            self._buffer += b"\n"
        if len(self._buffer) >= _BUFFER_BYTES:
            self._write()

    def flush(self) -> None:
        """Write and fsync everything taken so far."""
        self._write()
        with self._disk_errors():
            if self._regular:
                os.fsync(self._file)

    def position(self) -> int:
        """Length of the file once everything taken is written, bytes."""
        return self._written + len(self._buffer)

    def cut_back(self, position: int) -> None:
        """Cut the file back to `position` bytes."""
        self._write()
        if position > self._written:
            raise StateError(
                f"{self.path}: the state has written {position} bytes of output, but the file has "
                f"{self._written}: {position - self._written} bytes are gone; put the file back or start over"
            )
        if self._regular:
            with self._disk_errors():
                os.ftruncate(self._file, position)
                os.fsync(self._file)
            self._written = position

    def close(self) -> None:
        """Flush and close; the file is closed even if flushing fails."""
        if self._closed:
            return
        self._closed = True
        try:
            self.flush()
        finally:
            os.close(self._file)

    def _write(self) -> None:
        with self._disk_errors():
            while self._buffer:
                written = os.write(self._file, self._buffer)
                del self._buffer[:written]
                self._written += written

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError(
                f"{self.path}: cannot be written ({error.strerror or error}); make space or choose another "
                "file, then start again: what was accepted before is safe"
            ) from error


class NullSink:
    """Takes everything and keeps nothing; its position stays 0."""

    def emit(self, lines: Sequence[bytes]) -> None:
        """Drop lines."""

    def flush(self) -> None:
        """Nothing to do."""

    def position(self) -> int:
        """Always 0."""
        return 0

    def cut_back(self, position: int) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Nothing to give back."""


class DeadLetters:
    """Writes one JSON line per dead letter to a sink, and is cut back with it.

    Parameters
    ----------
    sink : where the lines go

    Examples
    --------
    >>> from streamrec.eventlog.memory import MemorySink
    >>> letters = DeadLetters(MemorySink())
    >>> letters.write(Record("clicks", 3, 7, b"{"), Reject("not_json", "cut off"))
    >>> letters.sink.lines[0].decode()[:60]
    '{"topic":"clicks","partition":3,"offset":7,"reason":"not_jso'
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def write(self, record: Record, reject: Reject) -> None:
        """Take one dead letter; its bytes are kept as they came, in base64."""
        self.sink.emit([dead_letter(record, reject)])

    def flush(self) -> None:
        """Everything taken so far is on the disk when this returns."""
        self.sink.flush()

    def position(self) -> int:
        """Length of the dead letters in bytes."""
        return self.sink.position()

    def cut_back(self, position: int) -> None:
        """Forget dead letters after `position`."""
        self.sink.cut_back(position)

    def close(self) -> None:
        """Close the sink."""
        self.sink.close()


def dead_letter(record: Record, reject: Reject) -> bytes:
    """The line of one dead letter; `value` and `key` are base64, or null where the record has none."""
    return json.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "reason": reject.reason,
            "detail": reject.detail,
            "timestamp_ms": record.timestamp_ms,
            "key": None if record.key is None else b64encode(record.key).decode(),
            "value": None if record.value is None else b64encode(record.value).decode(),
        },
        separators=(",", ":"),
    ).encode()
