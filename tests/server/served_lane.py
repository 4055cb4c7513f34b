"""A small lane with a log in memory, driven by the test, and a client for a real server."""

import json
import time
from collections.abc import Iterable, Iterator
from functools import partial
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from streamrec.cut import Cut
from streamrec.event import Event
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource, encode_event
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.processor import CutResult
from streamrec.server import Server
from streamrec.settings import load_settings
from streamrec.stream import NOBODY, Coded, Events, Watcher, drive
from streamrec.telemetry import Telemetry
from streamrec.verbs.serving import Watch


class Ticking:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Reply(NamedTuple):
    """What a server said."""

    code: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


def get(server: Server, path: str) -> Reply:
    """GET a path of a server."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Reply(response.status, response.read())
    finally:
        connection.close()


def new_lane(**flags: Any) -> Lane:
    """A lane with few models and short cuts."""
    given = {name.replace("__", "."): value for name, value in flags.items()}
    few = {"models.enabled": ["gamma_poisson", "context_1"], "cut.cut_events": 32}
    return Lane(load_settings(None, {**few, **given}, {}), Outputs())


def values(n: int = 600, seed: int = 0) -> dict[tuple[str, int], list[bytes | None]]:
    """Two partitions of good, late, duplicate, blank and refused records."""
    rng = np.random.default_rng(seed)
    log: dict[tuple[str, int], list[bytes | None]] = {("clicks", 0): [], ("clicks", 1): []}
    for i in range(n):
        partition = int(rng.integers(2))
        user, mark = f"u{partition}{rng.integers(8)}", f"m{rng.integers(6)}"
        time = 60.0 * i - (3600.0 if rng.random() < 0.03 else 0.0) + 1e6
        same = "same" if rng.random() < 0.05 else f"e{i}"
        odd: dict[float, bytes | None] = {0.0: b"not json", 1.0: None, 2.0: b" ", 3.0: b'{"user": "u"}'}
        draw = float(rng.integers(40))
        log["clicks", partition].append(
            odd[draw] if draw in odd else encode_event(Event(user, mark, time, id=same))
        )
    return log


def results(lane: Lane, log: dict[tuple[str, int], list[bytes | None]], watcher: Watcher = NOBODY
            ) -> Iterator[CutResult]:  # fmt: skip
    """The loop over a log in memory."""
    source = MemorySource(log)
    return drive(Events(Coded(source, JsonCodec(FieldNames())), poll_events=50), lane, watcher)


def watched(lane: Lane, server: Server, clock: Ticking) -> Watch:
    """Telemetry and a server over a lane, with the clock of the test."""
    return Watch(lane, Telemetry(CollectorRegistry(), clock, lambda: 5e8), server)


class Told:
    """Telemetry of one lane that drives a log in memory; a watcher of the loop."""

    def __init__(self, lane: Lane, clock: Ticking | None = None) -> None:
        self.lane = lane
        self.telemetry = Telemetry(CollectorRegistry(), clock or time.monotonic, lambda: 5e8)
        self.telemetry.add(0, lane)
        self.between, self.render = self.telemetry.resume, self.telemetry.render
        self.reading = partial(self.telemetry.reading, 0)
        self.applied = partial(self.telemetry.applied, 0)
        self.open = partial(self.telemetry.open, 0, lane)

    def applying(self, cut: Cut) -> None:
        """A cut is about to be applied."""
        self.telemetry.applying()


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a scraped text, by name and labels."""
    families: Iterable[Any] = text_string_to_metric_families(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def of_name(text: bytes, name: str, lane: str = "0") -> dict[tuple[str, ...], float]:
    """Samples of one metric, of a lane if it is of lanes, by its other labels in the order of their names."""
    return {
        tuple(v for name, v in sorted(labels) if name != "lane"): value
        for (found, labels), value in samples(text).items()
        if found == "streamrec_" + name and dict(labels).get("lane", lane) == lane
    }
