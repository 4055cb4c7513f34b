"""The file format of the journal: a header, then frames, each with a checksum that knows its place.

    journal-<epoch>.log = magic, base, crc | length, crc, entry | length, crc, entry | ...
                          20 B   8 B   4 B   4 B     4 B  msgpack

Positions count bytes as if nothing had ever been pruned, so the first entry of an epoch begins at 0; `base`
is the position at which the file begins now. The checksum covers epoch, position and length too: an entry
copied to another place is not taken for one.

Source: the frame is the usual one of write-ahead logs (LevelDB's log format, SQLite's WAL).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from streamrec.errors import CorruptStateError

_MAGIC = b"streamrec journal 1\n"
HEADER = struct.Struct("<20sQI")
FRAME = struct.Struct("<II")
_PLACE = struct.Struct("<QQI")


class Scan:
    """Walks over the whole entries of one file; `end` is the position after the last one given."""

    def __init__(self, path: Path, epoch: int) -> None:
        self.path = path
        self.data = path.read_bytes()
        self.epoch = epoch
        whole_header = len(self.data) >= HEADER.size
        header = self.data[: HEADER.size] if whole_header else header_of(0)
        base: int = HEADER.unpack(header)[1]
        if header != header_of(base):
            raise CorruptStateError(
                f"{path} at byte 0: wanted {_MAGIC!r} and its checksum, got {header!r}: damaged, or no "
                "journal of this version; restore the state directory from a backup."
            )
        self.base = base
        self.end = base

    @property
    def byte(self) -> int:
        """Where `end` is in the file."""
        return min(len(self.data), HEADER.size + self.end - self.base)

    @property
    def length(self) -> int:
        """Position of the end of the file, torn tail included."""
        return self.base + max(0, len(self.data) - HEADER.size)

    def payloads(self, stop: int | None) -> Iterator[bytes]:
        """Entries up to position `stop`, or up to the first that is not whole."""
        while stop is None or self.end < stop:
            start = HEADER.size + self.end - self.base
            if start + FRAME.size > len(self.data):
                return
            length, crc = FRAME.unpack_from(self.data, start)
            payload = self.data[start + FRAME.size : start + FRAME.size + length]
            beyond = stop is not None and self.end + FRAME.size + length > stop
            if beyond or len(payload) < length or crc != _checksum(self.epoch, self.end, payload):
                return
            self.end += FRAME.size + length
            yield payload


def header_of(base: int) -> bytes:
    """What a file begins with when its first entry is the one at position `base`."""
    return HEADER.pack(_MAGIC, base, crc32(_PLACE.pack(0, base, 0)))


def _checksum(epoch: int, offset: int, payload: bytes) -> int:
    return crc32(payload, crc32(_PLACE.pack(epoch, offset, len(payload))))


def frame_of(epoch: int, offset: int, payload: bytes) -> bytes:
    """An entry as it stands in the file of `epoch`, beginning at position `offset`."""
    return FRAME.pack(len(payload), _checksum(epoch, offset, payload)) + payload


def damaged(path: Path, byte: int, wanted: int) -> CorruptStateError:
    """The error for a file whose whole entries end at `byte`, before the position `wanted`."""
    return CorruptStateError(
        f"{path} at byte {byte}: damaged or cut off; wanted whole entries up to position {wanted}. "
        "Restore the state directory from a backup, or start from an older generation."
    )
