import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from risk_streams import (
    Stream,
    batches,
    counted_by_hand,
    head,
    in_order,
    new_context,
    poisson_stream,
    reloaded,
    score_against,
    walk_all,
)

from streamrec.arrays import Floats, Ints
from streamrec.errors import ConfigError
from streamrec.models import log_normal
from streamrec.models.base import Context
from streamrec.models.constant_gap import ConstantGap
from streamrec.models.log_normal import CENTRES, SIGMA, WIDTHS, LogNormal
from streamrec.waiting.dictionary import Dictionary
from streamrec.waiting.exponential import Exponential
from streamrec.waiting.risk import EDGES, N_EDGES


def small(context: Context) -> LogNormal:
    """A model that runs out of room for contexts."""
    return LogNormal(context, slots=24)


def renewal_stream(users: int, mu: Floats, sigma: float, gone: float, horizon: float) -> Stream:
    """Log-normal waits by the last mark; after any set a user is gone with probability `gone`."""
    rng = np.random.default_rng(2)
    rows, times, marks = [], [], []
    for u in range(users):
        t = rng.uniform(0, horizon / 2)
        while t < horizon:
            m = rng.integers(0, len(mu))
            rows.append(u)
            times.append(t)
            marks.append(m)
            if rng.random() < gone:
                break
            t += np.exp(mu[m] + sigma * rng.normal())
    return in_order(np.array(rows), np.array(times), np.array(marks))


