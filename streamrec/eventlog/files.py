"""Historical logs and pipes as a source: CSV, JSON lines and Parquet, plain, gzip or zstd.

    inputs ──first pass──► in order of time? ──yes──► records as they lie, offset = line
                                             └─no───► sorted by (time, file, line) out of core (`sorting`)

Every file is a topic (its path as given) with the one partition 0, so that all share one clock. Pipes (`-`
is stdin) come after all files, are live and are never sorted.
"""

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path

from streamrec.errors import ConfigError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec, Place, Reject
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.inputs import Input, ParquetInput, PipeInput, TextInput
from streamrec.eventlog.sorting import SortedRecords


def open_files(inputs: Sequence[str], fields: FieldNames) -> "FileSource":
    """Open files, globs and `-` (stdin) as one source; a file that is named twice is read once.

    Raises
    ------
    ConfigError
        If an input does not exist, is a directory, or has no columns of user, mark and time.

    Examples
    --------
    >>> open_files(["no/such.csv"], FieldNames())
    Traceback (most recent call last):
    ...
    streamrec.errors.ConfigError: no/such.csv: no such file
    """
    files: list[Input] = []
    pipes: list[PipeInput] = []
    for path in _expand(inputs):
        if path == "-":
            pipes.append(PipeInput(path, sys.stdin.fileno(), fields))
        elif not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (a path from outside, kept as given)
            pipes.append(PipeInput(path, os.open(path, os.O_RDONLY), fields))
        elif _is_parquet(path):
            files.append(ParquetInput(path, fields))
        else:
            files.append(TextInput(path, fields))
    return FileSource(files, pipes)


def _expand(inputs: Sequence[str]) -> list[str]:
    """Paths in the order given, globs in order of name, each file once."""
    if not inputs:
        raise ConfigError("no input: name a file, a glob or - for stdin")
    found: dict[str, str] = {}
    for given in inputs:
        for path in [given] if given == "-" or Path(given).exists() else _matches(given):
            if path != "-" and Path(path).is_dir():
                raise ConfigError(f"{path}: is a directory; name the files in it, for example '{path}/*.csv'")
            found.setdefault(path if path == "-" else str(Path(path).resolve()), path)
    return list(found.values())


def _matches(pattern: str) -> list[str]:
    found = glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    matches = sorted(path for path in found if not Path(path).is_dir())
    if not matches:
        what = "no file matches" if set(pattern) & set("*?[") else "no such file"
        raise ConfigError(f"{pattern}: {what}")
    return matches


