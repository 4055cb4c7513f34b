"""A consumer group with its coordinator.

    stable ──somebody joins, leaves, or is silent──► preparing ──all joined, or time is up──► stable
                                                      (old generation)                  (generation + 1)

A member of generation g may commit until the group has a later generation. Static members keep their seat
when they come back under their name within the session; dynamic ones are gone when they do not join in time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamrec.errors import NotMemberError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit
from streamrec.eventlog.lane_plan import Claim, plan
from streamrec.settings import KafkaSettings


class Seat:
    """A member as the coordinator sees it; `alive` says whether its process gives signs of life."""

    def __init__(self, id_: str, instance: str | None, alive: Callable[[], bool], now: float) -> None:
        self.id, self.instance, self.alive = id_, instance, alive
        self.claim: tuple[Place, ...] = ()
        self.generation = -1
        self.claimed_generation = -1
        self.given: tuple[Place, ...] = ()
        self.joined = False
        self.heard = self.polled = now

    @property
    def name(self) -> str:
        """Static name, else the id."""
        return self.instance or self.id


class Group:
    """Who is in the group, who has what, and what was committed.

    Parameters
    ----------
    settings : time-outs, lanes, protocol
    places : says which partitions there are
    """

    def __init__(self, settings: KafkaSettings, places: Callable[[], Sequence[Place]]) -> None:
        self.settings, self.places = settings, places
        self.generation = 0
        self.preparing = False
        self.seats: dict[str, Seat] = {}
        self.commits: dict[Place, Commit] = {}
        self.rebalances = 0
        self._deadline = 0.0
        self._n = 0
        self._now = 0.0
        self._before: dict[int, str] = {}

    def join(self, instance: str | None, alive: Callable[[], bool], now: float) -> Seat:
        """A seat for a newcomer, or for a static member that is back."""
        self._n += 1
        back = next((seat for seat in self.seats.values() if instance and seat.instance == instance), None)
        seat = Seat(f"member-{self._n:03}", instance, alive, now)
        if back is not None:
            del self.seats[back.id]
        self.seats[seat.id] = seat
        if back is not None and not self.preparing:
            seat.given, seat.claim = back.given, back.claim
            seat.claimed_generation = back.claimed_generation
            return seat
        self.rebalance(now)
        self.rejoin(seat, (), now)
        return seat

    def rejoin(self, seat: Seat, owned: Sequence[Place], now: float) -> None:
        """A member is ready for the next generation, and says what it holds."""
        seat.joined, seat.claim, seat.claimed_generation = True, tuple(sorted(owned)), seat.generation
        self._complete(now)

    def leave(self, seat: Seat, now: float) -> None:
        """A member goes."""
        if self.seats.pop(seat.id, None) is not None:
            self.rebalance(now)

    def rebalance(self, now: float) -> None:
        """Ask all members to join anew."""
        if not self.preparing:
            self.preparing, self._deadline = True, now + self.settings.max_poll_interval_s
            for seat in self.seats.values():
                seat.joined = False

    def tick(self, now: float) -> None:
        """Heartbeats of those that live; who was silent, or did not poll, too long is out."""
        self._now = now
        for seat in list(self.seats.values()):
            polls = now - seat.polled <= self.settings.max_poll_interval_s
            if seat.alive() and polls:
                seat.heard = now
            leaves = seat.alive() and not polls and seat.instance is None
            if leaves or now - seat.heard > self.settings.session_timeout_s:
                self.leave(seat, now)
        self._complete(now)

    def breathe(self, now: float) -> None:
        """The coordinator is back after an outage: all sessions begin anew."""
        for seat in self.seats.values():
            seat.heard = seat.polled = now

    def check(self, seat: Seat | None) -> None:
        """Refuse who is not of the current generation."""
        if seat is None or seat.id not in self.seats or seat.generation != self.generation:
            raise NotMemberError("the group has moved on")

    def commit(self, seat: Seat | None, commits: Mapping[Place, Commit]) -> None:
        """Write offsets."""
        self.check(seat)
        self.commits.update(commits)

    def _complete(self, now: float) -> None:
        if not self.preparing or not self.seats:
            return
        if not all(seat.joined for seat in self.seats.values()):
            if now < self._deadline:
                return
            self.seats = {id_: s for id_, s in self.seats.items() if s.joined or s.instance is not None}
        self.generation += 1
        self.rebalances += 1
        self.preparing = False
        claims = [Claim(seat.name, seat.claim, seat.claimed_generation) for seat in self._in_order()]
        kafka = self.settings
        given = plan(self.places(), kafka.lanes, claims, kafka.rebalance == "cooperative", self._before)
        self._before |= {p % kafka.lanes: name for name in sorted(given) for _, p in given[name]}
        for seat in self._in_order():
            seat.given = tuple(given.get(seat.name, ()))

    def _in_order(self) -> list[Any]:
        return [self.seats[id_] for id_ in sorted(self.seats)]
