"""One seed: a broker, a group, processes that run the daemon's own loop, and a schedule of faults.

    fault phase   steps: write, strike, background work, one turn of one process; the clock goes on
    calm phase    no faults, all processes healthy, until everything was read; bounded in turns
    end           every process stops as on SIGTERM; `checks` looks at what is left

All randomness comes from the seed; the trace of what happened is hashed, and the same seed gives the same.
"""

import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from faults import Faults, Killed, drawn, listen, listen_no_more
from group import Group
from processes import Process
from scenario import Scenario
from sim_broker import Broker
from sim_clients import InstanceFencedError
from virtual_clock import VirtualClock
from workload import Workload

from streamrec.daemon.layout import Layout
from streamrec.errors import FencedError, StreamrecError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit
from streamrec.lane import Lane
from streamrec.state import store
from streamrec.state.fingerprint import machine_fingerprint
from streamrec.state.lanefile import PREPARED

CALM_TURNS, CALM_LIVES = 800, 4
THIS_MACHINE = cache(machine_fingerprint)
"""Asked at every opening, and slow: it reads files about the packages."""


class World:
    """The world of one seed.

    Parameters
    ----------
    seed : decides everything
    folder : for state, empty
    planted : a bug, planted into every process's daemon
    """

    def __init__(self, seed: int, folder: Path, planted: Callable[[Any], None] | None = None) -> None:
        self.seed, self.folder, self.planted = seed, folder, planted
        self.draw = random.Random(f"world {seed}")
        self.scenario = Scenario.drawn(random.Random(f"scenario {seed}"))
        self.settings = self.scenario.settings
        self.clock, self.broker, self.faults = VirtualClock(), Broker(), Faults()
        for topic in self.scenario.topics:
            self.broker.make(topic, self.scenario.partitions)
        self.group = Group(self.settings.kafka, self.broker.places)
        self.clock.listeners += [self.group.tick, self.broker.expire]
        self.workload = Workload(self.broker, random.Random(f"work {seed}"), self.scenario.n_events)
        self.processes: list[Process] = []
        self.everybody: list[Process] = []
        self.current: list[Process] = []
        self.durable: dict[Place, int] = {}
        self.remade: set[str] = set()
        self.begun: dict[int, dict[int, dict[str, int]]] = {}
        self.trimmed = self.widened = False
        self.not_kept = 0
        self.turns = 0
        self._restarts: list[tuple[float, str | None]] = []
        self._strikes = self.scenario.strikes(self.draw)
        self._names = 0
        self._inside = False
        self._trace = hashlib.sha256()
        self.log: list[str] | None = None

    def run(self) -> None:
        """Both phases, and the end; raises what breaks the rules."""
        self.faults.planned = [drawn(self.draw, self.stall) for _ in range(self.scenario.n_faults)]
        listen(self._hit)
        try:
            with (
                patch.object(Lane, "open", self._opening(Lane.open)),
                patch.object(store, "machine_fingerprint", THIS_MACHINE),
            ):
                self._phases()
        finally:
            listen_no_more()
            for process in self.everybody:
                process.close_files()

    def _phases(self) -> None:
        for instance in self.scenario.instances:
            self.start(instance)
        step = 0
        while self.workload.left > 0 or step < self.scenario.steps:
            self.step(step)
            step += 1
        for _ in range(CALM_LIVES):
            self._calm()
            if self._end():
                return
        raise AssertionError(f"a lane was not kept at the end of {CALM_LIVES} undisturbed lives")

    def _opening(self, really: Callable[..., bool]) -> Callable[..., bool]:
        """`Lane.open` that also tells the process whose lane it is."""

        def opened(lane: Lane, *args: Any) -> bool:
            self.current[-1].opens(lane)
            found = really(lane, *args)
            self.durable.update(lane.positions)  # also what was written by one that died before it knew
            return found

        return opened

    def note(self, *what: object) -> None:
        """One line of the trace."""
        line = f"{self.clock.now:.6f} {' '.join(map(str, what))}"
        self._trace.update(line.encode() + b"\n")
        if self.log is not None:
            self.log.append(line)

    @property
    def trace(self) -> str:
        """Hash of everything that happened."""
        return self._trace.hexdigest()

    def start(self, instance: str | None) -> Process:
        """A process begins."""
        self._names += 1
        process = Process(f"p{self._names}", self, instance)
        self.processes.append(process)
        self.everybody.append(process)
        self.note("start", process.name, instance)
        self._guarded(process, process.daemon.begin)
        return process

    def step(self, number: int) -> None:
        """One step of the fault phase."""
        if self.draw.random() < 0.45:
            self.workload.burst(self.clock.now)
        while self._strikes and self._strikes[0][0] <= number and not self._inside:
            self._strike(self._strikes.pop(0)[1])
        self._go_on()

    def stall(self, point: str, process: Process) -> None:
        """A process stands still in the middle of a step, longer than its session, and then goes on."""
        if self._inside:
            return
        self._inside = process.frozen = process.late = True
        if len(self.processes) == 1 or self.draw.random() < 0.3:
            self.start(None)
        until = self.clock.now + self.settings.kafka.session_timeout_s * self.draw.choice([1.2, 3.0])
        while self.clock.now < until:
            self._go_on()
            self.clock.advance(0.1)
        self._inside = process.frozen = False
        self.note("awake", process.name)

    def committed(self, commits: Mapping[Place, Commit]) -> None:
        """The group was told offsets: never ahead of what is on the disk."""
        if self.settings.kafka.transactions:
            return
        for place, commit in commits.items():
            if place[0] not in self.remade and commit.offset > self.durable.get(place, 0):
                raise AssertionError(f"{place}: {commit.offset} committed, {self.durable} is on the disk")

    def _hit(self, name: str) -> None:
        if self.current:
            self.current[-1].point("step." + name)

    def _go_on(self) -> None:
        """Background work of all, then a turn of one."""
        self.clock.advance(self.draw.choice([0.0, 0.0, 0.01, 0.3]))
        for at, instance in [due for due in self._restarts if due[0] <= self.clock.now]:
            self._restarts.remove((at, instance))
            self.start(instance)
        if self.clock.now >= self.broker.down_until > 0.0:
            self.group.breathe(self.clock.now)
            self.broker.down_until = 0.0
        for process in list(self.processes):
            if process.breathes:
                self._guarded(process, process.work_behind)
        ready = [process for process in self.processes if process.runs(self.clock.now)]
        if ready:
            process = self.draw.choice(ready)
            self.turns += 1
            self._guarded(process, process.daemon.turn)
        else:
            self.clock.advance(0.1)

    def _guarded(self, process: Process, job: Callable[[], None]) -> None:
        """Run a piece of a process's code; it may be killed in it, or end."""
        if not process.alive:
            return
        self.current.append(process)
        try:
            job()
        except Killed:
            self._bury(process)
        except InstanceFencedError:
            self.note("ends", process.name)
            process.die()
            self._bury(process, again=False)
        except StreamrecError as error:
            raise AssertionError(
                f"{process.name}: the daemon ended: {type(error).__name__}: {error}"
            ) from error
        finally:
            self.current.pop()

    def _bury(self, process: Process, again: bool = True) -> None:
        self.note("dead", process.name)
        process.close_files()
        self.processes.remove(process)
        if again:
            self._restarts.append((self.clock.now + self.draw.choice([0.2, 1.0, 5.0]), process.instance))

    def _strike(self, kind: str) -> None:
        awake = [process for process in self.processes if process.runs(self.clock.now)]
        if not getattr(self, "_do_" + kind.replace(" ", "_"))(awake):
            return
        self.faults.fired[kind] += 1
        self.note("strike", kind)

    def _do_killed(self, awake: list[Process]) -> bool:
        if awake:
            victim = self.draw.choice(awake)
            victim.die()
            self._bury(victim)
        return bool(awake)

    def _do_frozen(self, awake: list[Process]) -> bool:
        if awake:
            self.draw.choice(awake).freeze(self.clock.now + self.settings.kafka.session_timeout_s * 1.5)
        return bool(awake)

    def _do_slow(self, awake: list[Process]) -> bool:
        if awake:
            self.draw.choice(awake).slow(self.clock.now + self.settings.kafka.max_poll_interval_s * 1.2)
        return bool(awake)

    def _do_joined(self, awake: list[Process]) -> bool:
        few = len(self.processes) < 3
        if few:
            self.start(None)
        return few

    def _do_left(self, awake: list[Process]) -> bool:
        if len(awake) > 1:
            self._leave(self.draw.choice(awake))
        return len(awake) > 1

    def _do_broker_down(self, awake: list[Process]) -> bool:
        self.broker.down_until = self.clock.now + self.draw.choice([0.5, 4.0])
        return True

    def _do_retention(self, awake: list[Process]) -> bool:
        partition = self.broker.partition(self.draw.choice(self.broker.places()))
        before = partition.first
        partition.trim(self.draw.randint(partition.first, partition.end))
        self.trimmed = self.trimmed or partition.first > before
        return partition.first > before

    def _do_topic_made_anew(self, awake: list[Process]) -> bool:
        if any(map(is_open, self.folder.rglob("lane.sqlite"))):
            return False  # with the topic's offsets the cluster would forget how a transaction ended
        topic = self.draw.choice(self.scenario.topics)
        self.broker.make(topic, len(self.broker.topic(topic).partitions))
        self.remade.add(topic)
        self.workload.forget(topic)
        self.workload.held_back[topic] = self.clock.now + 12.0
        self.group.commits = {place: c for place, c in self.group.commits.items() if place[0] != topic}
        return True

    def _do_partition_added(self, awake: list[Process]) -> bool:
        topic = self.broker.topic(self.draw.choice(self.scenario.topics))
        topic.partitions.append(type(topic.partitions[0])())
        self.widened = True
        self.group.rebalance(self.clock.now)
        return True

    def _leave(self, process: Process) -> None:
        self.note("leave", process.name)
        self._guarded(process, process.daemon.leave)
        if process.alive:
            process.die()
            self.processes.remove(process)

    def _calm(self) -> None:
        """No more faults; everything has to be read."""
        self.faults.on = False
        self.note("calm")
        self.broker.down_until = min(self.broker.down_until, self.clock.now + 0.01)
        self.workload.end_all()
        for process in self.processes:
            process.thaw()
        self._restarts = [(self.clock.now, instance) for _, instance in self._restarts]
        if not self.processes and not self._restarts:
            self.start(None)
        for _ in range(CALM_TURNS):
            if self._has_read_all():
                return
            self._go_on()
            self.clock.advance(0.1)
        seats = [(seat.id, seat.generation, seat.given) for seat in self.group.seats.values()]
        raise AssertionError(f"not everything was read in {CALM_TURNS} turns: {self._read()}, {seats}")

    def _has_read_all(self) -> bool:
        read = self._read()
        partitions = {place: self.broker.partition(place) for place in self.broker.places()}
        return (
            not self._restarts
            and self._is_settled()
            and all(
                place in read
                and not any(True for _ in partition.visible_from(max(read[place], partition.first)))
                for place, partition in partitions.items()
            )
        )

    def _is_settled(self) -> bool:
        """Everybody knows the group and the topics as they are, and nothing is on its way."""
        if self.group.preparing or any(process.background_openings for process in self.processes):
            return False
        if any(seat.generation != self.group.generation for seat in self.group.seats.values()):
            return False
        ids = {topic: self.broker.topic(topic).id for topic in self.scenario.topics}
        held = [h for process in self.processes for h in process.daemon.holdings.held.values()]
        for one in held:
            try:
                one.lane.store.check_owner()
            except FencedError:
                return False
            layout = Layout.from_bytes(one.lane.layout)
            if layout is None or {name: topic.id for name, topic in layout.topics.items()} != ids:
                return False
        return True

    def _read(self) -> dict[Place, int]:
        """How far the owners of the lanes have read."""
        held = [h for process in self.processes for h in process.daemon.holdings.held.values()]
        return {place: at for one in held for place, at in one.read.items()}

    def _end(self) -> bool:
        """Everybody leaves; whether all lanes that were held are kept.

        One that was shut out of its transaction while it was frozen is not: the next owner does it again.
        """
        self.not_kept = 0
        for process in list(self.processes):
            for _ in range(4):
                self._guarded(process, process.work_behind)
        while self.processes:
            self._leave(self.processes[0])
        return self.not_kept == 0


def is_open(path: Path) -> bool:
    """Whether a lane's file holds a prepared checkpoint that is neither confirmed nor undone."""
    with closing(sqlite3.connect(path)) as file:
        made = file.execute("SELECT 1 FROM sqlite_master WHERE name = 'lane'").fetchone()
        found = file.execute("SELECT head FROM lane").fetchone() if made else None
    return found is not None and PREPARED in json.loads(found[0])


def empty(folder: Path) -> Path:
    """A folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
