import numpy as np
import pytest
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
from scipy.special import digamma, polygamma

from streamrec.arrays import Floats
from streamrec.models import gamma_poisson
from streamrec.models.gamma_poisson import GammaPoisson
from streamrec.models.poisson import Poisson
from streamrec.waiting.exponential import Exponential
from streamrec.waiting.lomax import Lomax


def uneven_stream(n: int = 1500, users: int = 60, partitions: int = 3) -> Stream:
    """Times of different users go back and forth inside a partition."""
    rng = np.random.default_rng(5)
    user = rng.integers(0, users, n)
    time = 1.7e9 + np.cumsum(rng.exponential(20.0, n)) - rng.choice([0.0, 0.0, 90.0], n)
    for u in range(users):
        time[user == u] = np.maximum.accumulate(time[user == u])
    return Stream(user, user % partitions, time, rng.integers(0, 4, n))


def gamma_poisson_stream(users: int, a: float, b: float, gone: float, horizon: float) -> Stream:
    rng = np.random.default_rng(1)
    rows, times = [], []
    for u in range(users):
        mean_wait, t = b / rng.gamma(a), rng.uniform(0, horizon / 2)
        while t < horizon:
            rows.append(u)
            times.append(t)
            if rng.random() < gone:
                break
            t += rng.exponential(mean_wait)
    return in_order(np.array(rows), np.array(times))


@pytest.mark.parametrize("make", [Poisson, GammaPoisson])
def test_answers_are_the_same_bits_at_any_cut_size(make: type) -> None:
    stream = uneven_stream()
    arrival, issued = walk_all(make(new_context()), stream, len(stream.row))
    for cut in (1, 7, 64):
        again = walk_all(make(new_context()), stream, cut)
        assert again[0].tobytes() == arrival.tobytes() and again[1].tobytes() == issued.tobytes()


@pytest.mark.parametrize("make", [Poisson, GammaPoisson])
def test_a_loaded_model_goes_on_with_the_same_bits(make: type) -> None:
    stream = uneven_stream()
    straight = walk_all(make(new_context()), stream, 64)
    model = make(new_context())
    walk_all(model, head(stream, 640), 64)
    arrival, issued = walk_all(reloaded(model, make), stream, 64, start=640)
    assert arrival.tobytes() == straight[0][640:].tobytes()
    assert issued.tobytes() == straight[1][640:].tobytes()


def test_pooled_rate_is_events_over_the_exposure_of_all_users() -> None:
    stream = uneven_stream()
    model = Poisson(new_context())
    _, issued = walk_all(model, stream, 64)
    events, exposure = counted_by_hand(stream, np.zeros(len(stream.row), int))
    assert model.exposure() == pytest.approx(exposure.sum(), rel=1e-12)
    assert issued[-1, 0] == pytest.approx((events.sum() + 0.5) / exposure.sum(), rel=1e-12)


def test_exposure_of_a_dropped_user_stands_still() -> None:
    model = Poisson(new_context())
    quiet = Stream(np.array([0, 1, 1]), np.zeros(3, int), np.array([0.0, 10.0, 50.0]), np.zeros(3, int))
    first, second, third = batches(quiet, 1)
    for batch in (first, second):
        model.risk.advance(batch)
        model.walk(batch)
    model.risk.drop(np.array([0]))
    model.risk.advance(third)
    model.walk(third)
    assert model.exposure() == 10.0 + 40.0


