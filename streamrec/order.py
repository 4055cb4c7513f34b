"""Puts the events of a partition in order and gathers tie sets: all events of one user at one time.

    event ──► id seen lately? ──► held until the watermark passes ──► the user's open set ──► released
              (duplicate)         (only with lateness_s > 0)          (late: before it)

A set is open until its clock yields a later time, it has `max_tie_marks` marks, or a tick or a flush
closes it; sets leave in the order (time, first arrival). An event at the time of a set that was closed
already opens a `further` set. Refused events (late, duplicate) change nothing but a counter.

    watermark(clock) = max over its events of min(time, broker time + max_skew_s) - lateness_s

so one event dated in the year 2100 cannot make all that follow late; the wall clock plays no part.

A clock is a partition of what shares one course of time: a topic, or all files of a log together.

Symbols: `last` is the time of a user's last released set, -inf or NaN if there is none.

Source: watermarks as in Akidau et al. (2015), VLDB 8, 1792-1803. Departures: an event is late by its user's
order when lateness_s is 0 (no watermark then), and a full buffer raises the watermark instead of blocking.
"""

import math
from collections import Counter, deque
from heapq import heapify, heappop, heappush
from typing import Literal

from streamrec.clocks import Clock, ClockState, OpenSet, OrderState
from streamrec.errors import ConfigError
from streamrec.event import Event, TieSet
from streamrec.packed import pack, unpack

Verdict = Literal["ok", "late", "duplicate", "held"]
"""What became of a pushed event; a held one becomes ok or late when it is released."""


