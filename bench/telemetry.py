"""What watching costs: the share of the daemon's loop, and a text of 64 partitions.

    share   CPU time inside of the observer / CPU time of the whole loop
    text    rendering all metrics between two cuts, the lines and bytes of it, and one GET /metrics

A lane of 64 partitions with the default bank; the loop is made of the daemon's own parts, without a broker.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

from machine import Clock, digits, machine, small_wanted, spread
from prometheus_client import CollectorRegistry, ProcessCollector
from stream import chained

from streamrec.daemon.held import Held
from streamrec.daemon.observer import Observer
from streamrec.daemon.workshop import Plain
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySink, encode_event
from streamrec.outputs import Outputs
from streamrec.server import Server
from streamrec.settings import HttpSettings, Settings, load_settings
from streamrec.telemetry import Telemetry
from streamrec.watching import Watching

PARTITIONS = 64
POLL = 500
HEARD = ("reading", "applying", "applied", "polled", "looked", "pending", "between")


class Timed:
    """An observer whose calls are timed."""

    def __init__(self, watch: Watching) -> None:
        self.watch, self.cpu_s = watch, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.watch, name)
        return self._timed(found) if name in HEARD else found

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*arguments)
            finally:
                self.cpu_s += time.thread_time() - began

        return timed


def records(events: list[Event]) -> list[Record]:
    """Events as records of the topic, a user's all in one partition."""
    offsets = [0] * PARTITIONS
    out = []
    for event in events:
        partition = int(event.user.removeprefix("u")) % PARTITIONS
        now_ms, value = int(time.time() * 1000), encode_event(event)
        out.append(Record("clicks", partition, offsets[partition], value, None, now_ms))
        offsets[partition] += 1
    return out


def polls(log: list[Record]) -> Iterator[list[Record]]:
    """What polls give: some records, grouped by partition."""
    for at in range(0, len(log), POLL):
        yield sorted(log[at : at + POLL], key=lambda record: record.partition)


def loop(held: Held, observer: Timed, log: list[Record]) -> float:
    """The daemon's loop over what was polled; its CPU time."""
    began, looked = time.thread_time(), 0.0
    for polled in polls(log):
        observer.polled(len(polled))
        held.take(polled)
        held.work()
        if time.monotonic() - looked > 1.0:
            looked, at = time.monotonic(), dict(held.lane.positions)
            observer.looked({place: Bounds(0, end + 9) for place, end in at.items()}, at, at)
        observer.pending(0)
        observer.between()
    return time.thread_time() - began


def settings(small: bool) -> Settings:
    """The default bank, or two models."""
    few = {"models.enabled": ["gamma_poisson", "context_1"]} if small else {}
    return load_settings(None, {"cut.linger_s": 0.0, **few}, {})


def main(small: bool = False) -> dict[str, Any]:
    """The share of the loop, then the text."""
    given, n = settings(small), 3000 if small else 60_000
    log = records(chained(n, n // 20, 100))
    places: list[Place] = [("clicks", partition) for partition in range(PARTITIONS)]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    with tempfile.TemporaryDirectory() as folder, Server(HttpSettings(port=0)) as server:
        watch = Watching(given, Telemetry(registry), server)
        timed, outputs = Timed(watch), Outputs(MemorySink())
        shop = Plain(
            given, Path(folder), lambda _: outputs, JsonCodec(FieldNames()), time.monotonic,
            cast(Observer, timed), watch.make_writer,
        )  # fmt: skip
        lane = shop.restore(0)
        held = shop.hold(0, lane, places)
        watch.rebalanced("assigned", places)
        watch.opened(0, lane, 0.0)
        half = len(log) // 2
        loop(held, timed, log[:half])  # kernels are compiled, tables have their size
        timed.cpu_s = 0.0
        whole_s = loop(held, timed, log[half:])
        texts = [_seconds(watch.telemetry.render) for _ in range(5 if small else 30)]
        watch.entered("running")
        url = server.start() + "/metrics"
        gets = [_seconds(lambda: urlopen(url).read()) for _ in range(5 if small else 30)]
        size = len(server.shown.metrics)
        n_lines = server.shown.metrics.count(b"\n")
        lane.close()
    return {
        "bench": "telemetry",
        "events": n // 2,
        "partitions": PARTITIONS,
        "models": len(lane.engine.models),
        "share_of_loop": digits(timed.cpu_s / whole_s),
        "us_per_event": {"observer": digits(2e6 * timed.cpu_s / n), "loop": digits(2e6 * whole_s / n)},
        "text_ms": spread([1e3 * seconds for seconds in texts]),
        "get_ms": spread([1e3 * seconds for seconds in gets]),
        "text": {"lines": n_lines, "bytes": size},
        "machine": machine(),
    }


def _seconds(call: Callable[[], object]) -> float:
    clock = Clock()
    call()
    return clock.wall


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
