"""Metrics, queries and log lines while lanes run: `serving` for files, `watching` for the daemon.

The server brings fastapi and uvicorn, so it is imported only when a port is set.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from rich.console import Console

from streamrec import __version__
from streamrec.cut import Cut
from streamrec.diary import Diary
from streamrec.errors import StreamrecError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.lane import Lane
from streamrec.logs import Lines, current, logging_as
from streamrec.processor import CutResult
from streamrec.settings import Settings, shaping_fingerprint
from streamrec.status import status_of
from streamrec.telemetry import LoopState, Telemetry

if TYPE_CHECKING:
    from streamrec.server import Server

FILES = 0
"""Number of the one lane of a run over files."""


class Watch:
    """Sees the loop over a file at work, and shows it to the outside.

    Parameters
    ----------
    lane : that the loop drives
    telemetry : its metrics
    server : its server; told of every tick, and handed a new text at most once a second
    """

    def __init__(self, lane: Lane, telemetry: Telemetry, server: "Server") -> None:
        self.lane, self.telemetry, self.server = lane, telemetry, server
        telemetry.add(FILES, lane)
        self.enter("starting")

    def open(self, folder: Path) -> bool:
        """Open the lane's state folder; see `Lane.open`."""
        self.enter("restoring")
        return self.telemetry.open(FILES, self.lane, folder)

    def enter(self, state: LoopState) -> None:
        """The loop comes into another state; shown at once."""
        self.telemetry.state = state
        self.server.enter(state, "" if state == "running" else state)
        self._show()

    def reading(
        self, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Iterable[tuple[Record, Event | Reject]]:
        """Decoded records pass."""
        return self.telemetry.reading(FILES, pairs)

    def applying(self, cut: Cut) -> None:
        """A cut is about to be applied."""
        self.telemetry.applying()

    def applied(self, cut: Cut, result: CutResult) -> None:
        """A cut was applied."""
        self.telemetry.applied(FILES, cut, result)

    def between(self) -> None:
        """Between two cuts: a sign of life, answers, and now and then a new text."""
        self.server.tick()
        self.server.answer({FILES: self.lane})
        if self.telemetry.due():
            self._show()
        self.telemetry.resume()

    def _show(self) -> None:
        status = {
            "version": __version__,
            "settings": shaping_fingerprint(self.lane.settings),
            "lanes": [status_of(FILES, self.lane)],
        }
        self.server.show(self.telemetry.render(), status)


@contextmanager
def serving(lane: Lane, console: Console) -> Iterator[Watch]:
    """Serve a lane under its settings while the block runs; the address is printed.

    Raises
    ------
    ConfigError
        If the address cannot be had.
    """
    with _server(lane.settings, console) as server:
        yield Watch(lane, _telemetry(current()), server)


@contextmanager
def watching(settings: Settings, console: Console | None = None) -> Iterator[Diary]:
    """An observer for the daemon while the block runs: log lines, and metrics and queries if a port is set.

    Its `make_writer` makes the writers of checkpoints. An error that ends the block is logged, and raised.

    Raises
    ------
    ConfigError
        If the address cannot be had.
    """
    with logging_as(settings.log) as lines:
        if settings.http.port is None:
            with _ending(Diary(lines)) as diary:
                yield diary
            return
        from streamrec.watching import Watching  # noqa: PLC0415 (fastapi only where it is asked for)

        with (
            _server(settings, console or Console(stderr=True)) as server,
            _ending(Watching(settings, _telemetry(lines), server)) as watch,
        ):
            yield watch


@contextmanager
def _ending(diary: Diary) -> Iterator[Diary]:
    """Tell the diary of the error that ends the block."""
    try:
        yield diary
    except StreamrecError as error:
        diary.ended(error)
        raise


@contextmanager
def _server(settings: Settings, console: Console) -> "Iterator[Server]":
    """A server that listens; its address is printed."""
    from streamrec.server import Server  # noqa: PLC0415 (fastapi only where it is asked for)

    with Server(settings.http) as server:
        console.print(f"serving {server.start()}/metrics")
        yield server


def _telemetry(lines: Lines | None) -> Telemetry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return Telemetry(registry, lines=lines)
