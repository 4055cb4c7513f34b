import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from risk_streams import Stream, batches, counted_by_hand, new_queue

from streamrec.arrays import Array, Floats, Ints
from streamrec.batch import Batch
from streamrec.errors import ConfigError, InvariantError
from streamrec.models.base import Context
from streamrec.waiting.exposure import enter, exposed, leave
from streamrec.waiting.risk import EDGES, N_BINS, RiskOps, RiskQueue, ops_for, queue_of


class Ledger:
    """Exposure per context, bin and partition, kept from the operations alone."""

    def __init__(self, users: int, contexts: int, partitions: int) -> None:
        self.slots = contexts
        self.n = np.zeros((partitions * contexts, N_BINS), np.int32)
        self.since = np.zeros((partitions * contexts, N_BINS))
        self.person_time = np.zeros((contexts, N_BINS))
        self.events = np.zeros((contexts, N_BINS), np.int64)
        self.context = np.zeros(users, np.int64)

    def apply(self, ops: RiskOps, timed: Array, context: Ints) -> None:
        for s, r, p, a, b, time, _ in zip(*ops[3:], strict=True):
            if a >= 0:
                c = self.context[r]
                leave.py_func(self.n, self.since, self.person_time, p * self.slots + c, c, a, time)
            if s >= 0:
                self.events[self.context[r], a] += bool(a >= 0 and timed[s])
                self.context[r] = context[s]
            if b >= 0:
                c = self.context[r]
                enter.py_func(self.n, self.since, self.person_time, p * self.slots + c, c, b, time)

    def exposure(self, clocks: Floats) -> Floats:
        cell = (self.n, self.since, self.person_time, self.slots)
        return np.array(
            [[exposed.py_func(*cell, c, b, clocks) for b in range(N_BINS)] for c in range(self.slots)]
        )


