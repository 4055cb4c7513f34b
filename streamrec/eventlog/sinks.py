"""Where forecasts and dead letters go: a file of JSON lines, or nowhere.

A sink's length in bytes is part of the checkpoint, and restoring cuts the file back to it, so that after any
crash the file equals that of an undisturbed run to the byte. A write that fails half way (disk full) leaves
the written part counted as written: a later flush goes on exactly there. After an fsync that failed the
system may have dropped what it could not write and call the next one a success: so every later one fails too,
no checkpoint counts on that file any more, and the next start cuts it back to the last that does.
"""

import fcntl
import json
import os
import stat
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

from streamrec.errors import ConfigError, DiskError, StateError
from streamrec.event import Record
from streamrec.eventlog.base import Reject, Sink

_BUFFER_BYTES: Final = 1 << 18
_TAIL_BYTES: Final = 1 << 12


class TakenError(ConfigError):
    """Another process writes to a file that is ours alone."""


class JsonLinesSink:
    """Appends lines to a file, which is made if it is not there; one process at a time may do so.

    `sync` may be called from another thread, everything else belongs to one.

    Parameters
    ----------
    path : the file; a pipe or device works too, and is then never cut back

    Raises
    ------
    TakenError
        If another process writes to the file.
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
        self._refused: DiskError | None = None  # an fsync failed
        with self._disk_errors():
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            status = os.fstat(self._file)
        self._regular = stat.S_ISREG(status.st_mode)
        self._written = status.st_size if self._regular else 0
        if self._regular:
            self._lock()

    def emit(self, lines: Sequence[bytes], keys: Sequence[str] = ()) -> None:
        """Take lines without their line ends."""
        for line in lines:
            self._buffer += line
            self._buffer += b"\n"
        if len(self._buffer) >= _BUFFER_BYTES:
            self._write()

    def hand_over(self) -> None:
        """Write everything taken so far; it is in the file, though perhaps not on the disk."""
        self._write()

    def sync(self) -> None:
        """Fsync what was written."""
        if self._refused is not None:
            raise self._refused
        try:
            with self._disk_errors():
                if self._regular:
                    os.fsync(self._file)
        except DiskError as error:
            self._refused = error
            raise

    def flush(self) -> None:
        """Write and fsync everything taken so far."""
        self.hand_over()
        self.sync()

    def position(self) -> int:
        """Length of the file once everything taken is written, bytes."""
        return self._written + len(self._buffer)

    def tail(self) -> int:
        """Check sum of the last bytes written; 0 for what is not a regular file."""
        return self._tail_before(self._written)

    def cut_back(self, position: int, tail: int = 0) -> None:
        """Cut the file back to `position` bytes, if it has this `tail` there."""
        self._write()
        if position > self._written:
            raise StateError(
                f"{self.path}: the state has written {position} bytes of output, but the file has "
                f"{self._written}: {position - self._written} bytes are gone; put the file back or start over"
            )
        if tail and self._regular and self._tail_before(position) != tail:
            raise StateError(
                f"{self.path}: is not the file that the state has written {position} bytes to, and is left "
                "alone; name that one, or run once with no output and then with this one"
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

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise TakenError(
                f"{self.path}: another process writes to this file; stop it, or choose another file"
            ) from None
        except OSError:
            pass  # a file system without locks

    def _tail_before(self, position: int) -> int:
        if not self._regular or not position:
            return 0
        with self._disk_errors(), Path(self.path).open("rb") as file:
            file.seek(max(0, position - _TAIL_BYTES))
            return crc32(file.read(min(position, _TAIL_BYTES)))

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

    def emit(self, lines: Sequence[bytes], keys: Sequence[str] = ()) -> None:
        """Drop lines."""

    def hand_over(self) -> None:
        """Nothing to do."""

    def sync(self) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Nothing to do."""

    def position(self) -> int:
        """Always 0."""
        return 0

    def tail(self) -> int:
        """Always 0."""
        return 0

    def cut_back(self, position: int, tail: int = 0) -> None:
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

    def hand_over(self) -> None:
        """Give everything taken so far to the system."""
        self.sink.hand_over()

    def sync(self) -> None:
        """What was handed over is on the disk when this returns."""
        self.sink.sync()

    def flush(self) -> None:
        """Everything taken so far is on the disk when this returns."""
        self.sink.flush()

    def position(self) -> int:
        """Length of the dead letters in bytes."""
        return self.sink.position()

    def tail(self) -> int:
        """Check sum of the last dead letters."""
        return self.sink.tail()

    def cut_back(self, position: int, tail: int = 0) -> None:
        """Forget dead letters after `position`."""
        self.sink.cut_back(position, tail)

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
