"""Metrics and queries while a lane runs: the loop's watcher with a server beside it.

Imported only when a port is set, since it brings fastapi and uvicorn.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from rich.console import Console

from streamrec.cut import Cut
from streamrec.diary import Diary
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.lane import Lane
from streamrec.logs import logging_as
from streamrec.processor import CutResult
from streamrec.server import Server, status_of
from streamrec.settings import Settings
from streamrec.telemetry import LoopState, Telemetry


class Watch:
    """Sees the loop at work, and shows it to the outside.

    Parameters
    ----------
    lane : that the loop drives
    telemetry : its metrics
    server : its server; told of every tick, and handed a new text at most once a second
    """

    def __init__(self, lane: Lane, telemetry: Telemetry, server: Server) -> None:
        self.lane, self.telemetry, self.server = lane, telemetry, server
        self.enter("starting")

    def open(self, folder: Path) -> bool:
        """Open the lane's state folder; see `Lane.open`."""
        self.enter("restoring")
        return self.telemetry.open(folder)

    def enter(self, state: LoopState) -> None:
        """The loop comes into another state; shown at once."""
        self.telemetry.state = self.server.shown.state = state
        self.server.tick()
        self._show()

    def reading(
        self, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Iterator[tuple[Record, Event | Reject]]:
        """Decoded records pass."""
        return self.telemetry.reading(pairs)

    def applying(self, cut: Cut) -> None:
        """A cut is about to be applied."""
        self.telemetry.applying(cut)

    def applied(self, cut: Cut, result: CutResult) -> None:
        """A cut was applied."""
        self.telemetry.applied(cut, result)

    def between(self) -> None:
        """Between two cuts: a sign of life, answers, and now and then a new text."""
        self.server.tick()
        self.server.answer(self.lane)
        if self.telemetry.due():
            self._show()
        self.telemetry.resume()

    def _show(self) -> None:
        self.server.show(self.telemetry.render(), status_of(self.lane))


@contextmanager
def serving(lane: Lane, console: Console) -> Iterator[Watch]:
    """Serve a lane under its settings while the block runs; the address is printed.

    Raises
    ------
    ConfigError
        If the address cannot be had.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    with Server(lane.settings.http, time.monotonic) as server:
        watch = Watch(lane, Telemetry(lane, registry), server)
        console.print(f"serving {server.start()}/metrics")
        yield watch


@contextmanager
def watching(settings: Settings, console: Console | None = None) -> Iterator[Diary]:
    """An observer for the daemon while the block runs: log lines, and metrics and queries if a port is set.

    Its `make_writer` makes the writers of checkpoints.

    Raises
    ------
    ConfigError
        If the address cannot be had.
    """
    with logging_as(settings.log) as lines:
        yield Diary(lines)
