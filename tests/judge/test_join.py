"""The join alone: sets that forecasts name, outcomes, bounds; whichever log comes first."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.event import TieSet
from streamrec.judge.issued import Issued, Key, Published, read_forecast
from streamrec.judge.join import Answer, Join
from streamrec.judge.sums import KEPT_WINDOWS, Windows

LIST = Issued(["a", "b"], [0.5, 0.25], 0.25, 10, [0.0, 1.0, 100.0], [0.1, 0.2, 0.3], (1.0, math.inf), ["a"])


def key(offset: int) -> Key:
    return Key("log", 0, offset)


def forecast(user: str, offset: int, time: float) -> Published:
    return Published(key(offset), "mixture", user, time, LIST)


class Court:
    """A join, and everything that it answered."""

    def __init__(self, **more: int) -> None:
        self.answers: list[Answer] = []
        self.join = Join(Windows(60.0), told=self.answers.append, **more)

    def event(self, user: str, time: float, *marks: tuple[int, str]) -> None:
        self.join.happened(TieSet(user, time, ()), [(*key(offset), mark) for offset, mark in marks])

    def issue(self, user: str, offset: int, time: float) -> None:
        self.join.issued(forecast(user, offset, time))

    @property
    def outcomes(self) -> list[tuple[int, str]]:
        return [(a.key.offset, a.outcome) for a in self.answers]


@pytest.fixture
def court() -> Court:
    return Court()


def test_a_listed_mark_is_a_hit_with_its_rank_and_another_is_a_miss(court: Court) -> None:
    court.event("u", 1.0, (0, "z"))
    court.issue("u", 0, 1.0)
    court.event("u", 2.0, (1, "b"))
    court.issue("u", 1, 2.0)
    court.event("u", 9.0, (2, "q"))
    court.issue("u", 2, 9.0)
    assert court.outcomes == [(0, "hit"), (1, "miss")]
    assert court.answers[0].marks == [("b", 2.0, math.log(0.25))]
    assert court.answers[1].marks == [("q", 7.5, math.log(0.025))]
    assert court.answers[1].log_density == pytest.approx(math.log(0.2) - 0.1 - 0.2 * 6.0, rel=1e-12)
    assert (court.join.tally.first_marks, court.join.n_open()) == (1, 1)


def test_an_event_after_the_horizon_finds_its_forecast_expired_and_scores_all_the_same(court: Court) -> None:
    court.event("u", 0.0, (0, "a"))
    court.issue("u", 0, 0.0)
    court.event("u", 101.0, (1, "a"))
    court.issue("u", 1, 101.0)
    assert court.outcomes == [(0, "expired")]
    assert court.join.windows.total.report()["mark_issued"]["hit@1"] == 1.0


def test_a_forecast_replaced_without_an_event_is_superseded(court: Court) -> None:
    for offset, time in ((0, 1.0), (1, 2.0), (2, 3.0)):
        court.issue("u", offset, time)
    court.event("u", 1.0, (0, "a"))
    court.event("u", 3.0, (2, "a"))
    assert court.outcomes == [(0, "superseded"), (1, "hit")]


def test_a_forecast_that_comes_again_counts_once(court: Court) -> None:
    for offset, time in ((0, 1.0), (1, 2.0), (0, 1.0), (1, 2.0), (2, 2.0), (1, 2.0)):
        court.issue("u", offset, time)
    assert (court.join.tally.forecasts, court.join.tally.repeated) == (3, 3)


def test_sets_begin_where_a_forecast_says_so_and_a_further_set_is_not_timed(court: Court) -> None:
    court.event("u", 1.0, (0, "a"))
    court.event("u", 5.0, (1, "a"), (2, "q"), (3, "b"), (4, "q"))
    for offset, time in ((0, 1.0), (1, 5.0), (3, 5.0)):
        court.issue("u", offset, time)
    assert court.outcomes == [(0, "hit")]
    court.event("u", 7.0, (5, "q"))
    court.issue("u", 5, 7.0)
    assert court.outcomes == [(0, "hit"), (1, "hit"), (3, "miss")]
    assert [[m for m, _, _ in a.marks] for a in court.answers] == [["a", "q"], ["b", "q"], ["q"]]
    assert [math.isnan(a.log_density) for a in court.answers] == [False, True, False]


def test_events_that_the_program_did_not_take_are_in_nobodys_set(court: Court) -> None:
    court.event("u", 1.0, (0, "a"))
    court.event("u", 2.0, (1, "a"))
    court.event("u", 3.0, (2, "a"))
    court.issue("u", 0, 1.0)
    court.issue("u", 2, 3.0)
    assert court.outcomes == [(0, "hit")]
    assert (court.join.tally.outside_marks, court.join.n_waiting) == (1, 0)


def test_a_set_of_several_events_waits_for_a_forecast_that_could_split_it_or_for_the_end(
    court: Court,
) -> None:
    court.event("u", 1.0, (0, "a"))
    court.event("u", 2.0, (1, "a"), (2, "b"))
    court.issue("u", 0, 1.0)
    court.issue("u", 1, 2.0)
    assert court.outcomes == []
    court.join.finish()
    assert court.outcomes == [(0, "hit")]


def test_beyond_its_bounds_the_oldest_user_is_let_go_and_its_forecasts_expire() -> None:
    court = Court(max_users=2)
    for i, user in enumerate("abc"):
        court.event(user, float(i), (i, "a"))
        court.issue(user, i, float(i))
        court.join.keep_bounds()
    assert court.outcomes == [(0, "expired")]
    assert (court.join.tally.let_go_users, court.join.tally.let_go_forecasts) == (1, 1)
    assert set(court.join.users) == {"b", "c"}


def test_beyond_its_bounds_what_waits_for_the_other_log_is_let_go_and_counted() -> None:
    court = Court(max_waiting=3)
    for i in range(5):
        court.event(f"u{i}", float(i), (i, "a"))
        court.issue(f"v{i}", i, float(i))
        court.join.keep_bounds()
    assert (court.join.tally.let_go_marks, court.join.tally.let_go_forecasts) == (2, 2)
    assert (court.join.n_waiting, court.join.n_ahead) == (3, 3)


Step = tuple[bool, int]
Set = tuple[str, float, int, list[str]]
Drawn = tuple[list[Set], list[list[Step]]]


@st.composite
def interleaved(draw: st.DrawFn) -> Drawn:
    """Sets of a few users in order, and several orders in which two logs of them can be read."""
    n = draw(st.integers(1, 14))
    sets, at, time = [], 0, 0.0
    for _ in range(n):
        time += draw(st.sampled_from([0.5, 1.0, 120.0]))
        user = draw(st.sampled_from("uvw"))
        marks = draw(st.lists(st.sampled_from("abq"), min_size=1, max_size=3))
        sets.append((user, time, at, marks))
        at += len(marks)
    orders = []
    for _ in range(3):
        which = draw(st.permutations([True] * n + [False] * n))
        seen = {True: 0, False: 0}
        order: list[Step] = []
        for events in which:
            order.append((events, seen[events]))
            seen[events] += 1
        orders.append(order)
    return sets, orders


def judged(sets: Sequence[Set], order: Sequence[Step]) -> object:
    court = Court()
    for events, i in order:
        user, time, at, marks = sets[i]
        if events:
            court.event(user, time, *enumerate(marks, at))
        else:
            court.issue(user, at, time)
    court.join.finish()
    assert court.join.n_waiting == court.join.n_ahead == 0
    return court.join.windows.dump(), court.join.tally, sorted(map(repr, court.answers))


@given(interleaved())
def test_no_figure_depends_on_which_log_came_first(drawn: Drawn) -> None:
    sets, orders = drawn
    results = [judged(sets, order) for order in orders]
    assert all(result == results[0] for result in results)


def test_windows_beyond_those_kept_become_one_and_nothing_is_lost() -> None:
    forth, back = Windows(10.0), Windows(10.0)
    times = [10.0 * i for i in range(KEPT_WINDOWS + 30)]
    for windows, order in ((forth, times), (back, times[::-1])):
        for time in order:
            for part in windows.at(time):
                part.add_mark(-0.1 * time, 3.0, None)
    assert forth.dump() == back.dump()
    assert len(forth.parts()) == KEPT_WINDOWS
    assert forth.earlier.counts["marks"] == 30
    again = Windows(10.0)
    again.load(forth.dump())
    assert again.dump() == forth.dump()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b'{"id":"log:0:1:0:mixture","user":"u"}',
        b"[" * 100_000,
        read
        := b'{"id":"log:0:x:0:m","user":"u","issued_at":1,"marks":[],"p_new_mark":1,"p_rest":0,"n_rest":0,'
        b'"n_new":1}',
        read.replace(b":x:", b":1:").replace(b'"p_new_mark":1', b'"p_new_mark":2'),
        read.replace(b":x:", b":1:").replace(b'"n_new":1', b'"n_new":1,"v":2'),
        read.replace(b":x:", b":%d:" % 10**30),
        read.replace(b":x:", b":1:").replace(b'"n_new":1', b'"n_new":%d' % 10**18),
        read.replace(b":x:", b":1:").replace(b'"issued_at":1', b'"issued_at":1e300'),
    ],
)
def test_what_is_no_forecast_is_said_and_not_raised(line: bytes) -> None:
    assert isinstance(read_forecast(line), str)


def test_the_shortest_forecast_is_read() -> None:
    line = (
        b'{"id":"log:0:1:0:m","user":"u","issued_at":1,"marks":[],"p_new_mark":1,"p_rest":0,"n_rest":0,'
        b'"n_new":1}'
    )
    assert isinstance(read_forecast(line), Published)


def test_a_forecast_without_a_waiting_time_is_read() -> None:
    line = (
        b'{"id":"a:0:1:0:mixture","user":"u","issued_at":1,"marks":[{"mark":"m","p":0.5}],"p_new_mark":0.25,'
        b'"p_rest":0.25,"n_rest":1,"n_new":4,"wait":{"mean":null,"hazard":{"edges_s":[0,1],"rate":[null],'
        b'"tail":null}},"set90":{"size":9,"p_threshold":0.01},"interval90":[null,null]}'
    )
    read = read_forecast(line)
    assert isinstance(read, Published)
    assert math.isnan(read.issued.log_density(1.0))
    assert [read.issued.in_set(mark) for mark in "mz"] == [True, None]
    assert read.issued.mark_score("z")[:2] == (math.log(0.1), 4.0)
