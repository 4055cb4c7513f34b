"""Order, ties, lateness and de-duplication: closed cases, and properties of random arrivals."""

import math
from collections import Counter, defaultdict
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.errors import ConfigError, CorruptStateError
from streamrec.event import Event, TieSet
from streamrec.order import Order

USERS = st.sampled_from(["u", "v", "w"])
MARKS = st.sampled_from(["a", "b", "c", "é", "\ue000", "\U0001f600"])
TIMES = st.integers(0, 12).map(float)
IDS = st.none() | st.integers(0, 8).map(str)
EVENTS = st.lists(st.tuples(USERS, MARKS, TIMES, IDS, st.integers(0, 1)), max_size=60).map(
    lambda rows: [Event(*row, offset=i) for i, row in enumerate(rows)]
)
ORDERS = st.fixed_dictionaries(
    {
        "lateness_s": st.sampled_from([0.0, 0.0, 2.0, 5.0]),
        "max_tie_marks": st.sampled_from([1, 2, 128]),
        "held_events": st.sampled_from([1, 3, 100]),
        "dedupe_events": st.sampled_from([0, 1, 3, 100]),
    }
)


class Stream:
    """Drives an order stage like the loop does: takes sets now and then, and knows what was applied."""

    def __init__(self, order: Order, take_every: int = 1) -> None:
        self.order = order
        self.take_every = take_every
        self.applied: list[TieSet] = []
        self.last: dict[str, float] = {}
        self.n = 0

    def push(self, events: list[Event], broker_time: float = math.nan) -> list[str]:
        return [self.push_one(event, broker_time) for event in events]

    def push_one(self, event: Event, broker_time: float = math.nan) -> str:
        verdict = self.order.push(event, self.last.get(event.user, math.nan), broker_time=broker_time)
        self.n += 1
        if self.n % self.take_every == 0:
            self.apply()
        return verdict

    def apply(self) -> None:
        for tie_set in self.order.take():
            self.applied.append(tie_set)
            self.last[tie_set.user] = tie_set.time

    def flush(self) -> list[TieSet]:
        self.order.flush()
        self.apply()
        return self.applied


def run(events: list[Event], take_every: int = 1, **settings: Any) -> list[TieSet]:
    stream = Stream(Order(**settings), take_every)
    stream.push(events)
    return stream.flush()


def at(*times: float, user: str = "u") -> list[Event]:
    return [Event(user, f"m{i}", time, offset=i) for i, time in enumerate(times)]


# ── lateness 0 ──────────────────────────────────────────────────────────────────────────────────────


def test_a_set_closes_when_any_user_of_its_partition_brings_a_later_time() -> None:
    stream = Stream(Order())
    stream.push([Event("u", "a", 1.0), Event("v", "b", 1.0), Event("w", "c", 2.0, partition=1)])
    assert stream.applied == []
    stream.push([Event("x", "d", 1.5)])
    assert [(s.user, s.time) for s in stream.applied] == [("u", 1.0), ("v", 1.0)]


def test_open_sets_leave_in_the_order_of_time_then_first_arrival() -> None:
    events = [Event("u", "a", 9.0), Event("v", "a", 5.0), Event("w", "a", 9.0), Event("x", "a", 5.0)]
    assert [(s.user, s.time) for s in run([*events, Event("y", "a", 10.0)])] == [
        ("v", 5.0), ("x", 5.0), ("u", 9.0), ("w", 9.0), ("y", 10.0)
    ]  # fmt: skip


@pytest.mark.parametrize("take_every", [1, 100])
def test_an_event_before_the_users_last_time_is_late_whether_that_is_open_released_or_applied(
    take_every: int,
) -> None:
    stream = Stream(Order(), take_every)
    assert stream.push(at(5.0, 4.0)) == ["ok", "late"]
    assert stream.push([Event("v", "x", 9.0), *at(4.0)]) == ["ok", "late"]
    assert stream.order.n_late == 2


@pytest.mark.parametrize("take_every", [1, 100])
def test_an_event_at_the_time_of_a_closed_set_opens_a_further_set(take_every: int) -> None:
    sets = run([Event("u", "a", 5.0), Event("v", "b", 9.0), Event("u", "c", 5.0)], take_every)
    assert [(s.user, s.marks, s.further) for s in sets] == [
        ("u", ("a",), False), ("u", ("c",), True), ("v", ("b",), False)
    ]  # fmt: skip


def test_a_set_closes_at_128_marks_and_the_rest_is_a_further_set_of_that_time() -> None:
    sets = run(at(*[7.0] * 300))
    assert [(len(s.marks), s.further, s.offset) for s in sets] == [
        (128, False, 0),
        (128, True, 128),
        (44, True, 256),
    ]


