"""Bytes of a file, stored in whatever way, cut into numbered lines.

    file ──gzip|zstd|plain──► blocks of bytes ──LineCutter──► lines without their line ends

A line ends with LF or CRLF, the last one also with the end of the file. Nothing is decoded, so that every
line keeps its number and its bytes; only of a line beyond 16 MiB the rest is dropped (such a line is a
dead letter in any case), so that memory stays bounded whatever the input.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import zstandard

from streamrec.errors import ConfigError

BLOCK_BYTES: Final = 1 << 18
MAX_LINE_BYTES: Final = 1 << 24


class LineCutter:
    r"""Cuts a stream of blocks into lines.

    Examples
    --------
    >>> cutter = LineCutter()
    >>> cutter.feed(b"a\r\nb"), cutter.feed(b"c\n\nd"), cutter.finish()
    ([b'a'], [b'bc', b''], [b'd'])
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def feed(self, block: bytes) -> list[bytes]:
        """Lines that this block completes."""
        if b"\n" not in block:
            self._keep(block)
            return []
        first, *lines = block.split(b"\n")
        self._keep(first)
        whole = b"".join(self._parts)
        self._parts, self._length = [], 0
        self._keep(lines.pop())
        lines.insert(0, whole)
        if b"\r" in block or whole.endswith(b"\r"):
            return [line.removesuffix(b"\r") for line in lines]
        return lines

    def finish(self) -> list[bytes]:
        """The last line, if it has no line end."""
        rest = b"".join(self._parts)
        self._parts, self._length = [], 0
        return [rest.removesuffix(b"\r")] if rest else []

    def _keep(self, part: bytes) -> None:
        room = MAX_LINE_BYTES - self._length
        if part and room > 0:
            self._parts.append(part[:room])
            self._length += min(len(part), room)


def blocks(path: str) -> Iterator[bytes]:
    """The bytes of a file, decompressed if it starts as gzip or zstd data does, in blocks.

    Raises
    ------
    ConfigError
        If the file cannot be read or its compressed data is damaged or cut off.
    """
    try:
        yield from _unpacked(path)
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise ConfigError(f"{path}: the compressed data is damaged ({error}); get the file again") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None


def _unpacked(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.open(file) as unpacked:
                while block := unpacked.read(BLOCK_BYTES):
                    yield block
        elif magic == b"\x28\xb5\x2f\xfd":
            yield from _zstd(iter(lambda: file.read(BLOCK_BYTES), b""))
        else:
            while block := file.read(BLOCK_BYTES):
                yield block


def _zstd(packed: Iterator[bytes]) -> Iterator[bytes]:
    """Frames one after the other; an error if the last is cut off (the library's own reader is silent)."""
    frame = None
    for block in packed:
        data = block
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the last frame is cut off")


def line_lists(path: str) -> Iterator[list[bytes]]:
    """The lines of a file, a list per block; a byte order mark at its start is left out."""
    cutter = LineCutter()
    start = True
    for block in blocks(path):
        lines = cutter.feed(block)
        if lines:
            if start:
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
                start = False
            yield lines
    rest = cutter.finish()
    yield [line.removeprefix(b"\xef\xbb\xbf") for line in rest] if start else rest