def restless(seed: int, n: int = 900) -> Stream:
    """Three partitions, times that go back and forth across users, ties, users who change partition."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 40, n)
    time = 1.7e9 + np.cumsum(rng.choice([0.0, 1.0, 30.0, 5000.0], n)) - rng.choice([0.0, 0.0, 90.0], n)
    for u in range(40):
        time[user == u] = np.maximum.accumulate(time[user == u])
    return Stream(user, (user + (rng.random(n) < 0.05)) % 3, time, rng.integers(0, 5, n))


@pytest.mark.parametrize("make", [ConstantGap, LogNormal, small])
def test_answers_are_the_same_bits_at_any_cut_size(make: type) -> None:
    stream = restless(5)
    arrival, issued = walk_all(make(new_context()), stream, len(stream.row))
    for cut in (1, 7, 64):
        again = walk_all(make(new_context()), stream, cut)
        assert again[0].tobytes() == arrival.tobytes() and again[1].tobytes() == issued.tobytes()


@pytest.mark.parametrize("make", [ConstantGap, LogNormal, small])
def test_a_loaded_model_goes_on_with_the_same_bits(make: type) -> None:
    stream = restless(6)
    straight = walk_all(make(new_context()), stream, 64)
    model = make(new_context())
    walk_all(model, head(stream, 384), 64)
    arrival, issued = walk_all(reloaded(model, make), stream, 64, start=384)
    assert arrival.tobytes() == straight[0][384:].tobytes()
    assert issued.tobytes() == straight[1][384:].tobytes()


def exposure_of(model: LogNormal, slot: int) -> Floats:
    """Person-seconds of a context up to the clocks, (bins,)."""
    total = model.contexts["person_time"][slot].copy()
    for p, clock in enumerate(model.risk.clocks):
        cell = p * (model.slots + 1) + slot
        total += model.waiting["n"][cell] * (clock - model.waiting["since"][cell])
    return np.asarray(total)


def last_bins_of_ended_waits(stream: Stream, contexts: Ints, shape: tuple[int, ...]) -> Floats:
    """What ended waits spent in the bin of their end, (C, bins)."""
    starts = np.concatenate([[0.0], EDGES])
    spent = np.zeros(shape)
    last: dict[int, int] = {}
    for s, (row, t) in enumerate(zip(stream.row.tolist(), stream.time, strict=True)):
        if row in last and t > stream.time[last[row]]:
            e = stream.time[last[row]]
            j = int(np.sum(e + EDGES <= t))
            spent[contexts[last[row]], j] += t - e - starts[j]
        last[row] = s
    return spent


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_every_context_holds_the_events_and_person_time_counted_by_hand(seed: int) -> None:
    stream = restless(seed, 200)
    model = LogNormal(new_context())
    walk_all(model, stream, 64)
    hashes = next(batches(stream, 1)).hashes
    gaps = np.concatenate([b.gap for b in batches(stream, 64)])
    both = stream.mark * 100 + gaps + 2
    for contexts, keys in (
        (np.zeros_like(stream.mark), {}),
        (stream.mark, {m: log_normal._key(hashes[m], -2) for m in range(5)}),
        (both, {c: log_normal._key(hashes[c // 100], c % 100 - 2) for c in np.unique(both).tolist()}),
    ):
        events, exposure = counted_by_hand(stream, contexts)
        exposure -= last_bins_of_ended_waits(stream, contexts, exposure.shape)
        for c in np.unique(contexts).tolist():
            slot = int(np.flatnonzero(model.contexts["key"] == keys[c])[0]) if keys else model.slots
            np.testing.assert_array_equal(model.contexts["events"][slot], events[c])
            np.testing.assert_allclose(exposure_of(model, slot), exposure[c], rtol=1e-9, atol=1e-3)


@pytest.mark.parametrize(
    ("sigma", "horizon", "loss"), [(0.5, 4000.0, 0.05), (1.0, 4000.0, 0.02), (1.5, 20_000.0, 0.02)]
)
def test_log_normal_waits_by_mark_and_their_defect_are_recovered(
    sigma: float, horizon: float, loss: float
) -> None:
    mu = np.log([30.0, 300.0, 5.0])
    stream = renewal_stream(1500, mu, sigma, 0.05, horizon)
    model = LogNormal(new_context(1500))
    _, issued = walk_all(model, stream, 256)
    later = np.arange(len(issued)) > len(issued) // 2
    for m in range(3):
        law = Dictionary(mu[[m]], sigma)
        truth = np.tile([1.0, 0.05], (len(issued), 1))
        ratio = score_against(model.law, issued, law, truth, stream)[later & (stream.mark == m)]
        assert -loss < ratio.mean() < 0.01
    beyond = np.exp(model.law.log_survival(issued[later], np.full(later.sum(), 1e5)))
    assert beyond.mean() == pytest.approx(0.05, abs=0.012)


def test_the_issued_forecast_does_not_beat_the_truth() -> None:
    mu = np.log([30.0, 300.0, 5.0])
    stream = renewal_stream(1500, mu, 1.0, 0.05, 4000.0)
    model = LogNormal(new_context(1500))
    _, issued = walk_all(model, stream, 64)
    truth = np.zeros((len(issued), 4))
    truth[np.arange(len(issued)), stream.mark] = 1.0
    truth[:, 3] = 0.05
    ratio = score_against(model.law, issued, Dictionary(mu, 1.0), truth, stream)
    assert ratio.sum() <= np.log(1000.0)


def test_exponential_waits_with_dropout_show_their_defect() -> None:
    rng = np.random.default_rng(4)
    rows: list[int] = []
    times: list[float] = []
    for u in range(2000):
        n = int(rng.geometric(0.2))
        rows += [u] * n
        times += (rng.uniform(0, 1000) + np.cumsum(rng.exponential(20.0, n))).tolist()
    stream = in_order(np.array(rows), np.array(times))
    model = LogNormal(new_context(2000))
    _, issued = walk_all(model, stream, 256)
    law = Exponential()
    s = np.array([5.0, 20.0, 60.0, 300.0])
    truth = np.exp(law.log_survival(np.tile([0.05, 0.2], (4, 1)), s))
    mean = np.exp(model.law.log_survival(np.repeat(issued[-400:], 4, axis=0), np.tile(s, 400)))
    np.testing.assert_allclose(mean.reshape(400, 4).mean(axis=0), truth, atol=0.05)


def test_without_any_data_mass_is_spread_over_all_times_and_much_is_on_never() -> None:
    model = LogNormal(new_context())
    _, issued = walk_all(model, head(restless(1), 1), 1)
    mass = issued[0, :-1]
    assert mass.sum() + issued[0, -1] == pytest.approx(1.0, abs=0.05)
    assert mass.min() > 0.008 and 0.3 < issued[0, -1] < 0.6


def test_sharpened_weights_make_the_masses_of_the_bins_likelier() -> None:
    law, sharp = Dictionary(CENTRES, SIGMA), Dictionary(np.array([3.0]), 0.5)
    edges = EDGES[None]
    masses = np.append(
        np.diff(-np.expm1(sharp.log_survival(np.array([[1.0, 0.0]]), edges)[0]), prepend=0.0), 0.0
    )
    weights = masses.copy()
    log_normal._sharpen(weights, *np.zeros((2, N_EDGES + 4)))

    def log_likelihood(params: Floats) -> float:
        cdf = -np.expm1(law.log_survival(params[None], edges)[0])
        return float(masses[:-1] @ np.log(np.diff(cdf, prepend=0.0) + 1e-300))

    best = float(masses[:-1] @ np.log(masses[:-1] + 1e-300))
    assert best - log_likelihood(weights) < 0.25 * (best - log_likelihood(masses))
    assert weights[:-1].sum() == pytest.approx(1.0, abs=0.02)


def test_evicted_contexts_are_counted_and_their_users_go_on_in_the_pool() -> None:
    stream = restless(7)
    model, roomy = small(new_context()), LogNormal(new_context())
    _, issued = walk_all(model, stream, 64)
    walk_all(roomy, stream, 64)
    assert model.n_evicted > 50 and roomy.n_evicted == 0
    assert np.isfinite(issued).all() and (issued >= 0).all()
    np.testing.assert_array_equal(model.contexts["events"][-1], roomy.contexts["events"][-1])
    assert model.waiting["n"].min() >= 0


def test_dropped_users_leave_all_their_contexts() -> None:
    model = LogNormal(new_context())
    walk_all(model, restless(8), 64)
    assert model.waiting["n"].sum() > 0
    model.risk.drop(np.arange(40))
    assert not model.waiting["n"].any()


def relabelled(stream: Stream, order: Ints) -> Stream:
    return Stream(stream.row[order], stream.partition[order], stream.time[order], stream.mark[order])


@pytest.mark.parametrize("make", [ConstantGap, LogNormal])
def test_the_order_of_users_with_equal_times_leaves_no_trace_in_what_follows(make: type) -> None:
    rng = np.random.default_rng(9)
    time = np.repeat(np.cumsum(rng.exponential(30.0, 60)), 5)
    user = np.concatenate([rng.permutation(30)[:5] for _ in range(60)])
    stream = Stream(user, np.zeros(300, int), time, rng.integers(0, 4, 300))
    order = np.concatenate(
        [np.arange(60)[:59].repeat(5) * 5 + np.tile(rng.permutation(5), 59), 295 + np.arange(5)]
    )
    one, issued = walk_all(make(new_context()), stream, 50)
    other, issued_other = walk_all(make(new_context()), relabelled(stream, order), 50)
    np.testing.assert_allclose(other[295], one[295], rtol=1e-9)
    np.testing.assert_allclose(issued_other[299], issued[299], rtol=1e-9)


def test_the_constant_is_the_median_of_all_gaps_whether_ended_or_open() -> None:
    rng = np.random.default_rng(10)
    stream = poisson_stream(rng, 500, np.full(500, 0.01), 2000.0)
    model = ConstantGap(new_context(500))
    _, issued = walk_all(model, stream, 256)
    assert model.median() == pytest.approx(100.0 * np.log(2.0), rel=0.05)
    assert np.log(2.0) / issued[-1, 0] == pytest.approx(model.median(), rel=1e-12)


def test_users_who_stay_silent_make_the_constant_longer() -> None:
    quick = Stream(np.zeros(21, int), np.zeros(21, int), np.linspace(0.0, 200.0, 21), np.zeros(21, int))
    silent = Stream(
        np.concatenate([np.arange(1, 16), quick.row]),
        np.zeros(36, int),
        np.concatenate([np.zeros(15, np.float64), quick.time]),
        np.zeros(36, int),
    )
    alone, crowd = ConstantGap(new_context()), ConstantGap(new_context())
    walk_all(alone, quick, 64)
    walk_all(crowd, silent, 64)
    assert crowd.median() > 2 * alone.median()


def test_widths_and_centres_belong_to_the_bins() -> None:
    np.testing.assert_allclose(WIDTHS.cumsum(), EDGES, rtol=1e-12)
    assert np.all(np.exp(CENTRES) < EDGES) and np.all(np.exp(CENTRES[1:]) > EDGES[:-1])


@pytest.mark.parametrize(("slots", "prior"), [(12, 1.0), (0, 1.0), (16, 0.0)])
def test_settings_that_make_no_sense_are_refused(slots: int, prior: float) -> None:
    with pytest.raises(ConfigError, match=r"slots, prior: expected a multiple of 8"):
        LogNormal(new_context(), slots=slots, prior=prior)