def test_marks_are_in_the_order_of_their_utf8_bytes() -> None:
    marks = ["\U0001f600", "z", "\ue000", "é", "a", "é"]
    (tie_set,) = run([Event("u", mark, 1.0) for mark in marks])
    assert list(tie_set.marks) == sorted(marks, key=str.encode)


def test_a_refused_event_closes_nothing() -> None:
    stream = Stream(Order())
    stream.push([Event("u", "a", 9.0, id="1"), Event("v", "b", 5.0)])
    before = stream.order.n_open_marks
    assert stream.push([Event("u", "a", 8.0), Event("x", "a", 20.0, id="1")]) == ["late", "duplicate"]
    assert (stream.applied, stream.order.n_open_marks) == ([], before)


def test_a_tick_closes_what_is_before_it_and_only_in_its_partition() -> None:
    stream = Stream(Order())
    stream.push([Event("u", "a", 1.0), Event("v", "b", 1.0, partition=1), Event("w", "c", 2.0)])
    stream.push([Event("x", "a", 2.0), Event("y", "a", 2.0)])
    stream.order.tick(0, 2.5)
    assert {s.user for s in stream.order.released} == {"w", "x", "y"}
    assert stream.order.n_open_marks == 1


def test_a_user_who_wanders_between_partitions_never_goes_back_in_time() -> None:
    events = [Event("u", "a", 10.0), Event("u", "b", 5.0, partition=1), Event("u", "c", 10.0, partition=1)]
    events += [Event("u", "d", 12.0, partition=1), Event("u", "e", 11.0)]
    stream = Stream(Order())
    assert stream.push(events) == ["ok", "late", "ok", "ok", "late"]
    assert [(s.time, s.marks) for s in stream.flush()] == [(10.0, ("a", "c")), (12.0, ("d",))]


def test_more_open_sets_than_held_events_are_released_oldest_first_and_counted() -> None:
    stream = Stream(Order(held_events=3))
    stream.push([Event(f"u{i}", "a", 1.0) for i in range(5)])
    assert [s.user for s in stream.applied] == ["u0", "u1"]
    assert stream.order.n_forced == 2


# ── de-duplication ──────────────────────────────────────────────────────────────────────────────────


def test_an_id_is_a_duplicate_within_the_window_of_accepted_ids_of_its_partition() -> None:
    stream = Stream(Order(dedupe_events=2))
    push = stream.push_one
    assert push(Event("u", "a", 1.0, "1")) == "ok"
    assert push(Event("u", "a", 1.0, "1")) == "duplicate"
    assert push(Event("v", "a", 1.0, "1", partition=1)) == "ok"
    assert push(Event("u", "a", 2.0, "2")) == "ok"
    assert push(Event("u", "a", 1.5, "3")) == "late"  # not accepted, so it takes no place in the window
    assert push(Event("u", "a", 3.0, "1")) == "duplicate"
    assert push(Event("u", "a", 4.0, "4")) == "ok"
    assert push(Event("u", "a", 5.0, "1")) == "ok"


def test_without_an_id_nothing_is_a_duplicate() -> None:
    assert run([Event("u", "a", 1.0)] * 3)[0].marks == ("a", "a", "a")


# ── lateness > 0 ────────────────────────────────────────────────────────────────────────────────────


def test_held_events_leave_in_the_order_of_time_and_those_behind_the_watermark_are_late() -> None:
    stream = Stream(Order(lateness_s=2.0))
    assert stream.push(at(3.0, 1.0, 2.0, 5.5)) == ["held"] * 4  # watermark 3.5
    assert [s.time for s in stream.applied] == [1.0, 2.0, 3.0]
    assert stream.push(at(3.4, 3.5)) == ["late", "held"]
    assert stream.order.n_held == 2


@given(events=EVENTS, seed=st.randoms(use_true_random=False))
def test_with_enough_lateness_the_order_of_arrival_does_not_matter(events: list[Event], seed: Random) -> None:
    events = [
        event._replace(id=None, partition=0, offset=-1, mark=f"{event.mark}{i}")
        for i, event in enumerate(events)
    ]
    shuffled = seed.sample(events, len(events))

    def sets(arrivals: list[Event]) -> list[TieSet]:
        return sorted(run(arrivals, lateness_s=100.0), key=lambda s: (s.time, s.user))

    assert [s.time for s in run(shuffled, lateness_s=100.0)] == [s.time for s in sets(events)]
    assert sets(shuffled) == sets(events)


