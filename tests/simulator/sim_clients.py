"""The protocols of `streamrec.eventlog.clients` on the broker in memory, as one process sees them.

Every call begins, and many end, with a point at which a fault may strike. A process that is dead gets no
further than the next point.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from group import Group, Seat
from sim_broker import Broker, Sent, Transaction

from streamrec.errors import (
    BrokerError,
    DeliveryError,
    FencedError,
    NotMemberError,
    OutOfRangeError,
    UnavailableError,
)
from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Assignee, Bounds, Commit, Member, Message
from streamrec.settings import KafkaSettings


class InstanceFencedError(BrokerError):
    """Another process uses our static name."""


class SimMember:
    """A `Member`.

    Parameters
    ----------
    process : whose it is: `point`, `note`, `clock`, `draw`
    broker, group : what it talks to
    settings : protocol and static name
    """

    whole_lanes = True

    def __init__(self, process: Any, broker: Broker, group: Group, settings: KafkaSettings) -> None:
        self.process, self.broker, self.group, self.settings = process, broker, group, settings
        self.seat: Seat | None = None
        self.owned: set[Place] = set()
        self.paused: set[Place] = set()
        self.at: dict[Place, int] = {}
        self._assignee: Assignee | None = None
        self._closed = False

    def places(self, topics: Sequence[str]) -> list[Place]:
        """All partitions of topics."""
        self._call("call.places")
        return [place for place in self.broker.places() if place[0] in topics]

    def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        """What they hold; a partition that is not there has no bounds to tell, and no answer comes."""
        self._call("call.bounds")
        return {place: self.broker.bounds(place) for place in places}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The ids of topics."""
        self._call("call.topic_ids")
        return {topic: self.broker.topic(topic).id for topic in topics}

    def join(self, topics: Sequence[str], assignee: Assignee) -> None:
        """Become a member at the next poll."""
        self._assignee = assignee

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Rebalance if the group does, and fetch."""
        clock = self.process.clock
        self._lively()
        try:
            self._call("call.poll")
        except UnavailableError:
            clock.advance(timeout_s)
            raise
        self._rebalance()
        records = self._fetched(max_records)
        clock.advance(0.005 if records else timeout_s)
        self.process.point("call.polled")
        self._lively()
        return records

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Read on from these offsets."""
        self.process.point("call.seek")
        self._must_own(positions)
        self.at.update(positions)

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        """Where `poll` reads on."""
        return {place: self.at[place] for place in places if place in self.at and place in self.owned}

    def pause(self, places: Sequence[Place]) -> None:
        """Give no records of these."""
        self.paused |= self.owned.intersection(places)

    def resume(self, places: Sequence[Place]) -> None:
        """Give their records again; one that was never sought begins where the group stands."""
        for place in self.owned.intersection(places):
            self.paused.discard(place)
            self.at.setdefault(place, self.group.commits.get(place, Commit(0)).offset)

    def commit(self, commits: Mapping[Place, Commit]) -> None:
        """Write offsets of the group."""
        self._call("call.commit")
        self._must_own(commits)
        self.group.commit(self.seat, commits)
        self.process.committed(commits)
        self.process.point("call.committed_now")

    def committed(self, places: Sequence[Place]) -> dict[Place, Commit]:
        """What the group has committed."""
        self._call("call.committed")
        return {place: self.group.commits[place] for place in places if place in self.group.commits}

    def close(self) -> None:
        """Leave; a static member says nothing, its seat waits for it."""
        if self._closed:
            return
        self._closed = True
        if self._is_in():
            self._tell_leaving(self.owned)
        if self._is_in() and self.settings.group_instance_id is None and self.seat is not None:
            self.group.leave(self.seat, self.process.clock())

    def _call(self, name: str) -> None:
        self.process.point(name)
        self.broker.check_up(self.process.clock())

    def _lively(self) -> None:
        if self.seat is not None:
            self.seat.polled = self.process.clock()

    def _is_in(self) -> bool:
        return self.seat is not None and self.seat.id in self.group.seats

    def _must_own(self, places: Mapping[Place, object]) -> None:
        if strange := sorted(set(places) - self.owned):
            raise NotMemberError(f"{strange}: not ours")

    def _rebalance(self) -> None:
        now = self.process.clock()
        if not self._is_in():
            self._come_in(now)
        seat = self.seat
        assert seat is not None
        if self.group.preparing:
            if not seat.joined:
                self._join_anew(seat)
        elif seat.generation != self.group.generation:
            self._take_what_is_given(seat)

    def _come_in(self, now: float) -> None:
        """Join as a newcomer; what was ours is somebody else's."""
        name = self.settings.group_instance_id
        if self.seat is not None and name and any(s.instance == name for s in self.group.seats.values()):
            raise InstanceFencedError(f"{name} is used by another process")
        lost, self.owned = sorted(self.owned), set()
        if lost:
            self._told("lost", lost)
        self.seat = self.group.join(name, lambda: self.process.breathes, now)

    def _join_anew(self, seat: Seat) -> None:
        if self.settings.rebalance == "eager":
            self._tell_leaving(self.owned)
        if self._is_in():
            self.group.rejoin(seat, sorted(self.owned), self.process.clock())
            if not self.group.preparing:
                self._take_what_is_given(seat)

    def _take_what_is_given(self, seat: Seat) -> None:
        seat.generation = self.group.generation
        given = set(seat.given)
        going, coming = self.owned - given, given - self.owned
        self._tell_leaving(going)
        if going and self._is_in():
            self.group.rebalance(self.process.clock())
        coming &= given
        if coming and self._is_in():
            self.owned |= coming
            self.paused |= coming
            for place in coming:
                self.at.pop(place, None)
            self._told("gained", sorted(coming))

    def _tell_leaving(self, places: set[Place]) -> None:
        going = sorted(places)
        if going:
            self._told("leaving", going)
            self.owned -= set(going)

    def _told(self, what: str, places: list[Place]) -> None:
        self.process.note(what, *places)
        assert self._assignee is not None
        getattr(self._assignee, what)(places)

    def _fetched(self, max_records: int) -> list[Record]:
        """Records of what is ours and not paused; a random place first, and never more than some."""
        ready = sorted(self.owned - self.paused)
        self.process.draw.shuffle(ready)
        self._must_be_in_range(ready)
        room = min(max_records, self.process.draw.choice([5, 40, 200]))
        out: list[Record] = []
        for place in ready:
            partition, start = self.broker.partition(place), self.at[place]
            stop = min(partition.stable_end, start + room - len(out))
            out += [
                self.broker.record(place, at) for at in range(start, stop) if partition.entries[at].visible
            ]
            self.at[place] = max(start, stop)
        return out

    def _must_be_in_range(self, places: Sequence[Place]) -> None:
        wrong = {}
        for place in places:
            partition = self.broker.partition(place)
            if not partition.first <= self.at[place] <= partition.end:
                wrong[place] = self.at[place]
        if wrong:
            raise OutOfRangeError(f"out of range: {wrong}", wrong)


