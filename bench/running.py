"""The daemon inside of a benchmark: built as `streamrec run` builds it, and timed by cuts.

Time begins when the warm-up was applied and ends when the lane is closed: its last checkpoint is on the disk
and every forecast is acknowledged.
"""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from broker import Broker
from machine import Clock

from streamrec.cut import Cut
from streamrec.daemon.loop import Daemon
from streamrec.daemon.observer import Observer, Unobserved
from streamrec.daemon.workshop import Plain
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.topics import connect
from streamrec.processor import CutResult
from streamrec.settings import CutSettings, ModelsSettings, Settings
from streamrec.state.writer import ThreadWriter
from streamrec.verbs.consuming import Targets

TINY = ("gamma_poisson", "context_1")
"""A bank as cheap as can be."""


class Rate(NamedTuple):
    """Events per second of the wall, and per second of the processor, all threads of the process together."""

    wall: float
    cpu: float


class Meter:
    """Counts events after a warm-up; the hooks of an observer go through it.

    Parameters
    ----------
    warmup : events that are not counted
    began : called once when the warm-up is over
    """

    def __init__(self, warmup: int, began: Callable[[], object] = lambda: None) -> None:
        self.warmup, self.began = warmup, began
        self.events = self.first = 0
        self.rate = Rate(0.0, 0.0)
        self.began_at = self.ended_at = 0.0
        self._clock = Clock()

    def add(self, events: int) -> None:
        """A cut was applied."""
        self.events += events
        if not self.first and self.events >= self.warmup:
            self.first, self._clock, self.began_at = self.events, Clock(), time.time()
            self.began()

    def end(self) -> None:
        """Everything is done."""
        n, self.ended_at = self.events - self.first, time.time()
        self.rate = Rate(n / self._clock.wall, n / self._clock.cpu)

    def on(self, observer: Observer) -> Observer:
        """An observer whose cuts are counted."""
        applied, closed = observer.applied, observer.closed

        def count(number: int, cut: Cut, result: CutResult) -> None:
            applied(number, cut, result)
            self.add(len(result.batch.mark))

        def end(number: int, kept: bool) -> None:
            closed(number, kept)
            self.end()

        vars(observer).update(applied=count, closed=end)
        return observer


def settings_of(
    where: Broker, models: tuple[str, ...] | None, client: str, group: str, **kafka: Any
) -> Settings:
    """Defaults, but for the bank, the client and how the broker is reached."""
    reached = where.settings(client=client, group=group, **kafka)
    return Settings(
        models=ModelsSettings(enabled=models), kafka=reached, cut=CutSettings(live_max_events=128)
    )


def run_daemon(
    settings: Settings,
    topic: str,
    forecasts: str,
    state: Path,
    observer: Observer | None = None,
    touch: Callable[[Daemon], object] = lambda _: None,
    until_end: bool = True,
) -> None:
    """Be a member until the topic's end, or until `touch` has it stopped."""
    clients, seen = connect(settings.kafka), observer or Unobserved()
    with closing(Targets(f"kafka:{forecasts}", None, settings, clients)) as targets:
        targets.open(partitions=1)  # the topic is there already
        make_writer = getattr(seen, "make_writer", ThreadWriter)
        codec, clock = JsonCodec(FieldNames()), time.monotonic
        shop = Plain(settings, state, targets.plain, codec, clock, seen, make_writer)
        daemon = Daemon(
            clients.member(), [topic], settings, shop, targets.pending, clock, seen, until_end=until_end
        )
        touch(daemon)
        daemon.run()