class Order:
    """Order, ties, lateness and de-duplication of the events of a lane.

    Sets that were closed wait in `released` until `take` hands them over. Whoever takes sets applies them
    before the next `push`, because `push` is told the time of the user's last *applied* set.

    Parameters
    ----------
    lateness_s : s
        Event time that the watermark stays behind; 0 means order of arrival, per user, without a watermark.
    max_tie_marks : marks at which a set closes
    held_events : most events held, and most sets open, in one partition; beyond it the oldest are released
    dedupe_events : ids of accepted events that a partition remembers; 0 switches de-duplication off
    max_skew_s : s that an event may be ahead of its record's broker time in the eyes of the watermark

    Raises
    ------
    ConfigError
        If a limit is out of range.

    Examples
    --------
    >>> order = Order()
    >>> [order.push(Event("u", *what)) for what in [("b", 1.0), ("a", 1.0), ("c", 2.0), ("d", 0.5)]]
    ['ok', 'ok', 'ok', 'late']
    >>> order.take()[0].marks
    ('a', 'b')
    >>> order.flush(); [s.time for s in order.take()]
    [2.0]
    """

    def __init__(
        self,
        lateness_s: float = 0.0,
        max_tie_marks: int = 128,
        held_events: int = 100_000,
        dedupe_events: int = 100_000,
        max_skew_s: float = 60.0,
    ) -> None:
        if not (0 <= lateness_s < math.inf and 0 <= max_skew_s < math.inf):
            raise ConfigError(f"lateness_s, max_skew_s: wanted >= 0, got {lateness_s}, {max_skew_s}")
        if min(max_tie_marks, held_events) < 1 or dedupe_events < 0:
            got = max_tie_marks, held_events, dedupe_events
            raise ConfigError(f"max_tie_marks, held_events, dedupe_events: wanted >= 1, 1, 0, got {got}")
        self.lateness_s = lateness_s
        self.max_tie_marks = max_tie_marks
        self.held_events = held_events
        self.dedupe_events = dedupe_events
        self.max_skew_s = max_skew_s
        self._reset()

    def _reset(self) -> None:
        self.released: list[TieSet] = []
        self.released_marks = 0
        self.n_ok = self.n_late = self.n_duplicate = self.n_forced = self.n_forgotten = 0
        self._clocks: dict[tuple[str, int], Clock] = {}
        self._clock = Clock("", -1)  # of the last event
        self._open: dict[str, OpenSet] = {}
        self._recent: dict[str, float] = {}  # last time of users with a released set that nobody took yet
        self._waiting: dict[str, list[float]] = {}  # users with held events: how many, last released time

    @property
    def n_held(self) -> int:
        """Events that have no bin yet."""
        return sum(len(clock.held) for clock in self._clocks.values())

    def open_users(self) -> list[str]:
        """Users with a set that is not closed yet."""
        return sorted(self._open)

    @property
    def n_open_marks(self) -> int:
        """Accepted events in sets that are not closed yet."""
        return sum(len(entry[6]) for entry in self._open.values())

    def push(
        self,
        event: Event,
        last_time: float = math.nan,
        topic: str = "",
        broker_time: float = math.nan,
        clock_name: str | None = None,
    ) -> Verdict:
        """Take one event in; sets that it closes are appended to `released`.

        Parameters
        ----------
        event : with a finite time
        last_time : s, time of the user's last applied set, NaN if none
        topic : of the record
        broker_time : s, the record's broker timestamp, NaN if none; looked at with lateness_s > 0 only
        clock_name : whose clock the event moves; the topic's if None
        """
        user, mark, time, id_, partition, offset, _, _ = event
        clock = self._clock
        name = topic if clock_name is None else clock_name
        if partition != clock.partition or name != clock.name:
            clock = self._clock = self._at(name, partition)
        if id_ is not None and id_ in clock.id_set:
            self.n_duplicate += 1
            return "duplicate"
        verdict: Verdict
        if self.lateness_s > 0:
            verdict = self._hold(clock, event, topic, last_time, broker_time)
        else:
            verdict = self._join(clock, user, mark, time, topic, offset, last_time)
        if id_ is not None and verdict != "late":
            self._remember(clock, id_)
        return verdict

    def latest(self, partition: int, clock_name: str = "") -> float:
        """Largest time of an open set or held event of a partition, s; -inf if it has none."""
        clock = self._clocks.get((clock_name, partition))
        if clock is None:
            return -math.inf
        live = (entry[0] for entry in clock.open if self._open.get(entry[2]) is entry)
        return max(max(live, default=-math.inf), max((held[0] for held in clock.held), default=-math.inf))

    def take(self, n_sets: int | None = None) -> list[TieSet]:
        """Hand over the first `n_sets` released sets (all if None), in the order of their release."""
        n = len(self.released) if n_sets is None else n_sets
        taken = self.released[:n]
        del self.released[:n]
        recent = self._recent
        for tie_set in taken:
            self.released_marks -= len(tie_set.marks)
            if recent.get(tie_set.user) == tie_set.time:
                del recent[tie_set.user]
        return taken

    def tick(self, partition: int, time: float, clock_name: str = "") -> None:
        """Let a partition's clock go to `time` without an event: what is before it is released."""
        clock = self._at(clock_name, partition)
        if self.lateness_s > 0:
            self._advance(clock, time)
        else:
            self._close_before(clock, time)

    def flush(self) -> None:
        """Release everything, clock by clock: held events in order, then all open sets."""
        for _, clock in sorted(self._clocks.items()):
            while clock.held:
                self._advance(clock, clock.held[0][0])
                self._release_held(clock)
            self._close_before(clock, math.inf)

    def forget(self, user: str) -> int:
        """Drop all that is open, held or released of a user; the number of events dropped."""
        n_released = sum(len(s.marks) for s in self.released if s.user == user)
        self.released = [s for s in self.released if s.user != user]
        self.released_marks -= n_released
        entry = self._open.pop(user, None)
        if entry:
            entry[7].n_open -= 1
        n_held = int(self._waiting.pop(user, [0])[0])
        if n_held:
            for clock in self._clocks.values():
                clock.held = [held for held in clock.held if held[2] != user]
                heapify(clock.held)
        self._recent.pop(user, None)
        self.n_forgotten += n_held
        return n_held + n_released + (len(entry[6]) if entry else 0)

    def _join(
        self, clock: Clock, user: str, mark: str, time: float, topic: str, offset: int, last: float
    ) -> Literal["ok", "late"]:
        mine = self._open.get(user)
        last = self._recent.get(user, last) if mine is None else mine[0]
        if time < last:
            self.n_late += 1
            return "late"
        self.n_ok += 1
        opened = clock.open
        if opened and opened[0][0] < time:
            self._close_before(clock, time)
        if mine is None or time > last:
            if mine is not None and mine[7] is not clock:  # the user wanders between partitions
                self._release(mine)
            # + 0.0 turns -0.0 into 0.0, so that tied events stay exchangeable to the bit
            further = mine is None and bool(time == last)  # `last` may be a numpy float
            mine = (time + 0.0, clock.arrivals, user, topic, offset, further, [mark], clock)
            clock.arrivals += 1
            self._open[user] = mine
            heappush(opened, mine)
            clock.n_open += 1
        else:
            mine[6].append(mark)
        if len(mine[6]) >= self.max_tie_marks:
            self._release(mine)
        elif clock.n_open > self.held_events:
            self._force_open(clock)
        return "ok"

    def _close_before(self, clock: Clock, time: float) -> None:
        opened = clock.open
        while opened and opened[0][0] < time:
            entry = heappop(opened)
            if self._open.get(entry[2]) is entry:  # else it closed at max_tie_marks
                self._release(entry)

    def _force_open(self, clock: Clock) -> None:
        entry = heappop(clock.open)
        while self._open.get(entry[2]) is not entry:
            entry = heappop(clock.open)
        self.n_forced += len(entry[6])
        self._release(entry)

    def _release(self, entry: OpenSet) -> None:
        time, _, user, topic, offset, further, marks, clock = entry
        del self._open[user]
        clock.n_open -= 1
        if len(marks) > 1:
            marks.sort()  # code points sort like their UTF-8 bytes
        self.released.append(TieSet(user, time, tuple(marks), clock.partition, offset, further, topic))
        self.released_marks += len(marks)
        self._recent[user] = time
        if self._waiting and user in self._waiting:
            self._waiting[user][1] = time

    def _hold(
        self, clock: Clock, event: Event, topic: str, last: float, broker_time: float
    ) -> Literal["held", "late"]:
        user, time = event.user, event.time
        last = self._last(user, last)
        if time < clock.watermark or time < last:
            self.n_late += 1
            return "late"
        self._waiting.setdefault(user, [0, last])[0] += 1
        heappush(clock.held, (time + 0.0, clock.arrivals, user, event.mark, topic, event.offset))
        clock.arrivals += 1
        seen = min(time, broker_time + self.max_skew_s)  # time, if that is NaN
        self._advance(clock, seen - self.lateness_s)
        while len(clock.held) > self.held_events:
            self._advance(clock, clock.held[0][0])
            self._release_held(clock)
            self.n_forced += 1
        return "held"

    def _last(self, user: str, last: float) -> float:
        """Time of the user's last set, open or released, wherever it is known; -inf if there is none."""
        mine = self._open.get(user)
        if mine is not None:
            return mine[0]
        if user in self._waiting:
            return self._waiting[user][1]
        last = self._recent.get(user, last)
        return float(last) if last > -math.inf else -math.inf  # NaN: none

    def _advance(self, clock: Clock, watermark: float) -> None:
        if not watermark > clock.watermark:
            return
        clock.watermark = watermark
        while clock.held and clock.held[0][0] < watermark:
            self._release_held(clock)
        self._close_before(clock, watermark)

    def _release_held(self, clock: Clock) -> None:
        time, _, user, mark, topic, offset = heappop(clock.held)
        waiting = self._waiting[user]
        waiting[0] -= 1
        if not waiting[0]:
            del self._waiting[user]
        self._join(clock, user, mark, time, topic, offset, waiting[1])

    def _at(self, name: str, partition: int) -> Clock:
        clock = self._clocks.get((name, partition))
        if clock is None:
            clock = self._clocks[name, partition] = Clock(name, partition)
        return clock

    def _remember(self, clock: Clock, id_: str) -> None:
        clock.ids.append(id_)
        clock.id_set.add(id_)
        if len(clock.ids) > self.dedupe_events:
            clock.id_set.remove(clock.ids.popleft())

    def dump(self) -> bytes:
        """The whole state; equal states give equal bytes."""
        clocks = [self._clock_state(clock) for _, clock in sorted(self._clocks.items())]
        state = OrderState(
            clocks,
            self.released,
            sorted((user, waiting[1]) for user, waiting in self._waiting.items()),
            *(self.n_ok, self.n_late, self.n_duplicate, self.n_forced, self.n_forgotten),
        )
        return pack(state)

    def _clock_state(self, clock: Clock) -> ClockState:
        live = [entry for entry in clock.open if self._open.get(entry[2]) is entry]
        opened = sorted((*entry[:6], sorted(entry[6])) for entry in live)
        own = clock.name, clock.partition, clock.arrivals, clock.watermark
        return ClockState(*own, opened, sorted(clock.held), list(clock.ids))

    def load(self, data: bytes) -> None:
        """Become what `dump` wrote down; the settings stay.

        Raises
        ------
        CorruptStateError
            If the bytes are not such a state; nothing is changed then.
        """
        state = unpack(data, OrderState, "order")
        self._reset()
        for clock_state in state.clocks:
            self._load_clock(clock_state)
        counts = Counter(held[2] for clock in self._clocks.values() for held in clock.held)
        self._waiting = {user: [counts[user], last] for user, last in state.last_of_waiting}
        self.released = state.released
        self.released_marks = sum(len(s.marks) for s in self.released)
        self._recent = {s.user: s.time for s in self.released}
        self.n_ok, self.n_late, self.n_duplicate = state.n_ok, state.n_late, state.n_duplicate
        self.n_forced, self.n_forgotten = state.n_forced, state.n_forgotten

    def _load_clock(self, state: ClockState) -> None:
        clock = self._at(state.name, state.partition)
        clock.arrivals, clock.watermark = state.arrivals, state.watermark
        clock.held = state.held
        clock.ids, clock.id_set = deque(state.ids), set(state.ids)
        for time, arrival, user, topic, offset, further, marks in state.open:
            entry: OpenSet = (time, arrival, user, topic, offset, further, marks, clock)
            self._open[user] = entry
            clock.open.append(entry)
        clock.n_open = len(clock.open)