def test_the_broker_time_bounds_the_watermark_so_one_odd_event_makes_no_other_late() -> None:
    stream = Stream(Order(lateness_s=10.0, max_skew_s=5.0))
    stream.push([Event("u", "a", 100.0), Event("v", "a", 4e9)], broker_time=100.0)
    assert stream.push(at(100.0, 96.0, 95.0, user="w"), broker_time=101.0) == ["held"] * 3
    assert stream.push(at(94.0, user="w"), broker_time=101.0) == ["late"]
    assert stream.order.n_held == 5


@given(events=EVENTS, skew=st.sampled_from([0.0, 1.0, 5.0]))
def test_the_watermark_never_passes_broker_time_plus_skew(events: list[Event], skew: float) -> None:
    order = Order(lateness_s=1.0, max_skew_s=skew)
    highest = -math.inf
    for i, event in enumerate(events):
        order.push(event, broker_time=float(i))
        highest = i + skew
        assert all(clock.watermark <= highest for clock in order._clocks.values())


def test_an_idle_partition_waits_for_its_tick() -> None:
    stream = Stream(Order(lateness_s=1.0))
    stream.push([Event("u", "a", 1.0), Event("v", "a", 1e6, partition=1)])
    stream.apply()
    assert stream.applied == []
    stream.order.tick(0, 2.0)
    stream.apply()
    assert [s.user for s in stream.applied] == ["u"]
    assert stream.push(at(1.5)) == ["late"]


def test_a_full_buffer_releases_the_oldest_and_events_of_that_very_time_still_count() -> None:
    stream = Stream(Order(lateness_s=1e9, held_events=2))
    assert stream.push(at(3.0, 3.0, 3.0, 3.0, 2.0)) == ["held"] * 4 + ["late"]
    assert stream.order.n_forced == 2
    assert [len(s.marks) for s in stream.flush()] == [4]


def test_a_further_set_is_known_even_when_its_event_was_held_while_the_first_was_applied() -> None:
    stream = Stream(Order(lateness_s=10.0, max_tie_marks=2))
    stream.push([*at(1.0, 1.0, 1.0), Event("v", "x", 20.0)])
    assert [(s.marks, s.further) for s in stream.applied] == [(("m0", "m1"), False), (("m2",), True)]


def test_a_held_event_that_its_user_overtook_in_another_partition_ends_as_late() -> None:
    stream = Stream(Order(lateness_s=2.0))
    stream.push([Event("u", "a", 5.0), Event("u", "b", 9.0, partition=1), Event("v", "x", 12.0, partition=1)])
    stream.push([Event("v2", "x", 20.0)])
    assert [(s.user, s.time) for s in stream.applied] == [("u", 9.0)]
    assert (stream.order.n_late, stream.order.n_held) == (1, 2)


# ── whatever comes ──────────────────────────────────────────────────────────────────────────────────


@given(events=EVENTS, settings=ORDERS, take_every=st.integers(1, 30))
def test_nothing_is_lost_and_no_user_goes_back_in_time(
    events: list[Event], settings: dict[str, Any], take_every: int
) -> None:
    stream = Stream(Order(**settings), take_every)
    verdicts = Counter(stream.push(events))
    order = stream.order
    released = sum(len(s.marks) for s in [*stream.applied, *order.released])
    assert order.n_ok == released + order.n_open_marks
    assert order.n_ok + order.n_late + order.n_duplicate + order.n_held == len(events)
    assert verdicts["duplicate"] == order.n_duplicate
    stream.flush()
    assert (order.n_held, order.n_open_marks, order.released_marks) == (0, 0, 0)
    assert order.n_ok == sum(len(s.marks) for s in stream.applied)
    per_user = defaultdict(list)
    for tie_set in stream.applied:
        per_user[tie_set.user].append(tie_set)
    for sets in per_user.values():
        for earlier, later in pairwise(sets):
            assert later.time > earlier.time or (later.time == earlier.time and later.further)
        assert not sets[0].further


@given(events=EVENTS, settings=ORDERS, take_every=st.integers(1, 7), again=st.integers(1, 30))
def test_taking_sets_sooner_or_later_changes_nothing(
    events: list[Event], settings: dict[str, Any], take_every: int, again: int
) -> None:
    assert run(events, take_every, **settings) == run(events, again, **settings)


