"""One test of a fault: a topic with events, a state, daemons on it, and the promises to look at after.

stage.produce(events)              to the topic, by user
stage.daemon("a")                  a member of the group on this stage's state
stage.wait_until_applied()         the newest checkpoint stands at the end of the topic
stage.check()                      nothing lost, nothing doubled, `learned` equals the replay of the journal
"""

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from brokers import Cluster
from daemons import TINY, Daemon, Host
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streamrec.daemon.layout import folder_of
from streamrec.entries import CutEntry, GapSkip
from streamrec.event import Event
from streamrec.eventlog.memory import encode_event
from streamrec.journal import read
from streamrec.lane import JOURNAL, Lane
from streamrec.spans import positions_in
from streamrec.state.reading import read_lane
from streamrec.verbs.opening import kept_lane

SETTINGS: dict[str, Any] = {
    **TINY,
    "checkpoint.every_events": 200,
    "checkpoint.every_s": 0.5,
    "kafka.session_timeout_s": 6.0,
    "kafka.heartbeat_s": 1.0,
    "cut.idle_tick_s": 0.3,
    "cut.live_min_events": 32,
    "cut.live_max_events": 64,
}


def events(n: int, seed: int = 0, users: int = 60, start: float = 1.7e9) -> list[Event]:
    """Users in bursts, in order of time; a user's times differ, so that its sets can be counted."""
    draw, now, out = random.Random(seed), start, []
    last = dict[int, float]()
    for i in range(n):
        now += draw.choice([0.0, 0.0, 1.0, 30.0, 400.0])
        user = draw.randrange(users) ** 2 // users
        now += last.get(user) == now
        last[user] = now
        out.append(Event(f"u{user}", f"m{(user + draw.randrange(4)) % 17}", now, id=f"e{seed}-{i}"))
    return out


