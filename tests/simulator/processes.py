"""A process of the simulator: one daemon with its clients and lanes, which may be killed, frozen or slow."""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from faults import Killed
from sim_clients import SimMember, SimOutlet, SimTransactor
from sim_lanes import LateOpening, LateWriter, SimPlain, WatchedWriter, outputs

from streamrec.daemon.loop import Daemon
from streamrec.daemon.observer import Unobserved
from streamrec.daemon.workshop import Transactional
from streamrec.errors import StreamrecError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.lane import Lane
from streamrec.state.writer import Writer

CODEC = JsonCodec(FieldNames())


class Noting(Unobserved):
    """Writes down what the daemon says."""

    def __init__(self, process: "Process") -> None:
        self._process = process

    def failed(self, api: str, error: StreamrecError) -> None:
        """A refusal; messages that are under way may come late after some."""
        self._process.note("failed", api, type(error).__name__)
        self._process.late = self._process.late or api in {"revoke", "fenced"}
        self._process.world.not_kept += api == "revoke"

    def opened(self, number: int, lane: Lane, seconds: float) -> None:
        """A lane is held."""
        world = self._process.world
        lives = {topic: len(found) - 1 for topic, found in world.broker.lives.items()}
        world.begun.setdefault(number, {})[lane.store.epoch if lane.store else 0] = lives
        self._process.note("opened", number, lane.positions, lane.store.epoch if lane.store else None)

    def closed(self, number: int, kept: bool) -> None:
        """A lane is not."""
        self._process.note("closed", number, kept)


class Process:
    """A daemon and what it needs.

    Parameters
    ----------
    name : unlike all others
    world : it lives in
    instance : static name in the group, if it has one
    """

    def __init__(self, name: str, world: Any, instance: str | None) -> None:
        self.name, self.world, self.instance = name, world, instance
        self.clock, self.draw = world.clock, random.Random(f"{name} {world.seed}")
        self.alive, self.frozen, self.late = True, False, False
        self.outlets: list[SimOutlet] = []
        self.background: list[Any] = []
        self._frozen_until = self._busy_until = 0.0
        self._lanes: list[Lane] = []
        kafka = world.settings.kafka.model_copy(update={"group_instance_id": instance})
        self.settings = world.settings.model_copy(update={"kafka": kafka})
        self.member = SimMember(self, world.broker, world.group, kafka)
        self.workshop = self._transactional() if kafka.transactions else self._plain()
        topics = world.scenario.topics
        self.daemon = Daemon(
            self.member, topics, self.settings, self.workshop, self._pending, self.clock, Noting(self)
        )
        if world.planted is not None:
            world.planted(self)

    @property
    def breathes(self) -> bool:
        """Its threads run."""
        return self.alive and not self.frozen

    def runs(self, now: float) -> bool:
        """It can make a turn; wakes it up if its time has come."""
        if self.frozen and self._frozen_until and now >= self._frozen_until:
            self.thaw()
        return self.breathes and now >= self._busy_until

    @property
    def background_openings(self) -> int:
        """Restores that are on their way, wanted or not."""
        return sum(isinstance(one, LateOpening) for one in self.background)

    def freeze(self, until: float) -> None:
        """No sign of life until then."""
        self.frozen, self.late, self._frozen_until = True, True, until

    def slow(self, until: float) -> None:
        """Signs of life, but no turn until then."""
        self._busy_until, self.late = until, True

    def thaw(self) -> None:
        """Go on."""
        self.frozen, self._frozen_until, self._busy_until = False, 0.0, 0.0

    def point(self, name: str) -> None:
        """A place where faults strike."""
        if not self.alive:
            raise Killed
        self.world.faults.at(name, self)
        if not self.alive:
            raise Killed

    def note(self, *what: object) -> None:
        """To the trace."""
        self.world.note(self.name, *what)

    def committed(self, commits: Mapping[Place, Commit]) -> None:
        """Offsets of the group were written."""
        self.note("committed", *(f"{p[0]}{p[1]}:{c.offset}" for p, c in commits.items()))
        self.world.committed(commits)

    def kept(self, positions: Mapping[Place, int]) -> None:
        """These positions are on the disk."""
        self.world.durable.update(positions)

    def die(self) -> None:
        """Some of what is under way may arrive yet; nothing else happens any more."""
        if self.alive:
            for outlet in self.outlets:
                outlet.pump(self.draw.randint(0, outlet.pending))
            self.alive = False

    def work_behind(self) -> None:
        """What its threads do: checkpoints, openings, sending."""
        for one in list(self.background):
            if self.draw.random() < 0.6:
                one.go_on()
        if self.clock() >= self.world.broker.down_until:
            for outlet in self.outlets:
                outlet.pump(self.draw.choice([0, 3, 100]))

    def close_files(self) -> None:
        """Give back what the system gives back when a process ends; nothing is written."""
        self.alive = False
        for lane in self._lanes:
            for part in (lane.store, lane.journal):
                if part is not None:
                    with suppress(Exception):
                        part.close()

    def opens(self, lane: Lane) -> None:
        """A lane whose files have to be closed in the end."""
        self._lanes.append(lane)

    def _pending(self) -> int:
        return sum(outlet.pending for outlet in self.outlets)

    def _plain(self) -> SimPlain:
        outlet = SimOutlet(self, self.world.broker)
        late = self.draw.random() < 0.5

        def make_writer(store: Any, sync: Callable[[], object]) -> Writer:
            return LateWriter(store, sync, self) if late else WatchedWriter(store, sync, self)

        shop = SimPlain(
            self.settings,
            self.world.folder,
            lambda number: outputs(outlet),
            CODEC,
            self.clock,
            Noting(self),
            make_writer,
        )
        shop.process = self
        return shop

    def _transactional(self) -> Transactional:
        timeout_s = self.settings.kafka.transaction_timeout_s
        make = partial(SimTransactor, self, self.world.broker, timeout_s=timeout_s)
        return Transactional(
            self.settings,
            self.world.folder,
            lambda number: make(f"lane-{number}"),
            lambda number, transactor: outputs(transactor, owned=True),
            CODEC,
            self.clock,
            Noting(self),
        )