def test_digamma_and_its_inverse_agree_with_scipy() -> None:
    x = np.geomspace(1e-3, 1e5, 40)
    mine = [gamma_poisson._digamma(v) for v in x]
    slope = [gamma_poisson._trigamma(v) for v in x]
    np.testing.assert_allclose(mine, digamma(x), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(slope, polygamma(1, x), rtol=1e-8)
    shapes = np.geomspace(0.01, 1e4, 20)
    found = [gamma_poisson._shape(v) for v in np.log(shapes) - digamma(shapes)]
    np.testing.assert_allclose(found, shapes, rtol=1e-6)


@pytest.mark.parametrize("unit", [1.0, 86400.0])
def test_the_prior_and_the_share_that_leaves_are_recovered_in_any_unit_of_time(unit: float) -> None:
    stream = gamma_poisson_stream(2500, 2.0, 100.0 * unit, 0.1, 3000.0 * unit)
    model = GammaPoisson(new_context(2500))
    walk_all(model, stream, 512)
    a, b, gone = model.prior()
    assert a == pytest.approx(2.0, rel=0.15)
    assert b == pytest.approx(100.0 * unit, rel=0.15)
    assert gone == pytest.approx(0.1, abs=0.01)


def test_equal_users_who_never_leave_give_a_narrow_prior_and_no_defect() -> None:
    rng = np.random.default_rng(3)
    stream = poisson_stream(rng, 400, np.full(400, 0.01), 6000.0)
    model = GammaPoisson(new_context(400))
    walk_all(model, stream, 256)
    a, b, gone = model.prior()
    assert a > 8 and a / b == pytest.approx(0.01, rel=0.1) and gone < 2e-3


def exact_bayes(stream: Stream, a: float, b: float) -> Floats:
    """Predictive of every wait under the true prior, which knows the user's own past alone."""
    truth = np.zeros((len(stream.row), 3))
    first: dict[int, float] = {}
    count: dict[int, int] = {}
    for s, (row, t) in enumerate(zip(stream.row.tolist(), stream.time, strict=True)):
        count[row] = count.get(row, -1) + 1
        truth[s] = a + count[row], b + t - first.setdefault(row, t), 0.0
    return truth


@pytest.mark.parametrize("cut", [1, 64, 512])
def test_the_issued_forecast_approaches_exact_bayes_and_does_not_beat_it(cut: int) -> None:
    rng = np.random.default_rng(11)
    rate = rng.gamma(1.5, 1.0 / 50.0, 800)
    stream = poisson_stream(rng, 800, rate, 400.0)
    _, issued = walk_all(GammaPoisson(new_context(800)), stream, cut)
    ratio = score_against(Lomax(), issued, Lomax(), exact_bayes(stream, 1.5, 50.0), stream)
    assert ratio.sum() <= np.log(1000.0)
    assert ratio[len(ratio) // 2 :].mean() > -0.01


def test_the_comparison_with_exact_bayes_catches_a_forecast_issued_at_the_end_of_the_cut() -> None:
    rng = np.random.default_rng(11)
    stream = poisson_stream(rng, 800, rng.gamma(1.5, 1.0 / 50.0, 800), 400.0)
    truth = exact_bayes(stream, 1.5, 50.0)
    leaked = truth.copy()
    for a in range(0, len(stream.row), 512):
        b = min(a + 512, len(stream.row))
        last = {row: a + i for i, row in enumerate(stream.row[a:b].tolist())}
        silent = np.array(sorted(last.values()))
        leaked[silent, 1] += stream.time[b - 1] - stream.time[silent]
    ratio = score_against(Lomax(), leaked, Lomax(), truth, stream)
    assert ratio.sum() > np.log(1000.0)


def test_the_pooled_rule_approaches_the_truth_of_equal_users_and_does_not_beat_it() -> None:
    rng = np.random.default_rng(12)
    stream = poisson_stream(rng, 2000, np.full(2000, 0.02), 300.0)
    _, issued = walk_all(Poisson(new_context(2000)), stream, 64)
    truth = np.tile([0.02, 0.0], (len(stream.row), 1))
    ratio = score_against(Exponential(), issued, Exponential(), truth, stream)
    assert ratio.sum() <= np.log(1000.0)
    assert ratio[len(ratio) // 2 :].mean() > -0.001


@pytest.mark.parametrize("make", [Poisson, GammaPoisson])
def test_a_forecast_at_arrival_is_close_to_the_one_issued(make: type) -> None:
    rng = np.random.default_rng(13)
    stream = poisson_stream(rng, 300, rng.gamma(2.0, 0.01, 300), 2000.0)
    model = make(new_context(300))
    arrival, issued = walk_all(model, stream, 64)
    last: dict[int, int] = {}
    gaps = []
    for s, (row, t) in enumerate(zip(stream.row.tolist(), stream.time, strict=True)):
        if row in last and s > len(stream.row) // 2:
            wait = np.array([t - stream.time[last[row]]])
            then, now = issued[last[row], None], arrival[s, None]
            gaps.append(
                model.law.log_hazard(now, wait)
                + model.law.log_survival(now, wait)
                - model.law.log_hazard(then, wait)
                - model.law.log_survival(then, wait)
            )
        last[row] = s
    assert abs(np.mean(gaps)) < 0.02