class SimOutlet:
    """An `Outlet`: what is taken is under way until the broker is given some of it (`pump`)."""

    def __init__(self, process: Any, broker: Broker) -> None:
        self.process, self.broker = process, broker
        self.under_way: list[Message] = []
        process.outlets.append(self)

    @property
    def pending(self) -> int:
        """Messages taken and not acknowledged yet."""
        return len(self.under_way)

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages."""
        self.process.point("call.send")
        self.under_way += messages

    def pump(self, n: int) -> None:
        """Bring the oldest messages to the broker."""
        going, self.under_way = self.under_way[:n], self.under_way[n:]
        self.broker.sent += [Sent(message, self.process.name, None) for message in going]

    def flush(self, timeout_s: float) -> None:
        """Bring all of them."""
        self.process.point("call.flush")
        self.broker.check_up(self.process.clock())
        self.pump(len(self.under_way))

    def close(self, timeout_s: float = 5.0) -> None:
        """Bring what can be brought."""
        if self.process.alive and self.process.clock() >= self.broker.down_until:
            self.pump(len(self.under_way))


class SimTransactor(SimOutlet):
    """A `Transactor`.

    Parameters
    ----------
    process, broker : see `SimOutlet`
    transactional_id : ours
    timeout_s : of a transaction
    """

    def __init__(self, process: Any, broker: Broker, transactional_id: str, timeout_s: float) -> None:
        super().__init__(process, broker)
        self.id, self.timeout_s = transactional_id, timeout_s
        self.epoch = -1
        self._shut_out = False
        self._began = False

    def recover(self) -> None:
        """Shut out whoever was here before."""
        self.process.point("call.recover")
        self.broker.check_up(self.process.clock())
        self.under_way = []
        self.epoch = self.broker.shut_out(self.id)
        self._shut_out = self._began = False
        self.process.point("call.recovered")

    def begin(self) -> None:
        """Begin a transaction; the broker hears of it with the first message."""
        self.process.point("call.begin")
        assert not self._began
        self._began = True

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages."""
        assert self._began
        if self._shut_out:
            raise DeliveryError("an earlier message was refused: another uses our transactional id")
        super().send(messages)

    def pump(self, n: int) -> None:
        """Bring the oldest messages into the transaction, if it is still ours."""
        if self.under_way[:n] and not self._ours():
            self._shut_out, self.under_way = True, []
        going, self.under_way = self.under_way[:n], self.under_way[n:]
        if going:
            transaction = self._transaction()
            self.broker.sent += [Sent(message, self.process.name, transaction) for message in going]

    def flush(self, timeout_s: float) -> None:
        """Bring all of them."""
        super().flush(timeout_s)
        if self._shut_out:
            raise DeliveryError("refused: another uses our transactional id")

    def commit(self, commits: Mapping[Place, Commit], member: Member) -> None:
        """Write offsets and make all visible."""
        assert self._began
        assert isinstance(member, SimMember)
        self.process.point("call.transact")
        self.broker.check_up(self.process.clock())
        self.pump(len(self.under_way))
        if self._shut_out or not self._ours():
            raise FencedError(f"{self.id}: another uses our transactional id")
        try:
            if commits:
                self.broker.check_up(self.process.clock())
                member.group.check(member.seat)
        except NotMemberError as error:
            raise FencedError(str(error)) from None
        self._began = False
        self.broker.end(self.id, "committed")
        member.group.commits.update(commits)
        self.process.committed(commits)
        self.process.point("call.transacted")

    def abort(self) -> None:
        """Nothing becomes visible."""
        self.process.point("call.abort")
        self.under_way = []
        if self._ours():
            self.broker.end(self.id, "aborted")
        self._began = False

    def close(self, timeout_s: float = 5.0) -> None:
        """What was not ended stays open until somebody recovers, or time is up."""
        self.under_way = []

    def _ours(self) -> bool:
        return self.broker.epochs.get(self.id) == self.epoch

    def _transaction(self) -> Transaction:
        if self.id not in self.broker.open:
            self.broker.open[self.id] = Transaction(), self.process.clock() + self.timeout_s
        return self.broker.open[self.id][0]
