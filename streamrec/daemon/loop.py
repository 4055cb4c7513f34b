"""The daemon: one loop, one thread.

    poll ─► records by lane ─► steps (cuts, ticks) ─► forecasts out ─► checkpoint ─► commit
      │
      └─ the group calls `gained`, `leaving`, `lost` (`holdings`): lanes are opened and closed

Reading pauses while a lane is being opened, its journal cannot be written, the outlet is full, or a partition
is far ahead (`pauses`); polling goes on, so that the group keeps us. What goes wrong with the broker or the
disk for a while is counted and tried again; what breaks a promise ends the loop.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from streamrec.daemon.gaps import recreated
from streamrec.daemon.holdings import Holdings, Workshop
from streamrec.daemon.layout import Layout, lane_of, layout_of
from streamrec.daemon.observer import Observer, State, Unobserved
from streamrec.daemon.pauses import Pauses
from streamrec.errors import (
    BrokerError,
    DeliveryError,
    DiskError,
    FencedError,
    NotMemberError,
    OutOfRangeError,
    StreamrecError,
    UnavailableError,
)
from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import AbsentTopicError, Member
from streamrec.failpoints import failpoint
from streamrec.settings import Settings

POLL_S = 0.1
LOOK_S = 1.0
IDENTITY_S = 10.0
RETRY_S = 1.0
ASKING = 0.25
"""Share of its time that the loop may wait for answers that do not come."""

GRACE_S = 7.0
"""Most time that a stop takes to keep the lanes; the whole exit stays below 10 s."""

DEAF_S = 1.0
"""The same if the broker does not answer: what was not kept is done again by whoever comes next."""

Clock = Callable[[], float]


class Daemon:
    """Drives the lanes of one member of a group until it is told to stop.

    Parameters
    ----------
    member : not joined yet
    topics : to read
    settings : of cuts, checkpoints and the group
    workshop : opens lanes
    pending : messages under way to the broker
    clock : s, monotonic
    observer : told of everything
    until_end : stop once what the topics held at the start was read
    """

    def __init__(
        self,
        member: Member,
        topics: Sequence[str],
        settings: Settings,
        workshop: Workshop,
        pending: Callable[[], int],
        clock: Clock,
        observer: Observer | None = None,
        until_end: bool = False,
    ) -> None:
        self.member, self.topics, self.settings, self.clock = member, tuple(topics), settings, clock
        self.observer: Observer = observer or Unobserved()
        self.pending, self.until_end = pending, until_end
        self.holdings = Holdings(member, topics, settings.kafka, workshop, clock, self.observer)
        self.pauses = Pauses(member, settings.kafka.max_pending, self.observer)
        self.stopping = False
        self._ends: dict[Place, int] = {}
        self._look_at = self._identify_at = self._commit_at = -math.inf
        self._answered, self._deaf = clock(), False
        self._state: State = "starting"

    def stop(self) -> None:
        """End after the work at hand; may be called from a signal handler."""
        self.stopping = True

    def run(self) -> None:
        """Join the group and work until stopped.

        Raises
        ------
        StreamrecError
            Whatever cannot be waited out: the exit code says which.
        """
        try:
            self.begin()
            while not self.stopping:
                self.turn()
        except BaseException:
            for number in [*self.holdings.held, *self.holdings.openings]:
                self.holdings.drop(number)
            raise
        finally:
            self.leave()

    def begin(self) -> None:
        """Join the group."""
        self.observer.entered(self._state)
        if self.until_end:
            places = self.member.places(self.topics)
            self._ends = {place: held.end for place, held in self.member.bounds(places).items()}
        self.member.join(self.topics, self)

    def turn(self) -> None:
        """Once around the loop."""
        self.holdings.settle()
        self.pauses.update(self.holdings.mine, self.holdings.held, self.pending())
        records = self._poll()
        failpoint("after_poll")
        self._share_out(records)
        for number in sorted(self.holdings.held):
            self._work(number)
        self._look()
        self._commit()
        self._enter(self._now())
        self.observer.pending(self.pending())
        self.observer.between()
        if self.until_end and self._has_read_all():
            self.stop()

    def leave(self) -> None:
        """Give up every lane, and leave the group."""
        self._enter("draining")
        until = self.clock() + min(self.holdings.revoke_s, DEAF_S if self._deaf else GRACE_S)
        try:
            self._give_up_all(until, self.until_end and self._has_read_all())
        finally:
            try:
                self.member.close()
            except StreamrecError as error:
                self.observer.failed("leave", error)

    def _give_up_all(self, until: float, at_end: bool) -> None:
        """Give up every lane, one lane's error keeping nothing from the others."""
        with ExitStack() as stack:
            for number in reversed([*self.holdings.held, *self.holdings.openings]):
                stack.callback(self._give_up, number, until, at_end)

    def _give_up(self, number: int, until: float, at_end: bool) -> None:
        self.holdings.revoke_s = max(0.0, until - self.clock())
        self.holdings.give_up(number, at_end)

    def gained(self, places: Sequence[Place]) -> None:
        """See `Assignee`."""
        self.holdings.gained(places)
        self.pauses.gained(places)
        self._look_at = -math.inf

    def leaving(self, places: Sequence[Place]) -> None:
        """See `Assignee`."""
        self.holdings.leaving(places)

    def lost(self, places: Sequence[Place]) -> None:
        """See `Assignee`."""
        self.holdings.lost(places)

    def _poll(self) -> list[Record]:
        cut = self.settings.cut
        n = min(cut.poll_events, 4 * max(cut.live_max_events, cut.cut_events))
        try:
            records = self.member.poll(n, min(POLL_S, max(cut.linger_s, 0.001)))
        except OutOfRangeError as error:
            self.observer.failed("fetch", error)
            self.holdings.again({lane_of(place, self.settings.kafka.lanes) for place in error.places})
            return []
        except UnavailableError as error:
            self.observer.failed("poll", error)
            return []
        self.observer.polled(len(records))
        return records

    def _share_out(self, records: Sequence[Record]) -> None:
        for number, mine in _by_lane(records, self.settings.kafka.lanes).items():
            held = self.holdings.held.get(number)
            if held is not None:
                held.take(mine)

    def _work(self, number: int) -> None:
        held = self.holdings.held[number]
        try:
            held.work()
        except (FencedError, DeliveryError) as error:
            self.holdings.fenced(number, error)
        except (DiskError, UnavailableError) as error:
            self.holdings.retry(number, error)
        else:
            if held.stalled is not None:
                self.observer.failed("journal", held.stalled)

    def _look(self) -> None:
        """Now and then: are the lanes still ours, what does the log hold, are the topics the same?"""
        now = self.clock()
        if now < self._look_at:
            return
        for number in sorted(self.holdings.held):
            self._look_whether_ours(number)
        places = [place for held in self.holdings.held.values() for place in held.places]
        try:
            bounds = self.member.bounds(places)
            if now >= self._identify_at or not places:
                self._identify()
                self._identify_at = now + IDENTITY_S
        except (UnavailableError, AbsentTopicError) as error:
            self.observer.failed("metadata", error)
            self._look_at = self._after_failure(error, now, LOOK_S)
            return
        self._look_at = now + LOOK_S
        self._answered, self._deaf = now, False
        at = self.member.positions(places)
        for held in self.holdings.held.values():
            mine = [place for place in held.places if place in bounds and place in at]
            held.feed.looked({place: max(0, bounds[place].end - at[place]) for place in mine})
        committed = {p: n for held in self.holdings.held.values() for p, n in held.committed.items()}
        applied = {p: n for held in self.holdings.held.values() for p, n in held.applied(at).items()}
        self.observer.looked(bounds, applied, committed)

    def _look_whether_ours(self, number: int) -> None:
        """A lane without work does not notice that another one has opened it since."""
        store = self.holdings.held[number].lane.store
        try:
            if store is not None:
                store.check_owner()
        except FencedError as error:
            self.holdings.fenced(number, error)

    def _identify(self) -> None:
        """Open lanes anew whose topics are other ones by now, or have more partitions."""
        now = layout_of(
            self.settings.kafka.lanes, self.member.places(self.topics), self.member.topic_ids(self.topics)
        )
        kept = {n: Layout.from_bytes(held.lane.layout) for n, held in self.holdings.held.items()}
        changed = {number for number, layout in kept.items() if recreated(layout, now)}
        if changed:
            self.holdings.again(changed)

    def _commit(self) -> None:
        now = self.clock()
        if now < self._commit_at or self.stopping:
            return
        try:
            self.holdings.commit()
        except (NotMemberError, UnavailableError) as error:
            self.observer.failed("commit", error)
            self._commit_at = self._after_failure(error, now, RETRY_S)

    def _after_failure(self, error: BrokerError, began: float, least_s: float) -> float:
        """When to ask again what was asked in vain since `began`, so that work is done in between."""
        now, self._deaf = self.clock(), isinstance(error, UnavailableError)
        return now + max(least_s, (now - began) * (1 / ASKING - 1))

    def _now(self) -> State:
        held = self.holdings.held.values()
        if (
            any(lane.stalled for lane in held)
            or self.clock() - self._answered > self.settings.kafka.unreachable_s
        ):
            return "degraded"
        return "restoring" if self.holdings.openings else "running"

    def _enter(self, state: State) -> None:
        if state != self._state:
            self._state = state
            self.observer.entered(state)

    def _has_read_all(self) -> bool:
        held = self.holdings.held.values()
        at = self.member.positions([place for lane in held for place in lane.places])
        return bool(held) and all(at.get(p, -1) >= self._ends.get(p, 0) for lane in held for p in lane.places)


def _by_lane(records: Sequence[Record], lanes: int) -> Mapping[int, Sequence[Record]]:
    if lanes == 1:
        return {0: records} if records else {}
    shares: dict[int, list[Record]] = {}
    for record in records:
        shares.setdefault(lane_of(record[:2], lanes), []).append(record)
    return dict(sorted(shares.items()))
