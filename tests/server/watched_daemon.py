"""Lanes held as the daemon holds them, watched, with the test as the loop."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from served_lane import Reply, Ticking, get

from streamrec.daemon.workshop import Plain
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySink, encode_event
from streamrec.logs import Lines
from streamrec.outputs import Outputs
from streamrec.server import Server
from streamrec.settings import HttpSettings, load_settings
from streamrec.telemetry import Telemetry
from streamrec.watching import Watching

FEW = {
    "models.enabled": ["gamma_poisson", "context_1"],
    "kafka.lanes": 2,
    "cut.linger_s": 0.0,
    "checkpoint.every_events": 40,
}
EPOCH = 1.6e9


def place_of(number: int) -> Place:
    """Two lanes of one partition each."""
    return "clicks", number


def records(number: int, first: int, n: int) -> list[Record]:
    """Good, late, duplicate, blank and refused records of a partition, stamped half a second ago."""
    odd: dict[int, bytes] = {3: b"not json", 11: b" ", 17: b'{"user": "u"}'}
    out = []
    for i in range(first, first + n):
        time = EPOCH - 1e5 + 60.0 * i - (600.0 if i % 23 == 22 else 0.0)
        event = Event(f"u{number}{i % 7}", f"m{i % 5}", time, id="same" if i % 29 == 28 else f"e{i}")
        value = odd.get(i % 31) or encode_event(event)
        out.append(Record("clicks", number, i, value, b"key", int((EPOCH + 999.5) * 1000)))
    return out


class Scene:
    """The parts of a daemon that an observer hears of, driven by hand.

    Parameters
    ----------
    state : folder of all lanes
    flags : settings besides `FEW`
    """

    def __init__(self, state: Path, lines: Lines | None = None, **flags: Any) -> None:
        given = {name.replace("__", "."): value for name, value in flags.items()}
        self.settings = load_settings(None, {**FEW, **given}, {})
        self.clock = Ticking()
        self.server = Server(HttpSettings(port=0, stall_s=60.0, answer_s=20.0), self.clock)
        telemetry = Telemetry(CollectorRegistry(), self.clock, self.wall, lines)
        self.watch = Watching(self.settings, telemetry, self.server)
        self.server.start()
        self.sinks = {n: MemorySink() for n in (0, 1)}
        self.shop = Plain(
            self.settings, state, lambda n: Outputs(self.sinks[n]), JsonCodec(FieldNames()),
            self.clock, self.watch, self.watch.make_writer,
        )  # fmt: skip
        self.held = {}
        self.read = {0: 0, 1: 0}

    def wall(self) -> float:
        """The time of day."""
        return EPOCH + self.clock.now

    def join(self) -> None:
        """Begin as the loop does: into the group, and one poll that gives nothing."""
        self.watch.entered("starting")
        self.watch.polled(0)
        self.watch.entered("running")

    def open(self, *numbers: int) -> None:
        """Be given partitions and open their lanes."""
        places = [place_of(number) for number in numbers]
        self.watch.rebalanced("assigned", places)
        self.watch.paused("restoring", True)
        self.watch.entered("restoring")
        self.turn()
        for number in numbers:
            lane = self.shop.restore(number)
            self.held[number] = self.shop.hold(number, lane, [place_of(number)])
            self.watch.opened(number, lane, 0.25)
        self.watch.paused("restoring", False)
        self.watch.entered("running")
        self.turn()

    def close(self, *numbers: int, reason: str = "revoked") -> None:
        """Lose partitions, and give their lanes up."""
        self.watch.rebalanced(reason, [place_of(number) for number in numbers])
        for number in numbers:
            held = self.held.pop(number)
            kept = held.finish() and held.lane.close(10.0)
            self.watch.closed(number, kept)
        self.turn()

    def work(self, n: int = 100) -> None:
        """Poll n records of every lane and make the steps that are due."""
        for number, held in self.held.items():
            polled = records(number, self.read[number], n)
            self.read[number] += n
            self.watch.polled(n)
            held.take(polled)
            held.work()
        self.look()
        self.turn()

    def look(self, behind: int = 5) -> None:
        """Look at the log, which holds some more."""
        at = {place_of(n): held.lane.positions.get(place_of(n), 0) for n, held in self.held.items()}
        self.watch.looked(
            {place: Bounds(0, offset + behind) for place, offset in at.items()},
            at,
            {place: offset // 2 for place, offset in at.items()},
        )

    def turn(self) -> None:
        """A second later the loop is between two pieces of work."""
        self.clock.now += 1.0
        self.watch.pending(3)
        self.watch.between()

    def get(self, path: str) -> Reply:
        """GET a path of the server."""
        return get(self.server, path)

    def ask(self, path: str) -> Reply:
        """GET a path while the loop stands between two cuts."""
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(get, self.server, path)
            while not reply.done():
                self.watch.between()
            return reply.result()

    @property
    def text(self) -> bytes:
        """What is scraped."""
        return self.get("/metrics").body

    def end(self) -> None:
        """Give everything back."""
        for number in [*self.held]:
            self.close(number)
        self.server.close()
