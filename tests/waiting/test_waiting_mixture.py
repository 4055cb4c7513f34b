"""The waiting mixture: its bound, its honesty, and that nothing depends on the cut."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting_streams import EXPERTS, NAIVE, Stream, batches, fresh, random_stream, run, sets_of

from streamrec.arrays import Floats
from streamrec.errors import ConfigError, InvariantError, StateError
from streamrec.mixture.waiting import Named, WaitingMixture
from streamrec.mixture.waiting_scores import WaitScores
from streamrec.mixture.waiting_weights import FLOOR, serve_rows
from streamrec.models.base import Walk
from streamrec.state.columns import Columns
from streamrec.waiting.cells import log_cell
from streamrec.waiting.exponential import Exponential
from streamrec.waiting.piecewise_exponential import PiecewiseExponential
from streamrec.waiting.resolution import ClockResolution, to_grid

K = len(EXPERTS)
FIELDS = ["log_issued", "log_point", "log_arrival", "pit", "median", "mean", "log_density_issued", "delta"]


def whole(scores: list[WaitScores], field: str) -> Floats:
    """One field over all cuts."""
    return np.concatenate([getattr(cut, field) for cut in scores], axis=-1)


def weights(scores: list[WaitScores]) -> Floats:
    return np.concatenate([cut.log_weights for cut in scores])


def poisson_stream(users: list[int], gaps: list[int], rates: Floats) -> Stream:
    """Two exponential experts that issue what `rates` (n, 2) say."""
    n = len(users)
    params = [np.column_stack([rates[:, k], np.zeros(n)]) for k in range(2)]
    return Stream(np.array(users), 1e6 + np.cumsum(np.array(gaps, np.float64)), params, params)


TWO: list[Named] = [("a", Exponential()), ("b", Exponential())]


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 120).flatmap(lambda n: st.tuples(
    st.lists(st.integers(0, 3), min_size=n, max_size=n),
    st.lists(st.sampled_from([1, 2, 60, 3600, 10**6]), min_size=n, max_size=n),
    st.lists(st.sampled_from([1e-9, 1e-3, 1.0, 30.0]), min_size=2 * n, max_size=2 * n),
)), st.integers(1, 50))  # fmt: skip
def test_no_user_loses_more_than_the_prior_against_the_best_expert(
    drawn: tuple[list[int], list[int], list[float]], cut: int
) -> None:
    users, gaps, rates = drawn
    stream = poisson_stream(users, gaps, np.array(rates).reshape(-1, 2))
    scores = run(fresh(4, TWO, []), stream, cut)
    log_p, log_w, first = whole(scores, "log_issued"), weights(scores), sets_of(stream).length == 0
    for user in set(users):
        mine = stream.user == user
        losses = -np.nansum(log_p[:, mine], axis=1)
        log_w0 = np.roll(log_w[mine & first][0], 1)  # the team first, as in the scores
        assert losses[0] <= np.min(losses[1:] - log_w0) + 1e-9 * (1 + abs(losses[0]))
        exact = -np.log(np.sum(np.exp(log_w0 - (losses[1:] - losses[1:].min())))) + losses[1:].min()
        np.testing.assert_allclose(losses[0], exact, rtol=1e-9, atol=1e-9)


def test_weights_that_stand_still_would_break_the_bound() -> None:
    """The bound is not an accident of mild streams: with frozen weights the loss is far above it."""
    n = 200
    rates = np.tile([1.0, 1e-9], (n, 1))
    stream = poisson_stream([0] * n, [1] * n, rates)
    log_p = whole(run(fresh(1, TWO, []), stream, 50), "log_issued")
    frozen = -np.sum(np.logaddexp(log_p[2, 1:], log_p[3, 1:]) - np.log(2))
    best, log_w0 = -np.nansum(log_p[2]), fresh(1, TWO, []).log_prior()
    assert frozen > best + 100 and -np.nansum(log_p[0]) <= best - log_w0[0] + 1e-9


@pytest.mark.parametrize("cut", [1, 7, 128])
def test_all_bits_are_the_same_at_any_cut(cut: int) -> None:
    stream = random_stream(400, 37, 3)
    one, other = fresh(37), fresh(37)
    a, b = run(one, stream, 400), run(other, stream, cut)
    for field in FIELDS:
        np.testing.assert_array_equal(whole(a, field), whole(b, field), err_msg=field)
    for field in ["rates", "tail", "quantiles", "mean", "never", "interval"]:
        parts = [np.concatenate([getattr(c.published, field) for c in run_]) for run_ in (a, b)]
        np.testing.assert_array_equal(parts[0], parts[1], err_msg=field)
    np.testing.assert_array_equal(weights(a), weights(b))
    for name in one.arena:
        np.testing.assert_array_equal(one.arena[name], other.arena[name], err_msg=name)
    for name, array in one.scalars().items():
        np.testing.assert_array_equal(array, other.scalars()[name])


def test_what_is_scored_is_what_was_frozen_and_later_answers_change_nothing() -> None:
    stream = random_stream(300, 20, 4)
    sets = sets_of(stream)
    scores = run(fresh(20), stream, 64)
    log_p, delta = whole(scores, "log_issued"), whole(scores, "delta")
    at = np.flatnonzero(sets.earlier >= 0)
    dt = to_grid(sets.dt[at], delta[at])
    for k, (_, law) in enumerate([*EXPERTS, *NAIVE]):
        frozen = stream.issued[k][sets.earlier[at]].astype(np.float32).astype(np.float64)
        np.testing.assert_array_equal(log_p[k + 2, at], log_cell(law, frozen, dt, delta[at]))
    half = 150
    later = [np.where(np.arange(300)[:, None] < half, issued, issued[::-1]) for issued in stream.issued]
    changed = whole(run(fresh(20), replace(stream, issued=later, arrival=later), 64), "log_issued")
    sees_only_the_first_half = sets.earlier < half
    np.testing.assert_array_equal(log_p[1:, sees_only_the_first_half], changed[1:, sees_only_the_first_half])
    assert not np.array_equal(log_p[1:, ~sees_only_the_first_half], changed[1:, ~sees_only_the_first_half])


def test_arrival_and_issued_agree_where_the_model_answers_the_same_twice() -> None:
    stream = random_stream(200, 10, 5)
    sets = sets_of(stream)
    same = [np.where(sets.earlier[:, None] >= 0, issued[sets.earlier], 1.0) for issued in stream.issued]
    scores = run(fresh(10), replace(stream, arrival=same), 32)
    np.testing.assert_array_equal(whole(scores, "log_issued"), whole(scores, "log_arrival"))


def test_the_mixture_is_scored_with_the_weights_before_the_gap() -> None:
    stream = random_stream(250, 15, 6)
    sets = sets_of(stream)
    scores = run(fresh(15), stream, 50)
    log_w, at = weights(scores), np.flatnonzero(sets.earlier >= 0)
    before = np.roll(log_w[sets.earlier[at]], 1, axis=1)  # the team first, as in the scores
    for field in ["log_issued", "log_point", "log_arrival"]:
        each = whole(scores, field)[:, at]
        wanted = np.log(np.sum(np.exp(before.T + each[1 : K + 2]), axis=0))
        np.testing.assert_allclose(each[0], wanted, rtol=1e-10, err_msg=field)
    np.testing.assert_allclose(np.exp(log_w).sum(axis=1), 1.0, rtol=1e-12)
    pit = whole(scores, "pit")[:, at]
    np.testing.assert_allclose(pit[0], np.sum(np.exp(before.T) * pit[1 : K + 2], axis=0), rtol=1e-10)


def test_silence_re_weights_the_experts_by_survival_and_stores_nothing() -> None:
    stream = random_stream(300, 12, 7)
    mixture = fresh(12)
    run(mixture, stream, 60)
    rows, s = np.arange(12), np.geomspace(1.0, 1e6, 12)
    before = {name: mixture.arena[name].copy() for name in mixture.arena}
    published = mixture.forecast(rows, s)
    for name, array in before.items():
        np.testing.assert_array_equal(array, mixture.arena[name])
    params = [part for _, part in mixture._split(mixture.arena["wait.params"][rows])][:K]
    w = np.exp(serve_rows(mixture.arena["wait.log_w"][rows], mixture.arena["wait.log_v"][rows]))
    for j in (3, 15, 32):
        t = published.edges_s[j]
        both = [
            [np.exp(law.log_survival(p, u)) for (_, law), p in zip(EXPERTS, params, strict=True)]
            for u in (s, s + t)
        ]
        wanted = (w.T * both[1]).sum(axis=0) / (w.T * both[0]).sum(axis=0)
        np.testing.assert_allclose(1 - published.within(t), wanted, rtol=1e-4, atol=1e-12)


def test_a_forecast_read_at_once_is_the_published_one() -> None:
    stream = random_stream(200, 8, 8)
    mixture = fresh(8)
    scores = run(mixture, stream, 200)
    last = np.array([np.flatnonzero(stream.user == row)[-1] for row in range(8)])
    now = mixture.forecast(np.arange(8), np.zeros(8))
    np.testing.assert_allclose(now.quantiles, scores[-1].published.quantiles[last], rtol=1e-9)
    np.testing.assert_allclose(now.tables, scores[-1].published.tables[last], rtol=2e-5)


def test_completed_cells_and_open_waits_telescope_over_windows() -> None:
    """A(t) of a constant rate is events * ln cell - rate * time at risk outside of cells."""
    rate, delta, n, users = 2.0**-6, 1.0, 400, 15
    rng = np.random.default_rng(9)
    stream = poisson_stream(
        rng.integers(0, users, n).tolist(), rng.integers(1, 9, n).tolist(), np.full((n, 2), rate)
    )
    sets = sets_of(stream)
    mixture = WaitingMixture(Columns(users, {}), TWO, [], resolution=ClockResolution(delta))
    total, ends = [], []
    for batch, walks in batches(stream, 40):
        found = mixture.step(batch, walks)
        edge = batch.time[-1] + 0.5 * delta
        seen = stream.time < edge
        rows = np.unique(stream.user[seen])
        elapsed = edge - np.array([stream.time[seen & (stream.user == row)].max() for row in rows])
        completed = np.nansum(found.log_issued, axis=1)
        total.append((completed, mixture.open_score(rows, elapsed)))
        ends.append(edge)
    windows = np.diff(np.cumsum([c for c, _ in total], axis=0) + np.array([o for _, o in total]), axis=0)
    for (start, stop), window in zip(pairwise(ends), windows, strict=True):
        inside = (stream.time > start) & (stream.time < stop)
        events = np.count_nonzero(inside & (sets.earlier >= 0))
        risk = 0.0
        for row in range(users):
            times = stream.time[stream.user == row]
            if times[0] < stop:
                charged = stop - max(start, times[0] + delta / 2)
                risk += charged - delta * np.count_nonzero(inside[stream.user == row][1:])
        wanted = events * (np.log(-np.expm1(-rate * delta)) - np.log(delta)) - rate * risk
        np.testing.assert_allclose(window, wanted, rtol=1e-9)


def test_the_printed_table_is_what_is_scored_as_printed() -> None:
    stream = random_stream(300, 25, 10)
    sets = sets_of(stream)
    scores = run(fresh(25), stream, 60)
    tables = np.concatenate([cut.published.tables for cut in scores])
    printed = np.array([[float(f"{x:.6g}") for x in row] for row in tables])
    np.testing.assert_array_equal(printed, tables)
    at = np.flatnonzero(sets.earlier >= 0)
    law, rows = PiecewiseExponential(scores[0].published.edges_s), printed[sets.earlier[at]]
    wanted = law.log_hazard(rows, sets.dt[at]) + law.log_survival(rows, sets.dt[at])
    np.testing.assert_array_equal(whole(scores, "log_density_issued")[at], wanted)


def test_published_numbers_are_those_of_the_mixture() -> None:
    """One exponential alone: every published number has a closed form."""
    rate, horizon = 3e-6, 365 * 86400.0
    stream = poisson_stream([0, 0], [5, 5], np.full((2, 2), rate))
    published = run(fresh(1, TWO, []), stream, 2)[0].published
    within = -np.expm1(-rate * horizon)
    np.testing.assert_allclose(published.rates, rate, rtol=1e-5)
    np.testing.assert_allclose(published.never, 1 - within, atol=1e-12)
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    np.testing.assert_allclose(published.quantiles[1], -np.log1p(-levels * within) / rate, rtol=1e-6)
    mean = (1 / rate) - horizon * np.exp(-rate * horizon) / within
    np.testing.assert_allclose(published.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(published.interval[0], -np.log1p([-0.05, -0.95]) / rate, rtol=1e-6)
    one = published.one(0)
    assert len(one["edges_s"]) == 33 and len(one["rates"]) == 32 and one["quantiles"][0.5] < one["mean"]


def test_the_full_interval_is_infinite_where_the_defect_is_in_the_way() -> None:
    params = [np.array([[1.0, 0.2]]), np.array([[1.0, 0.2]])]
    stream = Stream(np.zeros(1, np.int64), np.array([1e6]), params, params)
    published = run(fresh(1, TWO, []), stream, 1)[0].published
    assert np.isfinite(published.interval[0, 0]) and published.interval[0, 1] == np.inf
    np.testing.assert_allclose(published.never, 0.2, rtol=1e-6)


def test_the_mean_is_that_of_the_printed_table_within_the_horizon() -> None:
    stream = random_stream(60, 5, 16)
    published = run(fresh(5), stream, 60)[0].published
    law, edges = PiecewiseExponential(published.edges_s), published.edges_s
    grid = np.unique(np.concatenate([edges, np.geomspace(1e-4, edges[-1], 4001)]))
    survival = np.exp(law.log_survival(published.tables, np.tile(grid, (60, 1))))
    nodes, share = np.polynomial.legendre.leggauss(8)
    width = np.diff(grid)[:, None]
    at = (grid[:-1, None] + width * (nodes + 1) / 2).reshape(-1)
    inside = np.exp(law.log_survival(published.tables, np.tile(at, (60, 1))))
    area = (inside * (width * share / 2).reshape(-1)).sum(axis=1)
    mean = (area - edges[-1] * survival[:, -1]) / (1 - survival[:, -1])
    np.testing.assert_allclose(published.mean, mean, rtol=2e-5)


def test_medians_and_means_are_of_the_law_that_was_issued() -> None:
    stream = random_stream(120, 9, 11)
    sets = sets_of(stream)
    scores = run(fresh(9), stream, 30)
    at = np.flatnonzero(sets.earlier >= 0)
    issued = stream.issued[1][sets.earlier[at]].astype(np.float32).astype(np.float64)
    reach = -np.expm1(EXPERTS[1][1].log_survival(issued, np.full(len(at), 365 * 86400.0)))
    np.testing.assert_allclose(
        whole(scores, "median")[3, at], EXPERTS[1][1].quantile(issued, 0.5 * reach), rtol=1e-6
    )
    published = np.concatenate([cut.published.quantiles[:, 2] for cut in scores])
    np.testing.assert_allclose(whole(scores, "median")[0, at], published[sets.earlier[at]], rtol=1e-6)


def test_an_expert_that_issued_nothing_sleeps_and_keeps_its_weight() -> None:
    stream = random_stream(200, 10, 12)
    sets = sets_of(stream)
    stream.issued[2][:100] = np.nan
    scores = run(fresh(10), stream, 40)
    log_p, log_w = whole(scores, "log_issued"), weights(scores)
    at = np.flatnonzero(sets.earlier >= 0)
    asleep = sets.earlier[at] < 100
    assert np.isnan(log_p[4, at][asleep]).all() and np.isfinite(log_p[4, at][~asleep]).all()
    assert np.isfinite(log_p[0, at]).all() and np.isfinite(scores[0].published.tables).all()
    np.testing.assert_array_equal(log_w[at][asleep, 2], log_w[sets.earlier[at]][asleep, 2])
    np.testing.assert_allclose(np.exp(log_w).sum(axis=1), 1.0, rtol=1e-12)


def test_the_prior_learns_which_expert_users_need_and_keeps_its_floor() -> None:
    rng = np.random.default_rng(13)
    n, users = 2000, 300
    user = rng.integers(0, users, n)
    stream = poisson_stream(user.tolist(), rng.integers(1, 4, n).tolist(), np.tile([1 / 600, 1.0], (n, 1)))
    mixture = fresh(users, TWO, [])
    run(mixture, stream, 100)
    w0 = np.exp(mixture.log_prior())
    assert w0[0] + w0[2] > 0.95 and w0[1] >= FLOOR / 3
    assert mixture.team[0] > 0.95
    np.testing.assert_allclose(w0.sum(), 1.0)


def test_the_state_survives_a_round_trip() -> None:
    stream = random_stream(300, 20, 14)
    cuts = list(batches(stream, 50))
    straight, before, after = fresh(20), fresh(20), fresh(20)
    wanted = [straight.step(batch, walks) for batch, walks in cuts][3:]
    for batch, walks in cuts[:3]:
        before.step(batch, walks)
    after.arena.put(*before.arena.take_touched())
    after.load_scalars(before.scalars())
    found = [after.step(batch, walks) for batch, walks in cuts[3:]]
    for field in FIELDS:
        np.testing.assert_array_equal(whole(found, field), whole(wanted, field))


def test_published_numbers_are_in_order_and_within_their_bounds() -> None:
    scores = run(fresh(30), random_stream(400, 30, 17), 128)
    for published in (cut.published for cut in scores):
        assert (np.diff(published.quantiles, axis=1) >= 0).all()
        assert (published.quantiles[:, -1] <= published.edges_s[-1]).all()
        assert (published.rates > 0).all() and (published.tail > 0).all()
        assert ((published.never >= 0) & (published.never <= 1)).all()
        np.testing.assert_allclose(published.within(published.edges_s[-1]), 1 - published.never, rtol=1e-4)
        full = np.column_stack([published.interval[:, 0], published.quantiles[:, 0]])
        assert (full[:, 0] >= full[:, 1] * (1 - 1e-9)).all()
        assert (published.interval[:, 1] >= published.quantiles[:, -1] * (1 - 1e-9)).all()


def test_a_user_who_is_forgotten_starts_from_the_prior_again() -> None:
    stream = random_stream(100, 5, 18)
    mixture = fresh(5)
    run(mixture, stream, 50)
    mixture.arena.reset(np.array([2]))
    assert np.isnan(mixture.open_rows(np.array([2]), np.array([5.0]))).all()
    assert (mixture.open_score(np.array([2]), np.array([5.0])) == 0).all()
    log_w0 = mixture.log_prior()
    batch, walks = next(batches(Stream(np.array([2]), stream.time[-1:] + 9, *_one_set(stream)), 1))
    np.testing.assert_allclose(mixture.step(batch, walks).log_weights[0], log_w0, rtol=1e-12)


def _one_set(stream: Stream) -> tuple[list[Floats], list[Floats]]:
    return [part[:1] for part in stream.issued], [part[:1] for part in stream.arrival]


def test_the_state_of_other_experts_is_refused() -> None:
    with pytest.raises(StateError, match="the state has 2 experts, the settings 6"):
        fresh(1).load_scalars(fresh(1, TWO, []).scalars())


def test_wrong_walks_and_names_are_refused() -> None:
    batch, walks = next(batches(random_stream(10, 3, 15), 10))
    with pytest.raises(InvariantError, match=r"lomax: expected \(10, 3\) parameters, got \(10, 2\)"):
        fresh(3).step(batch, [walks[0], Walk(wait_issued=np.ones((10, 2))), *walks[2:]])
    with pytest.raises(InvariantError, match="expected 8 walks, got 1"):
        fresh(3).step(batch, walks[:1])
    with pytest.raises(ConfigError, match="names of their own"):
        fresh(3, TWO, TWO)
    with pytest.raises(ConfigError, match="forecast_horizon_s"):
        WaitingMixture(Columns(1, {}), TWO, [], horizon_s=0.5)


def test_the_pit_of_the_true_law_is_uniform() -> None:
    rng = np.random.default_rng(19)
    n, rate = 4000, 0.5
    gaps = np.maximum(np.round(rng.exponential(1 / rate, n), 3), 0.001)
    params = [np.tile([rate, 0.0], (n, 1))]
    stream = Stream(np.zeros(n, np.int64), 1e6 + np.cumsum(gaps), params, params)
    scores = run(fresh(1, TWO[:1], []), stream, 128)
    assert whole(scores, "delta")[-1] == 1e-3
    pit = np.sort(whole(scores, "pit")[0, 1:])
    distance = np.abs(pit - (np.arange(n - 1) + 0.5) / (n - 1)).max()
    assert distance < 1.95 / np.sqrt(n)  # Kolmogorov-Smirnov at 0.1 %
    entropy = np.log(rate) - 1
    assert abs(whole(scores, "log_issued")[0, 1:].mean() - entropy) < 4 / np.sqrt(n)
