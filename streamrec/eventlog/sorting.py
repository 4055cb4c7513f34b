"""Records of unsorted files in order of (time, file, line), sorted out of core by DuckDB.

    files ──(time, file, line, bytes)──► table on disk ──ORDER BY──► table on disk ──► records

A line without a readable time takes the time of the line before it in its file (the first lines of a
file: the earliest of all), so that it stays beside its neighbours on its way to the dead letters. The bytes
of a line are kept as they are (BLOB). Memory is bounded by DuckDB's limit, disk use is about twice the
unpacked input, in a temporary folder (`TMPDIR`) that `close` removes.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import duckdb
import numpy as np

from streamrec.errors import DiskError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.inputs import Input, connect

_ROWS: Final = 32768


class SortedRecords:
    """All records of some files in order of time; an offset is a record's place among those of its file.

    Parameters
    ----------
    files : inputs; their order decides between records of equal time

    Raises
    ------
    DiskError
        If the temporary folder cannot hold the tables.
    """

    def __init__(self, files: Sequence[Input]) -> None:
        self.topics = [file.topic for file in files]
        self._folder = _temporary_folder()
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._connection = connect(f"{self._folder}/lines.duckdb")
        self._execute("CREATE TABLE lines (time DOUBLE, file INTEGER, line BIGINT, raw BLOB)")
        for number, file in enumerate(files):
            self._load(number, file)
        self._execute("CREATE TABLE sorted AS SELECT file, line, raw FROM lines ORDER BY time, file, line")
        self._execute("DROP TABLE lines")
        self._first = [0] * len(files)
        self._lines: list[list[int]] = [[] for _ in files]

    def records(self, positions: Mapping[Place, int]) -> Iterator[list[Record]]:
        """Records in order of time, those before the position of their file left out."""
        places = [0] * len(self.topics)
        starts = [positions.get((topic, 0), 0) for topic in self.topics]
        for rows in self._stretches("file, line, raw"):
            self._first = list(places)
            self._lines = [[] for _ in places]
            out = []
            for file, line, raw in rows:
                place = places[file]
                places[file] = place + 1
                self._lines[file].append(line)
                if place >= starts[file]:
                    out.append(Record(self.topics[file], 0, place, raw))
            if out:
                yield out

    def line(self, topic: str, offset: int) -> int:
        """Data line (from 0) of the record at this place of its file; quick for the latest records."""
        number = self.topics.index(topic)
        latest = offset - self._first[number]
        if 0 <= latest < len(self._lines[number]):
            return self._lines[number][latest]
        place = offset
        for rows in self._stretches("file, line"):
            mine = [line for file, line in rows if file == number]
            if place < len(mine):
                return int(mine[place])
            place -= len(mine)
        raise IndexError(f"{topic}: no record {offset}")

    def close(self) -> None:
        """Remove the tables."""
        self._connection.close()
        self._remove()

    def _load(self, number: int, file: Input) -> None:
        last = -1.0
        for records in file.records(0):
            times = np.empty(len(records))
            for i, read in enumerate(file.codec.decode_many(records)):
                last = times[i] = read.time if isinstance(read, Event) else last
            raw = np.empty(len(records), dtype=object)
            raw[:] = [record.value for record in records]
            lines = np.array([record.offset for record in records], dtype=np.int64)
            self._insert(
                {"time": times, "file": np.full(len(records), number, np.int32), "line": lines, "raw": raw}
            )

    def _insert(self, columns: dict[str, Any]) -> None:
        if len(columns["raw"]):
            self._connection.register("chunk", columns)
            self._execute("INSERT INTO lines SELECT time, file, line, raw FROM chunk")
            self._connection.unregister("chunk")

    def _stretches(self, columns: str) -> Iterator[list[Any]]:
        """Rows of the sorted table in order, some at a time."""
        ((total,),) = self._execute("SELECT count(*) FROM sorted")
        for first in range(0, total, _ROWS):
            last = first + _ROWS - 1
            yield self._execute(
                f"SELECT {columns} FROM sorted WHERE rowid BETWEEN {first} AND {last} ORDER BY rowid"
            )

    def _execute(self, query: str) -> list[Any]:
        try:
            return self._connection.execute(query).fetchall()
        except duckdb.Error as error:
            raise DiskError(
                f"{self._folder}: sorting the input by time failed ({str(error).splitlines()[0]}): it needs "
                "about twice the unpacked input in disk space; point TMPDIR at a larger disk"
            ) from None


def _temporary_folder() -> str:
    try:
        return tempfile.mkdtemp(prefix="streamrec-sort-")
    except OSError as error:
        raise DiskError(
            f"{tempfile.gettempdir()}: no temporary folder for sorting ({error.strerror}); "
            "set TMPDIR elsewhere"
        ) from None