@given(events=EVENTS, settings=ORDERS, cut_at=st.integers(0, 60), take_every=st.sampled_from([1, 3, 1000]))
def test_a_resumed_order_goes_on_as_if_never_stopped(
    events: list[Event], settings: dict[str, Any], cut_at: int, take_every: int
) -> None:
    straight = Stream(Order(**settings), take_every)
    straight.push(events[:cut_at])
    resumed = Stream(Order(**settings), take_every)
    resumed.order.load(straight.order.dump())
    resumed.last, resumed.n, resumed.applied = dict(straight.last), straight.n, list(straight.applied)
    assert resumed.order.dump() == straight.order.dump()
    assert resumed.push(events[cut_at:]) == straight.push(events[cut_at:])
    assert resumed.order.dump() == straight.order.dump()
    assert resumed.flush() == straight.flush()


@given(events=EVENTS, settings=ORDERS, data=st.data())
def test_partitions_do_not_touch_each_other(
    events: list[Event], settings: dict[str, Any], data: st.DataObject
) -> None:
    events = [event._replace(user=f"{event.user}{event.partition}") for event in events]
    apart = [[e for e in events if e.partition == p] for p in (0, 1)]
    together = run(events, **settings)
    for partition in (0, 1):
        assert [s for s in together if s.partition == partition] == run(apart[partition], **settings)


@given(
    before=EVENTS, marks=st.lists(MARKS, min_size=2, max_size=9), data=st.data(), settings=ORDERS.filter(
        lambda s: s["max_tie_marks"] == 128 and s["held_events"] == 100)
)  # fmt: skip
def test_permuting_tied_events_of_a_user_changes_no_bit(
    before: list[Event], marks: list[str], data: st.DataObject, settings: dict[str, Any]
) -> None:
    def outcome(tied: list[str]) -> tuple[bytes | None, list[TieSet]]:
        stream = Stream(Order(**settings), take_every=1000)
        stream.push(before)
        stream.push([Event("u", mark, 12.0, offset=100 + i) for i, mark in enumerate(tied)])
        held_in_arrival_order = stream.order.n_held
        return (None if held_in_arrival_order else stream.order.dump()), stream.flush()

    assert outcome(data.draw(st.permutations(marks))) == outcome(marks)


def test_a_set_that_nobody_took_yet_makes_earlier_events_of_its_user_late_also_after_a_restart() -> None:
    order, resumed = Order(), Order()
    for event in [*at(1.0, 5.0), Event("v", "x", 9.0)]:
        order.push(event)
    assert [s.time for s in order.take(1)] == [1.0]
    resumed.load(order.dump())
    for each in (order, resumed):
        assert each.push(Event("u", "y", 3.0), last_time=1.0) == "late"
        assert [s.time for s in each.take()] == [5.0]
        assert each.push(Event("u", "y", 3.0), last_time=5.0) == "late"


@pytest.mark.parametrize("lateness_s", [0.0, 1.0])
def test_a_last_time_out_of_a_numpy_column_leaves_no_trace_in_the_state(lateness_s: float) -> None:
    column = np.array([5.0, math.nan])
    order = Order(lateness_s)
    for i, time in enumerate([5.0, 6.0]):
        order.push(Event(f"u{i}", "a", time), column[i])
    resumed = Order(lateness_s)
    resumed.load(order.dump())
    resumed.flush()
    assert [(s.further, type(s.further), type(s.time)) for s in resumed.take()] == [
        (True, bool, float), (False, bool, float)
    ]  # fmt: skip


def test_minus_zero_is_zero_to_the_bit() -> None:
    sets = [run([Event("u", "a", time)]) for time in (0.0, -0.0)]
    assert [math.copysign(1.0, s[0].time) for s in sets] == [1.0, 1.0]


@pytest.mark.parametrize("lateness_s", [0.0, 50.0])
def test_a_forgotten_user_leaves_nothing_behind(lateness_s: float) -> None:
    stream = Stream(Order(lateness_s=lateness_s), take_every=1000)
    stream.push([*at(1.0, 2.0, 3.0), *at(3.0, user="v")])
    assert stream.order.forget("u") == 3
    assert stream.order.n_forgotten == (3 if lateness_s else 0)
    assert b"m2" not in stream.order.dump()
    assert [s.user for s in stream.flush()] == ["v"]


def test_a_dump_of_something_else_is_refused_and_changes_nothing() -> None:
    order = Order()
    order.push(Event("u", "a", 1.0))
    before = order.dump()
    for other in (b"", before[:-1], before + b"x", b"\x01"):
        with pytest.raises(CorruptStateError, match="order: wanted the bytes of a dump"):
            order.load(other)
    assert order.dump() == before


@pytest.mark.parametrize("wrong", [{"lateness_s": -1.0}, {"lateness_s": math.nan}, {"held_events": 0}])
def test_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="wanted >="):
        Order(**wrong)