def _is_parquet(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(4) == b"PAR1" or path.lower().endswith(".parquet")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


class FileSource:
    """Files and pipes as one source, which is also the codec of its own records.

    The offset of a record is its data line. Where the inputs have to be sorted, it is the record's place in
    the time order of its own file instead, so that positions stay one number per file; `line` gives the line
    of either. A resumed run needs inputs that still start with what it has read; a sorted one needs them
    unchanged.

    Parameters
    ----------
    files : finite inputs, in the order in which they count for ties
    pipes : live inputs, read after all files

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/log.csv"
    >>> _ = Path(path).write_text("user,mark,time\\nu1,a,2\\nu2,b,1\\n")
    >>> source = open_files([path], FieldNames())
    >>> [(event.time, event.user) for event in source.decode_many(source.poll(10))]
    [(1.0, 'u2'), (2.0, 'u1')]
    """

    def __init__(self, files: Sequence[Input], pipes: Sequence[PipeInput] = ()) -> None:
        self._files = list(files)
        self._pipes = list(pipes)
        self._by_topic: dict[str, Input | PipeInput] = {file.topic: file for file in files}
        self._by_topic.update({pipe.topic: pipe for pipe in pipes})
        self._counts: dict[str, int] | None = None
        self._sorted: SortedRecords | None = None
        self._seek: dict[Place, int] = {}
        self._stream: Iterator[list[Record]] | None = None
        self._ready: list[Record] = []
        self._next = 0
        self._ended = False

    def topics(self) -> list[Place]:
        """Every input with partition 0, files first."""
        return [(topic, 0) for topic in self._by_topic]

    @property
    def is_sorted_here(self) -> bool:
        """Whether the files were not in order of time, so that this source sorts them."""
        self._survey()
        return self._sorted is not None

    def count(self) -> int | None:
        """Data records (lines and rows, good or bad) in all files; None if a pipe is among the inputs."""
        if self._pipes:
            return None
        return sum(self._survey().values())

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Go to the next offset per input; see `PipeInput` for what this means for a pipe."""
        unknown = sorted(topic for topic, _ in positions if topic not in self._by_topic)
        if unknown:
            raise ConfigError(
                f"{unknown[0]}: the state has read this input, which is not among the inputs now: name it too"
            )
        if any(pipe.codec is not None for pipe in self._pipes):
            raise ConfigError("a pipe that was read from cannot be wound back")
        self._seek = dict(positions)
        self._stream, self._ready, self._next, self._ended = None, [], 0, False

    def poll(self, max_records: int) -> list[Record]:
        """At most `max_records` records; none when a pipe has nothing now, or at the end."""
        if self._stream is None:
            self._stream = self._records()
        if self._next >= len(self._ready) and not self._ended:
            chunk = next(self._stream, None)
            self._ended = chunk is None
            self._ready, self._next = chunk or [], 0
        out = self._ready[self._next : self._next + max_records]
        self._next += len(out)
        return out

    def at_end(self) -> bool:
        """Everything was given; certain only after a `poll` that gave nothing."""
        return self._ended and self._next >= len(self._ready)

    def close(self) -> None:
        """Remove what sorting left on the disk, close pipes."""
        for pipe in self._pipes:
            pipe.close()
        if self._sorted is not None:
            self._sorted.close()

    def line(self, topic: str, offset: int) -> int:
        """Physical line (from 1, the header counted) or Parquet row (from 1) of a record."""
        at = self._sorted.line(topic, offset) if self._sorted and topic in self._sorted.topics else offset
        return at + self._by_topic[topic].header_lines + 1

    def decode(self, record: Record) -> Event | Reject:
        """Read one record with the codec of its file; what is wrong is said with its line."""
        return self._explain(record, self._codec(record.topic).decode(record))

    def decode_many(self, records: Sequence[Record]) -> list[Event | Reject]:
        """Read records in order, each with the codec of its file."""
        decoders = {topic: self._codec(topic).decode for topic in {record.topic for record in records}}
        read = [decoders[record.topic](record) for record in records]
        return [
            one if type(one) is Event else self._explain(record, one)
            for record, one in zip(records, read, strict=True)
        ]

    def _explain(self, record: Record, read: Event | Reject) -> Event | Reject:
        if isinstance(read, Event):
            return read
        return Reject(read.reason, f"line {self.line(record.topic, record.offset)}: {read.detail}")

    def _codec(self, topic: str) -> Codec:
        codec = self._by_topic[topic].codec
        if codec is None:
            raise ConfigError(f"{topic}: nothing was read from it yet")
        return codec

    def _records(self) -> Iterator[list[Record]]:
        if self._files:
            self._survey()
        if self._sorted is not None:
            yield from self._sorted.records(self._seek)
        else:
            for file in self._files:
                yield from filter(None, file.records(self._seek.get((file.topic, 0), 0)))
        for pipe in self._pipes:
            yield from pipe.records(self._seek.get((pipe.topic, 0), 0))

    def _survey(self) -> dict[str, int]:
        """The first pass: records per file, and whether the files together are in order of time."""
        if self._counts is None:
            self._counts = {}
            last = 0.0
            for file in self._files:
                self._counts[file.topic] = 0
                for records in file.records(0):
                    self._counts[file.topic] += len(records)
                    last = last if last == float("inf") else _last_time(file.codec, records, last)
            if last == float("inf"):
                self._sorted = SortedRecords(self._files)
        return self._counts


def _last_time(codec: Codec, records: list[Record], last: float) -> float:
    """Time of the last readable record; inf if one is before another that precedes it."""
    for read in codec.decode_many(records):
        if isinstance(read, Event):
            if read.time < last:
                return float("inf")
            last = read.time
    return last
