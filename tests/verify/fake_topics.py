"""Topics in memory behind the `Reader` protocol, and lanes that learned from them as a live daemon would."""

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

from streamrec.daemon.feeds import LiveFeed
from streamrec.daemon.held import Held
from streamrec.daemon.layout import Layout, by_lane, folder_of, layout_of
from streamrec.daemon.observer import Unobserved
from streamrec.entries import Assigned
from streamrec.errors import BrokerError, OutOfRangeError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import encode_event
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.settings import Settings

TOPIC = "clicks"
TINY = {"models.enabled": ["gamma_poisson", "context_1"]}
"""The smallest bank that both forecasts marks and waits."""


class Cluster:
    """Partitions of one topic as lists of records, with gaps where markers or compacted records were."""

    def __init__(self, partitions: int) -> None:
        self.logs: dict[Place, list[Record]] = {(TOPIC, p): [] for p in range(partitions)}
        self.first: dict[Place, int] = dict.fromkeys(self.logs, 0)
        self.end: dict[Place, int] = dict.fromkeys(self.logs, 0)
        self.id = "first"
        self.now = 1_700_000_000.0

    def send(self, n: int, seed: int, users: int = 24) -> None:
        """More events, keyed by user, with bad records, ties, late ones and markers among them."""
        draw = random.Random(seed)
        for _ in range(n):
            self.now += draw.choice([0.0, 1.0, 1.0, 20.0])
            user = f"u{draw.randrange(users) ** 2 // users}"
            place = (TOPIC, crc32(user.encode()) % len(self.logs))
            value = encode_event(
                Event(user, f"m{draw.randrange(6)}", self.now - draw.choice([0.0] * 9 + [5.0]))
            )
            if draw.random() < 0.03:
                value = b"no event"
            self.end[place] += draw.choice([0] * 15 + [1, 3])  # markers, or records that compaction took
            self._append(place, value, user, round(self.now * 1000) if draw.random() < 0.95 else -1)

    def lose(self, place: Place, offset: int) -> None:
        """Compaction takes the record at an offset."""
        self.logs[place] = [record for record in self.logs[place] if record.offset != offset]

    def trim(self, place: Place, first: int) -> None:
        """Retention takes what is before `first`."""
        self.first[place] = first
        self.logs[place] = [record for record in self.logs[place] if record.offset >= first]

    def _append(self, place: Place, value: bytes, user: str, timestamp_ms: int) -> None:
        self.logs[place].append(Record(*place, self.end[place], value, user.encode(), timestamp_ms))
        self.end[place] += 1


class FakeReader:
    """A `Reader` that fetches a partition at a time, up to `batch` records.

    `n_assigned` counts the calls that cost a seek.
    """

    def __init__(self, cluster: Cluster, batch: int = 50) -> None:
        self.cluster, self.batch = cluster, batch
        self.at: dict[Place, int] = {}
        self.turn = 0
        self.n_assigned = 0
        self.closed = False

    def places(self, topics: Sequence[str]) -> list[Place]:
        """Partitions of the topic."""
        if list(topics) != [TOPIC]:
            raise BrokerError(f"topic {topics[0]} does not exist")
        return list(self.cluster.logs)

    def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        """What is there."""
        return {place: Bounds(self.cluster.first[place], self.cluster.end[place]) for place in places}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The id."""
        return dict.fromkeys(topics, self.cluster.id)

    def assign(self, positions: Mapping[Place, int]) -> None:
        """Read these."""
        self.at, self.n_assigned = dict(positions), self.n_assigned + 1

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Records of the next partition that has some; markers behind its last one are passed, too."""
        for _ in self.at:
            self.turn += 1
            place = sorted(self.at)[self.turn % len(self.at)]
            if self.at[place] < self.cluster.first[place]:
                raise OutOfRangeError(f"{place}: gone", {place: self.at[place]})
            rest = [record for record in self.cluster.logs[place] if record.offset >= self.at[place]]
            found = rest[: min(max_records, self.batch)]
            self.at[place] = found[-1].offset + 1 if len(found) < len(rest) else self.cluster.end[place]
            if found:
                return found
        return []

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        """Where they are read on."""
        return {place: self.at[place] for place in places}

    def close(self) -> None:
        """Give back nothing."""
        self.closed = True


class FakeClients:
    """What `connect` gives."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def reader(self) -> FakeReader:
        """A new reader."""
        return FakeReader(self.cluster)


def layout_now(cluster: Cluster, lanes: int) -> Layout:
    """The layout of the cluster."""
    return layout_of(lanes, list(cluster.logs), {TOPIC: cluster.id})


class Living:
    """Lanes of one state folder that learn as the daemon's loop has them learn; records come in random turns.

    Parameters
    ----------
    cluster : the topic
    state : folder of all lanes
    settings : of the lanes
    seed : of the order in which records come, and of the pauses between them
    """

    def __init__(self, cluster: Cluster, state: Path, settings: Settings, seed: int) -> None:
        self.cluster, self.now, self.draw = cluster, 0.0, random.Random(seed)
        lanes = settings.kafka.lanes
        groups = by_lane(cluster.logs, lanes)
        self.held = {n: self._hold(state, n, places, settings) for n, places in groups.items()}

    def _hold(self, state: Path, number: int, places: list[Place], settings: Settings) -> Held:
        lane = Lane(settings, Outputs(), clock_of=own_clock, number=number)
        lane.open(folder_of(state, number, settings.kafka.lanes))
        at = lane.positions
        lane.turn(Assigned(tuple((*p, at.get(p, self.cluster.first[p])) for p in places)))
        lane.layout = layout_now(self.cluster, settings.kafka.lanes).to_bytes()
        feed = LiveFeed(lane.cutter, places, settings.cut, self.clock)
        return Held(
            number, lane, places, feed, JsonCodec(FieldNames()).decode_many, self.clock, 1e9, Unobserved()
        )

    def clock(self) -> float:
        """The tests' time."""
        return self.now

    def read(self, until: Mapping[Place, int] | None = None) -> None:
        """Read all partitions to their ends, or up to `until`."""
        left = {place: self._left(place, until) for place in self.cluster.logs}
        while any(left.values()):
            place = self.draw.choice([place for place, records in left.items() if records])
            n = self.draw.randrange(1, 40)
            held = next(held for held in self.held.values() if place in held.places)
            held.take(left[place][:n])
            left[place] = left[place][n:]
            self.now += self.draw.choice([0.0, 0.01, 0.1, 2.0])
            held.feed.looked(dict.fromkeys(held.places, self.draw.choice([0, 0, 100])))
            held.work()

    def rest(self) -> None:
        """Wait until every cut that is being made is closed."""
        self.now += 1.0
        for held in self.held.values():
            held.work()

    def keep(self) -> None:
        """Checkpoints of all lanes, which go on."""
        for held in self.held.values():
            assert held.keep()

    def close(self) -> None:
        """Finish and keep all lanes."""
        with ExitStack() as stack:
            for held in self.held.values():
                stack.callback(held.lane.close)
                assert held.finish()

    def _left(self, place: Place, until: Mapping[Place, int] | None) -> list[Record]:
        at = next(held.read[place] for held in self.held.values() if place in held.places)
        end = self.cluster.end[place] if until is None else until[place]
        return [record for record in self.cluster.logs[place] if at <= record.offset < end]
