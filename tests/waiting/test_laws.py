"""Every waiting-time law against quadrature, its own inverse and its limits."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streamrec.arrays import Floats
from streamrec.errors import ConfigError
from streamrec.models.base import Law
from streamrec.waiting.cells import log_cell, log_open, score
from streamrec.waiting.dictionary import Dictionary
from streamrec.waiting.exponential import Exponential
from streamrec.waiting.log_normal import LogNormalMixture
from streamrec.waiting.lomax import Lomax
from streamrec.waiting.piecewise_exponential import PiecewiseExponential


class Case(NamedTuple):
    law: Law
    params: Floats
    kinks: tuple[float, ...] = ()


EDGES = (0.0, 0.5, 3.0, 40.0, 700.0)
CENTRES = np.linspace(-4.0, 9.0, 9)
rng = np.random.default_rng(5)
CASES = {
    "exponential": Case(Exponential(), np.array([[0.2, 0.0], [0.03, 0.4], [5.0, 1e-9]])),
    "lomax": Case(Lomax(), np.array([[0.7, 2.0, 0.0], [3.0, 50.0, 0.3], [40.0, 4.0, 1e-6]])),
    "log_normal": Case(
        LogNormalMixture(2),
        np.array(
            [
                [0.3, -0.5, -2.0, 0.0, 3.0, 0.1, -0.5, -2.0, -1.0],
                [0.0, 1.0, 0.5, 2.0, 5.0, -1.5, 0.4, -4.0, -9.0],
                [0.0, 0.0, -1.0, -2.0, 1.0, 0.0, 0.0, 0.5, -np.inf],
            ]
        ),
    ),
    "dictionary": Case(
        Dictionary(CENTRES, 0.9), np.column_stack([rng.dirichlet(np.ones(9), 3), [0.0, 0.2, 1e-5]])
    ),
    "piecewise": Case(
        PiecewiseExponential(EDGES),
        np.array([[0.3, 0.1, 0.01, 0.002, 0.0], [1.0, 0.0, 0.2, 0.01, 0.05], [0.01, 0.02, 0.01, 0.02, 1e-4]]),
        EDGES[1:],
    ),
}
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def integral_of_the_hazard(case: Case, row: int, a: float, b: float) -> float:
    cuts = np.unique(np.clip([a, b, *case.kinks, *np.geomspace(max(a, b * 1e-14), b, 200)], a, b))
    width = np.diff(cuts)[:, None]
    at = cuts[:-1, None] + width * (NODES + 1) / 2
    hazard = np.exp(case.law.log_hazard(case.params[row : row + 1], at.reshape(1, -1)))
    return float((hazard.reshape(at.shape) * WEIGHTS * width / 2).sum())


@pytest.mark.parametrize(
    "a, b", [(0.0, 1e-6), (0.0, 2.0), (0.4, 0.6), (1.0, 900.0), (29.5, 30.5), (50.0, 50.001)]
)
def test_the_compensator_is_the_integral_of_the_hazard(case: Case, a: float, b: float) -> None:
    exact = case.law.compensator(case.params, np.full(3, a), np.full(3, b))
    for row in range(3):
        np.testing.assert_allclose(exact[row], integral_of_the_hazard(case, row, a, b), rtol=1e-6)


def test_log_survival_is_minus_the_compensator_from_zero(case: Case) -> None:
    s = np.geomspace(1e-9, 1e6, 60) * np.ones((3, 1))
    log_survival = case.law.log_survival(case.params, s)
    np.testing.assert_allclose(
        -log_survival, case.law.compensator(case.params, 0 * s, s), rtol=1e-10, atol=1e-300
    )
    assert (np.diff(log_survival, axis=1) <= 0).all()


def test_the_compensator_is_additive_over_short_and_long_pieces(case: Case) -> None:
    a, b, c = (np.full(3, x) for x in (100.0, 100.0 + 1e-7, 3e4))
    whole = case.law.compensator(case.params, a, c)
    parts = case.law.compensator(case.params, a, b) + case.law.compensator(case.params, b, c)
    np.testing.assert_allclose(whole, parts, rtol=1e-12)


def test_a_short_cell_holds_the_hazard_times_its_width(case: Case) -> None:
    s, width = np.full(3, 777.0), 2.0**-20
    inside = case.law.compensator(case.params, s - width / 2, s + width / 2)
    np.testing.assert_allclose(inside, np.exp(case.law.log_hazard(case.params, s)) * width, rtol=1e-8)


def test_the_quantile_inverts_the_cdf_and_is_infinite_in_the_defect(case: Case) -> None:
    u = np.concatenate([[1e-12, 1e-5], np.linspace(0.02, 0.98, 33), [1 - 1e-9]]) * np.ones((3, 1))
    s = case.law.quantile(case.params, u)
    reached = u < -np.expm1(case.law.log_defect(case.params))[:, None]
    assert (np.isfinite(s) == reached).all()
    log_survival = case.law.log_survival(case.params, np.where(reached, s, 1.0))
    np.testing.assert_allclose(-np.expm1(log_survival)[reached], u[reached], rtol=1e-9)
    np.testing.assert_allclose(log_survival[reached], np.log1p(-u)[reached], rtol=1e-7)


def test_the_defect_is_what_survives_for_ever(case: Case) -> None:
    log_defect = case.law.log_defect(case.params)
    late = case.law.log_survival(case.params, np.full(3, 1e300))
    np.testing.assert_allclose(np.exp(late), np.exp(log_defect), atol=1e-12)


def test_tiny_and_huge_times_give_numbers_and_never_nan(case: Case) -> None:
    s = np.array([0.0, 5e-324, 1e-300, 1e-12, 1e12, 1e200]) * np.ones((3, 1))
    log_survival, log_hazard = case.law.log_survival(case.params, s), case.law.log_hazard(case.params, s)
    assert not np.isnan(log_survival).any() and (log_survival <= 0).all()
    assert not np.isnan(log_hazard).any() and (log_hazard < np.inf).all()
    assert (log_survival[:, 0] == 0).all()


def test_one_column_of_times_gives_the_same_bits_as_many(case: Case) -> None:
    s = np.geomspace(0.01, 1e4, 7) * np.ones((3, 1))
    many = case.law.log_survival(case.params, s)
    for t in range(7):
        np.testing.assert_array_equal(case.law.log_survival(case.params, s[:, t]), many[:, t])
        for n in range(3):
            one = case.law.log_survival(case.params[n : n + 1], s[n : n + 1, t])
            assert one[0] == many[n, t]


@pytest.mark.parametrize("delta", [1.0, 60.0])
def test_the_cells_of_the_grid_and_the_defect_sum_to_one(case: Case, delta: float) -> None:
    last = 4000
    dt = np.arange(1, last + 1) * np.float64(delta)
    for row in case.params:
        rows = np.tile(row, (last, 1))
        cells = np.exp(log_cell(case.law, rows, dt, np.full(last, delta))) * delta
        beyond = np.exp(log_open(case.law, rows[:1], dt[-1:] + delta / 2, np.array([delta])))
        np.testing.assert_allclose(cells.sum() + beyond[0], 1.0, rtol=1e-9)


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=12), st.sampled_from([1e-3, 1.0, 60.0]))
def test_silence_after_silence_adds_up_to_the_cell(ticks: list[int], delta: float) -> None:
    """Charging the wait window by window and then the last cell is the score of the whole gap."""
    for case in CASES.values():
        k = np.cumsum(ticks)
        row = case.params[:1]
        step = np.array([delta])
        edges = np.concatenate([[delta / 2], delta * (k + 0.5)])
        silent = [
            -case.law.compensator(row, edges[i : i + 1], edges[i + 1 : i + 2])[0] for i in range(len(k))
        ]
        at = np.array([delta * (k[-1] + 1.0)])
        inside = case.law.compensator(row, at - delta / 2, at + delta / 2)[0]
        with np.errstate(divide="ignore"):
            piecewise = sum(silent) + np.log(-np.expm1(-inside)) - np.log(delta)
        np.testing.assert_allclose(log_cell(case.law, row, at, step)[0], piecewise, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(
            log_open(case.law, row, edges[-1:], step)[0], sum(silent), rtol=1e-8, atol=1e-11
        )


def test_without_a_grid_the_point_density_is_scored(case: Case) -> None:
    dt = np.array([0.3, 7.0, 450.0])
    scores = score(case.law, case.params, dt, np.zeros(3))
    density = case.law.log_hazard(case.params, dt) + case.law.log_survival(case.params, dt)
    np.testing.assert_array_equal(scores.cell, density)
    np.testing.assert_allclose(scores.pit, -np.expm1(case.law.log_survival(case.params, dt)), rtol=1e-12)


def test_a_user_within_half_a_step_of_the_event_is_not_charged(case: Case) -> None:
    open_scores = log_open(case.law, case.params, np.array([0.0, 0.2, 0.5]), np.ones(3))
    assert (open_scores == 0).all()


def test_far_tails_of_the_log_normal_mixture_are_those_of_logarithms() -> None:
    law = LogNormalMixture(1)
    row = np.array([[0.0, -np.inf, 1.0, np.log(0.5), 0.0, -np.inf]])
    s = np.exp(1.0 + 0.5 * np.array([[-60.0, -20.0, 10.0, 30.0, 50.0, 200.0]]))
    z = (np.log(s) - 1.0) / 0.5
    np.testing.assert_allclose(law.log_survival(row, s), stats.norm.logsf(z), rtol=1e-12)
    wanted = stats.norm.logpdf(z) - np.log(0.5 * s) - stats.norm.logsf(z)
    np.testing.assert_allclose(law.log_hazard(row, s), wanted, rtol=1e-9)
    s = s[:, 1:]  # e^-1820 is no float64
    seen = np.log(law.compensator(row, s, s * (1 + 1e-9)) / (1e-9 * s))
    np.testing.assert_allclose(seen, wanted[:, 1:], rtol=2e-6)


def test_the_dictionary_reads_its_knots_from_a_table() -> None:
    case, knots = CASES["dictionary"], np.geomspace(1e-3, 1e7, 50)
    assert isinstance(case.law, Dictionary)
    table = case.law.at_knots(knots).log_survival(case.params)
    exact = case.law.log_survival(case.params, np.tile(knots, (3, 1)))
    np.testing.assert_allclose(table, exact, rtol=1e-11)


def test_weights_of_the_dictionary_count_by_their_ratios_only() -> None:
    law, row = CASES["dictionary"].law, CASES["dictionary"].params[1:2]
    scaled = np.concatenate([8 * row[:, :-1], row[:, -1:]], axis=1)
    np.testing.assert_array_equal(law.log_survival(row, np.ones(1)), law.log_survival(scaled, np.ones(1)))


@pytest.mark.parametrize("edges", [[0.0], [1.0, 2.0], [0.0, 2.0, 2.0], [0.0, np.inf]])
def test_edges_that_do_not_ascend_from_zero_are_refused(edges: list[float]) -> None:
    with pytest.raises(ConfigError, match="edges: expected"):
        PiecewiseExponential(edges)


def test_a_dictionary_without_width_or_centres_is_refused() -> None:
    with pytest.raises(ConfigError, match="sigma: expected > 0, got 0"):
        Dictionary(CENTRES, 0.0)
    with pytest.raises(ConfigError, match="centres"):
        Dictionary(np.array([]), 1.0)
    with pytest.raises(ConfigError, match="n_components: expected at least 1, got 0"):
        LogNormalMixture(0)
