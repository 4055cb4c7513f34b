"""One input of a file source each: lines of text, rows of Parquet, a pipe.

An input has a topic (its path as given), a codec, and gives its records from any offset. The offset is the
number of the data line (or row), from 0, blank lines counted and the header not.
"""

import os
import select
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, Protocol

import duckdb

from streamrec.errors import ConfigError
from streamrec.event import Record
from streamrec.eventlog.base import Codec
from streamrec.eventlog.codec import CsvCodec, JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.lines import BLOCK_BYTES, LineCutter, line_lists

ROWS: Final = 8192
"""Rows of Parquet fetched in one go."""

_JSON_ENDS: Final = (".jsonl", ".ndjson", ".json")
_CSV_ENDS: Final = (".csv", ".tsv")


class Input(Protocol):
    """A finite input that can be read again."""

    topic: str
    codec: Codec
    header_lines: int

    def records(self, start: int) -> Iterator[list[Record]]:
        """Records from offset `start` on, in lists."""
        ...


def numbered(topic: str, lines: list[bytes], first: int) -> list[Record]:
    """Records of consecutive lines; the first has offset `first`.

    Examples
    --------
    >>> numbered("log.csv", [b"a", b"b"], 5)[1]
    Record(topic='log.csv', partition=0, offset=6, value=b'b', key=None, timestamp_ms=-1)
    """
    return [Record(topic, 0, offset, line) for offset, line in enumerate(lines, first)]


def is_json(path: str, first_line: bytes) -> bool:
    """Whether a text input holds JSON lines (else a table), by its name or else by its first line.

    Examples
    --------
    >>> is_json("a.jsonl.gz", b""), is_json("a.csv", b""), is_json("-", b' {"user": 1}')
    (True, False, True)
    """
    plain = path.lower().removesuffix(".gz").removesuffix(".zst")
    if plain.endswith((*_JSON_ENDS, *_CSV_ENDS)):
        return plain.endswith(_JSON_ENDS)
    return first_line.lstrip()[:1] == b"{"


class TextInput:
    """A file of CSV or JSON lines, plain or compressed."""

    def __init__(self, path: str, fields: FieldNames) -> None:
        self.topic = path
        first = next(chain.from_iterable(line_lists(path)), b"")
        json = is_json(path, first)
        if json and path.lower().endswith(".json") and first.lstrip()[:1] == b"[":
            raise ConfigError(
                f"{path}: holds one JSON array; wanted one object per line (jq -c '.[]' converts it)"
            )
        self.header_lines = 0 if json else 1
        self.codec: Codec = JsonCodec(fields) if json else CsvCodec(first, fields, path)

    def records(self, start: int) -> Iterator[list[Record]]:
        """Records from offset `start` on; earlier lines are read and dropped."""
        first = -self.header_lines
        for lines in line_lists(self.topic):
            skip = max(start, 0) - first
            if skip < len(lines):
                yield numbered(self.topic, lines[max(skip, 0) :], max(first, start, 0))
            first += len(lines)


class ParquetInput:
    """A Parquet file; every row becomes a JSON object in bytes (by DuckDB), floats that are not finite null.

    Dotted field names step into struct columns.
    """

    header_lines = 0

    def __init__(self, path: str, fields: FieldNames) -> None:
        self.topic = path
        self._connection = connect()
        columns = dict(
            self._rows("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?))")
        )
        for role in ("user", "mark", "time"):
            wanted = fields.candidates(role)
            if not any(all(name.split(".")[0] in columns for name in names) for names in wanted):
                raise ConfigError(
                    f"{path}: the {role} column {' or '.join(map(','.join, wanted))} is not among "
                    f"its columns {', '.join(columns)}: name the column with --{role}-field"
                )
        self._select = ", ".join(_finite_or_null(name, kind) for name, kind in columns.items())
        self.codec: Codec = JsonCodec(fields)

    def _rows(self, query: str, *arguments: object) -> list[Any]:
        try:
            return self._connection.execute(query, [self.topic, *arguments]).fetchall()
        except duckdb.Error as error:
            raise ConfigError(
                f"{self.topic}: cannot be read as Parquet ({str(error).splitlines()[0]})"
            ) from None

    def records(self, start: int) -> Iterator[list[Record]]:
        """Records from row `start` on, a stretch of rows at a time, so that memory stays bounded."""
        ((total,),) = self._rows("SELECT count(*) FROM read_parquet(?)")
        query = (
            f"SELECT to_json(t) FROM (SELECT {self._select} FROM read_parquet(?, file_row_number = true) "
            "WHERE file_row_number >= ? AND file_row_number < ? ORDER BY file_row_number) t"
        )
        for first in range(max(start, 0), total, 8 * ROWS):
            rows = self._rows(query, first, first + 8 * ROWS)
            yield numbered(self.topic, [row.encode() for (row,) in rows], first)


def _finite_or_null(name: str, kind: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    return (
        f"CASE WHEN isfinite({quoted}) THEN {quoted} END AS {quoted}"
        if kind in ("FLOAT", "DOUBLE")
        else quoted
    )


def connect(database: str = ":memory:") -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with one thread, bounded memory, and times in UTC."""
    connection = duckdb.connect(database, config={"threads": 1, "memory_limit": "256MB"})
    connection.execute("SET preserve_insertion_order = true; SET TimeZone = 'UTC'")
    return connection


class PipeInput:
    """A live input, read once: stdin, or a path that is not a regular file.

    Lines are numbered from 0 in every process: after `seek` to offset n the first n lines are read and
    dropped, as the pipe is taken for the same log from its start.
    """

    def __init__(self, topic: str, descriptor: int, fields: FieldNames) -> None:
        self.topic = topic
        self.codec: Codec | None = None
        self.header_lines = 0
        self._fields = fields
        self._descriptor = descriptor
        self._cutter = LineCutter()

    def records(self, start: int) -> Iterator[list[Record]]:
        """Records as they come in; an empty list says that there is nothing now."""
        first = 0
        for lines in self._lines():
            skip = max(0, start - first)
            yield numbered(self.topic, lines[skip:], first + skip)
            first += len(lines)

    def close(self) -> None:
        """Close the descriptor, unless it is stdin's."""
        if self.topic != "-" and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lines(self) -> Iterator[list[bytes]]:
        """Data lines as they come; the first line of all chooses the codec."""
        block = b"-"
        while block:
            if not select.select([self._descriptor], [], [], 0.05)[0]:
                yield []
                continue
            block = os.read(self._descriptor, BLOCK_BYTES)
            lines = self._cutter.feed(block) if block else self._cutter.finish()
            if lines and self.codec is None:
                lines = self._begin(lines)
            yield lines

    def _begin(self, lines: list[bytes]) -> list[bytes]:
        lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        if lines[0].startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
            raise ConfigError(
                f"{self.topic}: compressed data; unpack it first, for example with zcat or zstdcat"
            )
        if is_json(self.topic, lines[0]):
            self.codec = JsonCodec(self._fields)
            return lines
        self.codec, self.header_lines = CsvCodec(lines[0], self._fields, self.topic), 1
        return lines[1:]
