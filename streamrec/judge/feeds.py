"""What a judge reads: a log that may be opened again, and files of forecasts.

A finite log ends; one that is followed is opened again behind its end, so that what was added since comes.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from streamrec.errors import ConfigError
from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.lines import line_lists
from streamrec.places import check_sum
from streamrec.rejoin import Rejoin


class Readable(Protocol):
    """What a feed needs of a log (`stream.Log`, `eventlog.base.Source`)."""

    def seek(self, positions: Mapping[Place, int]) -> None: ...
    def poll(self, max_records: int) -> list[Record]: ...
    def at_end(self) -> bool: ...
    def close(self) -> None: ...


L = TypeVar("L", bound=Readable)


class Feed(Generic[L]):
    """A log read on from where it was left, and opened again at its end if more may come.

    Parameters
    ----------
    make : opens the log up to where it ends now
    positions, checks : next offsets, and the check sums of the records before them where known
    checked : whether the record read last has to be there still, as in a file, to go on behind it

    Raises
    ------
    StateError
        From `read`, if the log is not the one that was read, by these check sums.
    """

    def __init__(
        self,
        make: Callable[[], L],
        positions: Mapping[Place, int],
        checks: Mapping[Place, int],
        checked: bool = True,
    ) -> None:
        self._make, self._checked = make, checked
        self.positions, self.checks = dict(positions), dict(checks)
        self._open(make())

    def _open(self, log: L) -> None:
        self.log, self.ended = log, False
        self._rejoin = Rejoin(self.positions, self.checks if self._checked else {})
        log.seek(self._rejoin.start)

    def read(self, n: int) -> list[Record]:
        """At most n further records; if there are none, `ended` says whether that is all."""
        polled = self.log.poll(n)
        if not polled and self.log.at_end():
            if not self.ended:
                self._rejoin.end()
            self.ended = True
        records = self._rejoin.fresh(polled)
        for topic, partition, offset, value, _, _ in records:
            self.positions[topic, partition] = offset + 1
            self.checks[topic, partition] = check_sum(value)
        return records

    def again(self) -> None:
        """Go on behind the end: close the log and open it anew."""
        self.close()
        self._open(self._make())

    def close(self) -> None:
        """Close the log."""
        self.log.close()


class ForecastFile:
    """Lines of files, plain, gzip or zstd, as records; each file is a topic with partition 0.

    A last line without its end is being written, and is left for the next time.

    Parameters
    ----------
    paths : files of forecasts, read one after the other

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "forecasts.jsonl"
    >>> _ = path.write_bytes(b'{"a":1}\\n{"b"')
    >>> [record.value for record in ForecastFile([path]).poll(10)]
    [b'{"a":1}']
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.is_file():
                raise ConfigError(f"{path}: no such file; give a file of forecasts or kafka://TOPIC")
        self._paths = list(paths)
        self.seek({})

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Go to the next line per file."""
        self._lines = self._read(dict(positions))
        self._ready: list[Record] = []
        self._ended = False

    def poll(self, max_records: int) -> list[Record]:
        """At most `max_records` further lines."""
        while len(self._ready) < max_records and not self._ended:
            more = next(self._lines, None)
            self._ended = more is None
            self._ready += more or []
        out, self._ready = self._ready[:max_records], self._ready[max_records:]
        return out

    def at_end(self) -> bool:
        """Every line was given."""
        return self._ended and not self._ready

    def close(self) -> None:
        """Nothing is held open."""
        self._lines.close()

    def _read(self, positions: dict[Place, int]) -> Generator[list[Record], None, None]:
        for path in self._paths:
            offset, first = 0, positions.get((str(path), 0), 0)
            held: list[bytes] = []
            for lines in line_lists(str(path)):
                yield [Record(str(path), 0, offset + i, x) for i, x in enumerate(held) if offset + i >= first]
                offset, held = offset + len(held), lines
            held = [line for line in held if _is_whole(line)]
            yield [Record(str(path), 0, offset + i, x) for i, x in enumerate(held) if offset + i >= first]


def _is_whole(line: bytes) -> bool:
    """Whether a last line without its end is complete: no part of a JSON object is one."""
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