class Stage:
    """See above.

    Parameters
    ----------
    host : forks daemons
    cluster : the broker; `bootstrap` is what the daemons are told
    topic, forecasts, letters : names of topics that exist
    partitions : of `topic`
    folder : of this test
    """

    def __init__(
        self,
        host: Host,
        cluster: Cluster,
        topic: str,
        forecasts: str,
        letters: str,
        partitions: int,
        folder: Path,
    ) -> None:
        self.host, self.cluster, self.topic, self.folder = host, cluster, topic, folder
        self.forecasts, self.letters, self.partitions = forecasts, letters, partitions
        self.bootstrap = cluster.bootstrap
        self.settings: dict[str, Any] = dict(SETTINGS)
        self.log: dict[int, list[Event | None]] = {p: [] for p in range(partitions)}
        self.daemons: list[Daemon] = []

    @property
    def state(self) -> Path:
        """Folder of the state."""
        return self.folder / "state"

    def produce(self, what: Iterable[Event]) -> None:
        """Send events, each user's to one partition."""
        producer = KafkaProducer(bootstrap_servers=self.cluster.bootstrap)
        sent = []
        for event in what:
            partition = self.partition_of(event.user)
            self.log[partition].append(event)
            sent.append(producer.send(self.topic, encode_event(event), partition=partition))
        producer.flush()
        producer.close()
        for answer in sent:
            answer.get()

    def partition_of(self, user: str) -> int:
        """Where a user's events go."""
        return sum(user.encode()) % self.partitions

    def daemon(
        self, name: str, group: str = "g", state: Path | None = None, env: Mapping[str, str] | None = None,
        args: Sequence[str] = (), **settings: Any,
    ) -> Daemon:  # fmt: skip
        """Start a member; `settings` are dotted names with `__` for the dot."""
        chosen = {**self.settings, **{key.replace("__", "."): value for key, value in settings.items()}}
        config = self.folder / f"{name}.toml"
        config.write_text(
            _toml({"kafka.bootstrap": [self.bootstrap], "kafka.group": self.topic + group, **chosen})
        )
        outputs = ["--sink", f"kafka:{self.forecasts}", "--dead-letters", f"kafka:{self.letters}"]
        command = ["run", f"kafka://{self.topic}", "-c", str(config), "--state", str(state or self.state)]
        started = self.host.start([*command, *outputs, *args], self.folder, f"{name}.log", env or {})
        self.daemons.append(started)
        return started

    def ends(self) -> dict[int, int]:
        """End offset per partition of the topic."""
        return ends(self.cluster, self.topic)

    def kept(self, state: Path | None = None, lanes: int = 1) -> dict[int, int]:
        """Next offset per partition of the newest checkpoints; empty before the first."""
        found: dict[int, int] = {}
        for number in range(lanes):
            lane = _peek(folder_of(state or self.state, number, lanes))
            found |= {partition: at for (_, partition), at in lane.items()}
        return found

    def wait_until_applied(self, timeout_s: float = 60.0, state: Path | None = None, lanes: int = 1) -> None:
        """Wait until the newest checkpoints stand at the end of the topic."""
        until, ends = time.monotonic() + timeout_s, self.ends()
        while (kept := self.kept(state, lanes)) != ends:
            said = "\n".join(d.said()[-1500:] for d in self.daemons)
            assert time.monotonic() < until, f"after {timeout_s} s at {kept} of {ends}\n{said}"
            time.sleep(0.05)

    def wait_until_kept(self, n: int, timeout_s: float = 30.0, lanes: int = 1) -> None:
        """Wait until checkpoints hold at least `n` records."""
        until = time.monotonic() + timeout_s
        while sum(self.kept(lanes=lanes).values()) < n:
            assert time.monotonic() < until, f"after {timeout_s} s: {self.kept(lanes=lanes)}"
            time.sleep(0.02)

    def end(self) -> None:
        """Stop all daemons in order; every one that still ran ends with exit code 0."""
        running = [daemon for daemon in self.daemons if daemon.code is None]
        for daemon in running:
            daemon.terminate()
        for daemon in running:
            assert daemon.ended(20) == 0, daemon.said()[-3000:]

    def check(self, state: Path | None = None, lanes: int = 1) -> None:
        """Every promise that does not need an undisturbed run; daemons have ended.

        The lanes stand at the end of the topic, or, with fixed rounds, at the end of the last whole round.
        """
        folder, kept = state or self.state, self.kept(state, lanes)
        self.check_offsets(state, lanes)
        lanes_kept = [kept_lane(folder_of(folder, number, lanes)) for number in range(lanes)]
        read = [event for p, end in kept.items() for event in self.log[p][:end]]
        assert _per_user(lanes_kept) == dict(Counter(event.user for event in read if event is not None))
        self.verify(folder)

    def check_offsets(self, state: Path | None = None, lanes: int = 1) -> None:
        """Every record up to the newest checkpoints is in the journals exactly once."""
        covered = Counter[tuple[int, int]]()
        for number in range(lanes):
            covered.update(_offsets(folder_of(state or self.state, number, lanes)))
        kept = self.kept(state, lanes)
        wanted = Counter({(p, offset): 1 for p, end in kept.items() for offset in range(end)})
        assert covered == wanted, _difference(covered, wanted)

    def verify(self, state: Path | None = None) -> None:
        """`streamrec verify` says that the state equals the replay of its own journal."""
        args = ["verify", str(state or self.state), "--against", f"kafka://{self.topic}"]
        done = self.host.start([*args, "--bootstrap", self.cluster.bootstrap], self.folder, "verify.log", {})
        assert done.ended(120) == 0, done.said()[-3000:]

    def learned(self, state: Path | None = None, lanes: int = 1) -> list[str]:
        """Digest per lane of what was learned."""
        folder = state or self.state
        return [kept_lane(folder_of(folder, number, lanes)).learned() for number in range(lanes)]

    def undisturbed(self, lanes: int = 1) -> list[str]:
        """Digests of another run of the topic that nothing disturbs; the same with `cut.mode = fixed`."""
        other = self.folder / "undisturbed"
        calm = self.daemon("undisturbed", group="calm", state=other, args=["--until-end"])
        assert calm.ended(120) == 0, calm.said()[-3000:]
        return self.learned(other, lanes)

    def forecasts_seen(self, isolation: str = "read_committed") -> Counter[str]:
        """How often each forecast id stands in the topic."""
        until, ended = time.monotonic() + 10, ends(self.cluster, self.forecasts)
        reading = {"group_id": None, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        consumer = KafkaConsumer(
            bootstrap_servers=self.cluster.bootstrap, isolation_level=isolation, **reading
        )
        places, seen = {TopicPartition(self.forecasts, p): end for p, end in ended.items()}, Counter[str]()
        consumer.assign(list(places))
        while any(consumer.position(place) < end for place, end in places.items()):
            assert time.monotonic() < until, "the forecasts cannot be read to their end"
            for records in consumer.poll(timeout_ms=100).values():
                seen.update(json.loads(record.value)["id"] for record in records)
        consumer.close()
        return seen


def ends(cluster: Cluster, topic: str) -> dict[int, int]:
    """End offset per partition."""
    consumer = KafkaConsumer(bootstrap_servers=cluster.bootstrap, group_id=None, enable_auto_commit=False)
    places = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
    found = consumer.end_offsets(places)
    consumer.close()
    return {place.partition: found[place] for place in places}


def _peek(folder: Path) -> dict[tuple[str, int], int]:
    try:
        head, loaded = read_lane(folder)
    except Exception:  # not made yet, or being replaced right now: look again
        return {}
    return positions_in(loaded.position) if head["saves"] else {}


def _offsets(folder: Path) -> Iterable[tuple[int, int]]:
    """Every (partition, offset) that the lane's journal says was read or skipped, as often as it says so."""
    _, loaded = read_lane(folder)
    accepted = msgspec.json.decode(loaded.blobs[JOURNAL], type=dict[int, int])
    for at, entry in read(folder, accepted):
        if at.epoch not in accepted:
            continue
        if isinstance(entry, CutEntry):
            yield from ((p, o) for _, p, first, last in entry.reads for o in range(first, last))
        if isinstance(entry, GapSkip):
            yield from ((entry.partition, offset) for offset in range(entry.first, entry.next))


def _per_user(lanes: Sequence[Lane]) -> dict[str, int]:
    """Events per user as the histories count them, and those that wait in an open set."""
    counts: Counter[str] = Counter()
    for lane in lanes:
        users, rows = lane.engine.arena.names_in_order()
        lengths = lane.engine.arena["history.length"][rows].tolist()
        counts.update(dict(zip(users, lengths, strict=True)))
        counts.update(lane.cutter.order.open_users())
    return dict(counts)


def _difference(got: Counter[Any], wanted: Counter[Any]) -> str:
    lost, doubled = wanted - got, got - wanted
    return (
        f"lost {sum(lost.values())} {sorted(lost)[:5]}, doubled {sum(doubled.values())} {sorted(doubled)[:5]}"
    )


def _toml(settings: Mapping[str, Any]) -> str:
    """Dotted names as TOML."""
    return "".join(f"{name} = {_value(value)}\n" for name, value in settings.items())


def _value(value: Any) -> str:
    return json.dumps(value)
