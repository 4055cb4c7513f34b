"""What of the group's partitions is ours, and the lanes that are made of them.

    gained   a partition is ours; a lane is opened once all of its partitions are
    leaving  its lane finishes its cut, is kept, committed and closed, within `revoke_s`
    lost     its lane is dropped: what it did since its last checkpoint is the next owner's to do

Opening compares the lane with the log before anything is read: what is gone is refused or skipped, by policy.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from streamrec.daemon.gaps import gaps, lost_records, recreated, refuse
from streamrec.daemon.held import Held
from streamrec.daemon.layout import Layout, by_lane, lane_of, layout_of, refuse_changes
from streamrec.daemon.observer import Observer
from streamrec.daemon.opening import Opening
from streamrec.entries import Assigned
from streamrec.errors import (
    ConfigError,
    DeliveryError,
    DiskError,
    FencedError,
    NotMemberError,
    StateError,
    StreamrecError,
    UnavailableError,
)
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import AbsentTopicError, Bounds, Commit, Member
from streamrec.failpoints import failpoint
from streamrec.lane import Lane
from streamrec.settings import KafkaSettings

RETRY_S = 1.0
MAX_FENCED = 3
"""Times that a lane may be taken from us, while the group says that it is ours, before we stop."""

Clock = Callable[[], float]


class Workshop(Protocol):
    """Makes what the loop drives: from real files in the daemon, from toys in tests."""

    def opening(self, number: int, places: Sequence[Place], member: Member) -> Opening:
        """Begin to open a lane."""
        ...

    def hold(self, number: int, lane: Lane, places: Sequence[Place]) -> Held:
        """An open lane, ready to work."""
        ...


class Holdings:
    """Partitions and lanes of this member; the member's `Assignee`.

    Parameters
    ----------
    member : of the group
    topics : that are read
    settings : lanes, start, gaps, times
    workshop : opens lanes
    clock : s, monotonic
    observer : told of what comes and goes
    """

    def __init__(
        self,
        member: Member,
        topics: Sequence[str],
        settings: KafkaSettings,
        workshop: Workshop,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.member, self.topics, self.settings = member, tuple(topics), settings
        self.workshop, self.clock, self.observer = workshop, clock, observer
        self.mine: set[Place] = set()
        self.held: dict[int, Held] = {}
        self.openings: dict[int, tuple[Opening, list[Place], float]] = {}
        self.revoke_s = settings.revoke_s
        self._expected: dict[int, list[Place]] = {}
        self._known, self._learn_at = False, -math.inf
        self._retry_at: dict[int, float] = {}
        self._fenced: dict[int, int] = {}
        self._split_since: dict[int, float] = {}

    def gained(self, places: Sequence[Place]) -> None:
        """These partitions are ours; see `Assignee`."""
        self.observer.rebalanced("assigned", places)
        self.mine |= set(places)
        self._known = False
        for number in self._lanes(places):
            self._fenced.pop(number, None)
            self._retry_at.pop(number, None)

    def leaving(self, places: Sequence[Place]) -> None:
        """These are about to go; see `Assignee`."""
        self.observer.rebalanced("revoked", places)
        for number in self._lanes(places):
            self.give_up(number)
        self.mine -= set(places)

    def lost(self, places: Sequence[Place]) -> None:
        """These are gone; see `Assignee`."""
        self.observer.rebalanced("lost", places)
        for number in self._lanes(places):
            self.drop(number)
        self.mine -= set(places)

    def settle(self) -> None:
        """Open lanes that are complete, adopt those that are open, give up those that are not as they were.

        Raises
        ------
        StreamrecError
            If a lane cannot be opened, and trying again would not help.
        """
        if not self._known and self.clock() >= self._learn_at:
            self._learn_expected()
        for number, places in self._expected.items():
            self._settle_lane(number, places)
            self._note_split(number, places)

    def give_up(self, number: int, at_end: bool = False) -> None:
        """Finish, keep, commit and close a lane."""
        self._drop_opening(number)
        held = self.held.pop(number, None)
        if held is None:
            return
        kept, until = False, self.clock() + self.revoke_s
        try:
            if held.finish(at_end):
                kept = held.lane.close(self.revoke_s)
            else:
                held.abandon()
            failpoint("after_revoke")
            if self.clock() <= until:
                self._commit_last(held)
        except (DiskError, FencedError, UnavailableError, DeliveryError) as error:
            self.observer.failed("revoke", error)
            held.abandon()
            if isinstance(error, DeliveryError) and not self.settings.transactions:
                raise
        self.observer.closed(number, kept)

    def drop(self, number: int) -> None:
        """Give a lane back as its last checkpoint left it."""
        self._drop_opening(number)
        held = self.held.pop(number, None)
        if held is not None:
            held.abandon()
            self.observer.closed(number, False)

    def retry(self, number: int, error: StreamrecError) -> None:
        """Drop a lane after an error that may pass, and open it again in a while."""
        self.observer.failed("lane", error)
        self.drop(number)
        self._retry_at[number] = self.clock() + RETRY_S

    def fenced(self, number: int, error: FencedError | DeliveryError) -> None:
        """Another one has opened a lane of ours, or shut us out of its transactions.

        The group will soon say that it is another's. If it does not, that one was late (a restore that nobody
        waits for any more, a member that is gone again) or the broker has aborted a transaction: then the
        lane is opened anew. Whoever takes it again and again shares our folder, which cannot go on. To be
        shut out of a transaction looks like any message that was refused.

        Raises
        ------
        FencedError
            If this happened too often while the group said that the lane is ours.
        DeliveryError
            If messages were refused as often, or outside of a transaction.
        """
        if isinstance(error, DeliveryError) and not self.settings.transactions:
            raise error
        self.observer.failed("fenced", error)
        self.drop(number)
        self._fenced[number] = self._fenced.get(number, 0) + 1
        if self._fenced[number] > MAX_FENCED:
            if isinstance(error, DeliveryError):
                raise error
            raise FencedError(
                f"lane {number}: the group says that it is ours, but another process opens its folder again "
                "and again; two daemons share a state directory: give each group one of its own"
            ) from error
        self._retry_at[number] = self.clock() + self.settings.session_timeout_s

    def again(self, numbers: Iterable[int]) -> None:
        """Give lanes up and open them anew, because the log is not what it was."""
        for number in sorted(numbers):
            self.give_up(number)
        self._known = False

    def commit(self) -> None:
        """Tell the group how far each lane's newest checkpoint on the disk is; a transaction has done so.

        Raises
        ------
        NotMemberError, UnavailableError
            As `Member.commit`; the others are tried next time.
        """
        for number, held in self.held.items():
            positions = held.commits()
            if positions:
                self._fenced.pop(number, None)
                failpoint("before_commit")
                self._tell_group(positions)
                held.committed = positions
                failpoint("after_commit")

    def _commit_last(self, held: Held) -> None:
        try:
            positions = held.commits()
            if positions:
                self._tell_group(positions)
        except (NotMemberError, UnavailableError) as error:
            self.observer.failed("commit", error)

    def _tell_group(self, positions: Mapping[Place, int]) -> None:
        if not self.settings.transactions:
            self.member.commit({place: Commit(at) for place, at in sorted(positions.items())})

    def _settle_lane(self, number: int, places: list[Place]) -> None:
        held = self.held.get(number)
        if held is not None and list(held.places) != places:
            self.give_up(number)
        if number in self.openings:
            self._adopt_if_ready(number)
        elif number not in self.held and self._may_open(number, places):
            self._open(number, places)

    def _note_split(self, number: int, places: list[Place]) -> None:
        """Say it again and again if others have partitions of a lane of ours: nobody works on it then."""
        mine = self.mine.intersection(places)
        if not mine or len(mine) == len(places):
            self._split_since.pop(number, None)
            return
        now = self.clock()
        if now - self._split_since.setdefault(number, now) >= self.settings.session_timeout_s:
            self._split_since[number] = now
            told = (
                f"lane {number}: ours are {len(mine)} of its {len(places)} partitions: nobody can work on "
                "it; run one member, or as many lanes as partitions, or set kafka.client to kafka-python"
            )
            self.observer.failed("lane", ConfigError(told))

    def _may_open(self, number: int, places: list[Place]) -> bool:
        return self.mine.issuperset(places) and self.clock() >= self._retry_at.get(number, 0.0)

    def _open(self, number: int, places: list[Place]) -> None:
        try:
            opening = self.workshop.opening(number, places, self.member)
        except (FencedError, DeliveryError) as error:
            self.fenced(number, error)
            return
        except (UnavailableError, DiskError) as error:
            self.retry(number, error)
            return
        self.openings[number] = opening, places, self.clock()
        self._adopt_if_ready(number)

    def _adopt_if_ready(self, number: int) -> None:
        opening, places, began = self.openings[number]
        if not opening.ready():
            return
        try:
            lane = opening.result()
            self._compare(lane, places)
        except (FencedError, DeliveryError) as error:
            self.fenced(number, error)
            return
        except (DiskError, UnavailableError, AbsentTopicError) as error:
            self.retry(number, error)
            return
        del self.openings[number]
        self.held[number] = held = self.workshop.hold(number, lane, places)
        self.member.seek({place: held.read[place] for place in places})
        self.observer.opened(number, lane, self.clock() - began)

    def _compare(self, lane: Lane, places: list[Place]) -> None:
        """Hold a lane against the log: refuse what does not fit, skip what is gone, begin what is new."""
        now = layout_of(
            self.settings.lanes, self.member.places(self.topics), self.member.topic_ids(self.topics)
        )
        kept = Layout.from_bytes(lane.layout)
        if kept is None and lane.positions:
            raise StateError(
                "the state was made from files, and a topic's clock is its own; give another --state"
            )
        refuse_changes(kept, now)
        bounds = self.member.bounds(places)
        mine = {place: at for place, at in lane.positions.items() if place in bounds}
        found = gaps(mine, bounds, recreated(kept, now))
        refuse(found, self.settings.on_gap)
        for gap in found:
            lane.turn(gap)
            self.observer.skipped((gap.topic, gap.partition), lost_records(gap), gap.cause)
        positions = lane.positions
        begins = (positions.get(place, self._start(bounds[place])) for place in places)
        lane.turn(Assigned(tuple((*place, at) for place, at in zip(places, begins, strict=True))))
        lane.layout = now.to_bytes()

    def _start(self, bounds: Bounds) -> int:
        return bounds.first if self.settings.start == "earliest" else bounds.end

    def _learn_expected(self) -> None:
        try:
            places = self.member.places(self.topics)
        except (UnavailableError, AbsentTopicError) as error:
            self.observer.failed("metadata", error)
            self._learn_at = self.clock() + RETRY_S
            return
        self._expected = by_lane(places, self.settings.lanes)
        self._known = self.mine.issubset(places)  # else what we were told of the topics is not the latest

    def _drop_opening(self, number: int) -> None:
        opening = self.openings.pop(number, None)
        if opening is not None:
            opening[0].drop()

    def _lanes(self, places: Sequence[Place]) -> list[int]:
        return sorted({lane_of(place, self.settings.lanes) for place in places})