def run(stream: Stream, cut: int, queue: RiskQueue, ledger: Ledger) -> list[tuple[float, ...]]:
    """Advance over all cuts; answers with every operation as a tuple, sets numbered from the beginning."""
    seen = []
    for batch in batches(stream, cut):
        ops = queue.advance(batch)
        ledger.apply(ops, batch.timed, stream.mark[batch.serial : batch.serial + batch.n_sets])
        sets = np.where(ops.set >= 0, ops.set + batch.serial, -1)
        part = queue.partitions[ops.partition]
        seen += list(zip(sets, ops.row, part, *(a.tolist() for a in ops[6:]), strict=True))
    return seen


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Up to 8 users in 3 partitions; per user times never fall, across users they go back and forth."""
    n = draw(st.integers(1, 50))
    unit = draw(st.sampled_from([1e-4, 0.1, 7.0, 86400.0]))
    user = np.array(draw(st.lists(st.integers(0, 7), min_size=n, max_size=n)))
    jump = np.array(draw(st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.0, 4.0, 100.0]), min_size=n, max_size=n)))
    lag = np.array(draw(st.lists(st.sampled_from([0.0, 0.0, 0.5, 30.0]), min_size=n, max_size=n)))
    wander = np.array(draw(st.lists(st.sampled_from([0, 0, 0, 0, 1]), min_size=n, max_size=n)))
    mark = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    time = draw(st.sampled_from([0.0, 1.7e9])) + unit * (np.cumsum(jump) - lag)
    for u in range(8):
        time[user == u] = np.maximum.accumulate(time[user == u])
    return Stream(user, (user + wander) % 3, time, mark)


def tolerance(stream: Stream) -> float:
    """Rounding of absolute times: a few units in the last place for every set."""
    return 16 * len(stream.time) * float(np.spacing(np.abs(stream.time).max() + 1e-9))


@settings(max_examples=60, deadline=None)
@given(streams(), st.sampled_from([np.inf, 2.5, 86400.0]))
def test_exposure_from_the_operations_is_what_a_loop_over_all_users_counts(
    stream: Stream, idle: float
) -> None:
    queue, ledger = new_queue(8, idle), Ledger(8, 3, 3)
    run(stream, 7, queue, ledger)
    events, exposure = counted_by_hand(stream, stream.mark, idle)
    events = np.pad(events, ((0, 3 - len(events)), (0, 0)))
    exposure = np.pad(exposure, ((0, 3 - len(exposure)), (0, 0)))
    np.testing.assert_array_equal(ledger.events, events)
    np.testing.assert_allclose(ledger.exposure(queue.clocks), exposure, rtol=1e-9, atol=tolerance(stream))


@settings(max_examples=40, deadline=None)
@given(streams(), st.sampled_from([np.inf, 86400.0]))
def test_operations_do_not_depend_on_how_the_stream_is_cut(stream: Stream, idle: float) -> None:
    straight = run(stream, 1000, new_queue(8, idle), Ledger(8, 3, 3))
    for cut in (1, 7, 64):
        assert repr(run(stream, cut, new_queue(8, idle), Ledger(8, 3, 3))) == repr(straight)


@settings(max_examples=40, deadline=None)
@given(streams(), st.integers(0, 6), st.sampled_from([np.inf, 86400.0]))
def test_a_loaded_queue_goes_on_as_if_never_stopped(stream: Stream, stop: int, idle: float) -> None:
    queue = new_queue(8, idle)
    for batch in batches(stream, 7):
        if batch.serial == 7 * stop:
            rows, columns = queue.arena.take_touched()
            loaded = new_queue(8, idle)
            loaded.load_scalars(queue.scalars())
            loaded.arena.put(rows, columns)
            queue = loaded
        ops = queue.advance(batch)
        straight = new_queue(8, idle)
        for earlier in batches(stream, 7):
            expected = straight.advance(earlier)
            if earlier.serial == batch.serial:
                break
        assert repr([a.tolist() for a in ops[1:]]) == repr([a.tolist() for a in expected[1:]])


def one(row: list[int], time: list[float]) -> Batch:
    n = len(row)
    return next(batches(Stream(np.array(row), np.zeros(n, int), np.array(time), np.zeros(n, int)), n))


def test_crossings_come_in_order_of_their_time_before_the_set_that_they_precede() -> None:
    ops = new_queue(4).advance(one([0, 1, 2, 3], [0.0, 0.4, 0.5, 500.0]))
    crossing = ops.set < 0
    assert np.all(np.diff(ops.time) >= 0)
    assert ops.event.tolist() == np.flatnonzero(~crossing).tolist()
    np.testing.assert_allclose(ops.elapsed[crossing], EDGES[ops.source[crossing]])
    assert np.bincount(ops.row[crossing]).tolist() == [int(np.sum(e + EDGES <= 500)) for e in (0, 0.4, 0.5)]


def test_users_of_one_time_cross_in_the_order_of_their_sets() -> None:
    ops = new_queue(4).advance(one([2, 0, 1, 3], [5.0, 5.0, 5.0, 6.0]))
    crossed = ops.row[(ops.set < 0) & (ops.source == 3)]
    assert crossed.tolist() == [2, 0, 1]


def test_a_set_older_than_the_clock_takes_the_user_back_to_its_bin_and_forward_again() -> None:
    ops = new_queue(4).advance(one([0, 1, 0], [0.0, 1000.0, 2.0]))
    event = ops.event[2]
    assert ops.source[event] == np.sum(EDGES <= 2.0) and ops.elapsed[event] == 2.0
    back = (ops.set < 0) & (ops.source > ops.target)
    assert np.all(ops.row[back] == 0) and back.sum() == np.sum((EDGES > 2) & (EDGES <= 1000))
    assert np.all(ops.time[event:] >= 2.0) and np.all(ops.set[event + 1 :] < 0)
    assert ops.target[-1] == np.sum(EDGES <= 998.0)


def test_risk_ends_when_a_user_is_idle_too_long() -> None:
    queue = new_queue(4, max_idle_s=10.0)
    ops = queue.advance(one([0, 1, 0], [0.0, 100.0, 101.0]))
    ended = ops.target < 0
    assert ops.row[ended].tolist() == [0] and ops.time[ended].tolist() == [10.0]
    assert ops.source[ops.event].tolist() == [-1, -1, -1]


def test_dropped_users_leave_at_the_clock_and_return_as_strangers() -> None:
    queue = new_queue(4)
    queue.advance(one([0, 1, 2], [0.0, 1.0, 7.0]))
    told: list[list[tuple[int, int, float]]] = []
    queue.watch(
        lambda ops: told.append(list(zip(ops.row.tolist(), ops.target.tolist(), ops.time, strict=True)))
    )
    queue.drop(np.array([0, 3]))
    assert told == [[(0, -1, 7.0)]]
    ops = queue.advance(one([1, 0], [8.0, 9.0]))
    assert ops.source[ops.event].tolist() == [int(np.sum(EDGES + 1.0 <= 8.0)), -1]
    assert 0 not in ops.row[ops.set < 0]


def test_buffers_and_rows_grow_when_many_users_cross_many_edges_at_once() -> None:
    users = 3000
    queue = new_queue(16)
    queue.advance(one([0], [0.0]))
    queue.arena.grow(users + 1)
    ops = queue.advance(one([*range(users), users], [*np.arange(users) * 1e-9, 9e5]))
    assert np.sum(ops.set < 0) == users * np.sum(EDGES + 3e-6 <= 9e5)
    assert np.all(np.diff(ops.time) >= 0)


def test_a_model_without_the_queue_or_ahead_of_it_is_told_so() -> None:
    queue = new_queue(4)
    batch = one([0], [0.0])
    with pytest.raises(ConfigError, match=r"model m: expected a RiskQueue in context\.risk, got None"):
        queue_of(Context("m", queue.arena, 0, 0), "m")
    with pytest.raises(InvariantError, match="risk queue stands at None"):
        ops_for(queue, batch, "m")
    ops = queue.advance(batch)
    assert ops_for(queue, batch, "m") is ops


def test_an_idle_limit_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_idle_s: expected > 0 seconds"):
        new_queue(4, max_idle_s=0.0)
