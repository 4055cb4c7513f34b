"""The join: which events answer which forecast.

    forecasts of a user, in order      F₁        F₂           F₃
    its events, in order of arrival    e₁ e₁'    e₂    x      e₃ e₃' e₃''      x: no forecast names it
    set of a forecast                  {e₁ e₁'}  {e₂}         {e₃ e₃' e₃''}    F₁ is judged by {e₂}

A forecast's id names the first event of the set after which it was issued. So the forecasts themselves say
where the sets of the program began, also where a tick or the end of a run has closed one early: a set reaches
from the event that its forecast names up to the next one named, or to the end of the user's events of that
time. Every mark of a set is scored by the list of the forecast before, the time once, and not at all for a
further set (no time has passed).

Neither log waits for the other: events wait for the forecast that names them, forecasts for their events. A
set of several events waits for its user's next forecast, which could name one of them; `finish` does not
wait. Nothing here depends on which log came first.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from streamrec.event import TieSet
from streamrec.judge.issued import Issued, Key, Published
from streamrec.judge.sums import Windows

Happened = tuple[str, int, int, str]
"""An event: topic, partition, offset, mark."""

_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(Issued).decode


class Open(NamedTuple):
    """A forecast that waits; `body` is its `Issued`, packed."""

    key: Key
    issued_at: float
    horizon_s: float
    body: bytes


class User(msgspec.Struct, array_like=True):
    """What is open of a user.

    Parameters
    ----------
    touched : serial number of the last change
    last_time : s, time of the last set that was closed; -inf before the first
    groups : (time, events) closed and not in a set yet, in order
    current : the forecast that the next set will judge
    ahead : forecasts after it, whose own sets are not there yet, in order
    keys : what the forecasts at the newest time of issue named, by which one that comes again is known
    newest : s, that time
    """

    touched: int = 0
    last_time: float = -math.inf
    groups: list[tuple[float, list[Happened]]] = []
    current: Open | None = None
    ahead: list[Open] = []
    keys: list[Key] = []
    newest: float = -math.inf

    @property
    def waiting(self) -> int:
        """Events that wait."""
        return sum(len(events) for _, events in self.groups)


class Tally(msgspec.Struct):
    """Counts of what is not a score.

    Parameters
    ----------
    forecasts : read, each once
    repeated : came again under the same id, or out of order
    bad : lines that are no forecast
    foreign : forecasts of other models
    first_marks : marks of sets before which nothing was issued for their user
    outside_marks : marks in no forecast's set: the program did not take them, or its forecasts begin later
    let_go_users, let_go_marks, let_go_forecasts : beyond a bound; the forecasts count as expired too
    clock : s, time of the newest set that was judged
    """

    forecasts: int = 0
    repeated: int = 0
    bad: int = 0
    foreign: int = 0
    first_marks: int = 0
    outside_marks: int = 0
    let_go_users: int = 0
    let_go_marks: int = 0
    let_go_forecasts: int = 0
    clock: float = -math.inf


class Answer(NamedTuple):
    """What became of a forecast.

    Parameters
    ----------
    user, key : whose, and which
    outcome : hit, miss, expired or superseded
    time : s, of the set that answered it; of its issue if none did
    marks : (mark, rank, log-probability) of the set's marks
    log_density : of the gap, NaN if it is not timed
    """

    user: str
    key: Key
    outcome: str
    time: float
    marks: Sequence[tuple[str, float, float]] = ()
    log_density: float = math.nan


class Join:
    """Users with open forecasts or waiting events, and the sums of what was judged.

    Parameters
    ----------
    windows : where scores are added
    horizon_s : of forecasts without a hazard table; an answer that comes later finds its forecast expired
    max_users : users with anything open
    max_waiting : events that wait, and as many forecasts that are ahead of their events
    told : hears of every answer
    """

    def __init__(
        self,
        windows: Windows,
        horizon_s: float = 365 * 86_400.0,
        max_users: int = 200_000,
        max_waiting: int = 200_000,
        told: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self.windows, self.horizon_s, self.told = windows, horizon_s, told
        self.max_users, self.max_waiting = max_users, max_waiting
        self.tally = Tally()
        self.users: dict[str, User] = {}
        self.dirty: set[str] = set()
        self.n_waiting = self.n_ahead = self.serial = 0
        self._holding: dict[str, None] = {}
        self._ahead: dict[str, None] = {}

    def last_time(self, user: str) -> float:
        """Time of the user's last closed set, NaN if there is none."""
        known = self.users.get(user)
        return math.nan if known is None or known.last_time == -math.inf else known.last_time

    def happened(self, tie: TieSet, events: list[Happened]) -> None:
        """A set of events of one user and time was closed; `events` in order of arrival."""
        user = self._touch(tie.user)
        user.last_time = tie.time
        user.groups.append((tie.time, events))
        self.n_waiting += len(events)
        self._settle(tie.user, user)

    def issued(self, one: Published) -> None:
        """A forecast was published."""
        user = self._touch(one.user)
        old = one.issued_at < user.newest or (one.issued_at == user.newest and one.key in user.keys)
        if old:
            self.tally.repeated += 1
            return
        if one.issued_at > user.newest:
            user.newest, user.keys = one.issued_at, []
        user.keys.append(one.key)
        horizon = one.issued.horizon_s(self.horizon_s)
        user.ahead.append(Open(one.key, one.issued_at, horizon, _ENCODE(one.issued)))
        self.tally.forecasts += 1
        self.n_ahead += 1
        self._settle(one.user, user)

    def finish(self) -> None:
        """Both logs have ended: sets reach as far as their events do. Not to be gone on from."""
        for name, user in list(self.users.items()):
            self._settle(name, user, ended=True)

    def keep_bounds(self) -> None:
        """Let go what was touched longest ago, beyond the bounds."""
        while self.n_waiting > self.max_waiting:
            self._let_go(next(iter(self._holding)))
        while self.n_ahead > self.max_waiting:
            self._let_go(next(iter(self._ahead)))
        while len(self.users) > self.max_users:
            self._let_go(next(iter(self.users)))

    def n_open(self) -> int:
        """Forecasts that wait for their answer."""
        return sum((user.current is not None) + len(user.ahead) for user in self.users.values())

    def n_overdue(self) -> int:
        """Forecasts among these whose horizon has passed by the clock of what was judged."""
        clock = self.tally.clock
        opened = (one for u in self.users.values() for one in (u.current, *u.ahead) if one is not None)
        return sum(one.issued_at + one.horizon_s < clock for one in opened)

    def load(self, users: dict[str, User]) -> None:
        """Take back users as they were kept, in the order in which they were touched."""
        self.users = dict(sorted(users.items(), key=lambda item: item[1].touched))
        self.n_waiting = sum(user.waiting for user in users.values())
        self.n_ahead = sum(len(user.ahead) for user in users.values())
        self._holding = {name: None for name, user in self.users.items() if user.groups}
        self._ahead = {name: None for name, user in self.users.items() if user.ahead}

    def _touch(self, name: str) -> User:
        """A user, who is the one touched last now."""
        user = self.users.pop(name, None) or User()
        self.users[name] = user
        self.serial += 1
        user.touched = self.serial
        self.dirty.add(name)
        return user

    def _settle(self, name: str, user: User, ended: bool = False) -> None:
        while user.ahead and self._settle_one(name, user, ended):
            self.n_ahead -= 1
            user.current = user.ahead.pop(0)
            self.dirty.add(name)
        for index, holds in ((self._holding, user.groups), (self._ahead, user.ahead)):
            index.pop(name, None)
            if holds:
                index[name] = None

    def _settle_one(self, name: str, user: User, ended: bool) -> bool:
        """Judge the current forecast by the set of the next one, if that set is known."""
        named = user.ahead[0]
        found = _find(user.groups, named)
        if found is None:
            passed = bool(user.groups) and user.groups[-1][0] > named.issued_at
            if passed and user.current is not None:
                self._answer(Answer(name, user.current.key, "superseded", user.current.issued_at))
            return passed
        g, first = found
        time, events = user.groups[g]
        last = _end(events, first, user.ahead, ended)
        if last is None:
            return False
        outside = sum(len(earlier) for _, earlier in user.groups[:g]) + first
        self.tally.outside_marks += outside
        self.n_waiting -= outside + last - first
        user.groups[: g + 1] = [(time, events[last:])] if last < len(events) else []
        self._judge(name, user.current, time, [event[3] for event in events[first:last]])
        return True

    def _judge(self, name: str, current: Open | None, time: float, marks: list[str]) -> None:
        self.tally.clock = max(self.tally.clock, time)
        if current is None:
            self.tally.first_marks += len(marks)
            return
        issued, dt = _DECODE(current.body), time - current.issued_at
        parts = self.windows.at(time)
        scored, listed = [], False
        for mark in marks:
            log_p, rank, is_listed = issued.mark_score(mark)
            listed = listed or is_listed
            scored.append((mark, rank, log_p))
            for part in parts:
                part.add_mark(log_p, rank, issued.in_set(mark))
        density = issued.log_density(dt) if dt > 0 else math.nan
        if dt > 0:
            for part in parts:
                part.add_time(density, issued.inside(dt))
        outcome = "expired" if dt > current.horizon_s else ("hit" if listed else "miss")
        self._answer(Answer(name, current.key, outcome, time, scored, density))

    def _answer(self, answer: Answer) -> None:
        for part in self.windows.at(answer.time):
            part.counts[answer.outcome] += 1
        self.told(answer)

    def _let_go(self, name: str) -> None:
        """Forget a user beyond the bounds; its open forecasts expire."""
        user = self.users.pop(name)
        self._holding.pop(name, None)
        self._ahead.pop(name, None)
        self.dirty.add(name)
        self.n_waiting -= user.waiting
        self.n_ahead -= len(user.ahead)
        self.tally.let_go_users += 1
        self.tally.let_go_marks += user.waiting
        for one in (user.current, *user.ahead):
            if one is not None:
                self.tally.let_go_forecasts += 1
                self._answer(Answer(name, one.key, "expired", one.issued_at))


def _find(groups: list[tuple[float, list[Happened]]], named: Open) -> tuple[int, int] | None:
    """Group and place in it of the event that a forecast names."""
    for g, (time, events) in enumerate(groups):
        if time == named.issued_at:
            for i, event in enumerate(events):
                if event[:3] == named.key:
                    return g, i
    return None


def _end(events: list[Happened], first: int, ahead: list[Open], ended: bool) -> int | None:
    """Where the set ends that begins at `first`; None if a forecast that is to come could still say."""
    time = ahead[0].issued_at
    names = {one.key for one in ahead[1:] if one.issued_at == time}
    for i in range(first + 1, len(events)):
        if events[i][:3] in names:
            return i
    return len(events) if ended or len(ahead) > 1 or first + 1 == len(events) else None
