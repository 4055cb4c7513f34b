"""Every law that a registered model can issue: consistent with itself, and with what float32 leaves of it."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from streamrec.arrays import Floats
from streamrec.models.base import Law
from streamrec.waiting.cells import log_cell, log_open, score
from streamrec.waiting.exponential import Exponential
from streamrec.waiting.hawkes import ExponentialDecay
from streamrec.waiting.lomax import Lomax

PARAMS = np.array(
    [
        [0.5, 1.6, 2.0],
        [1e-4, 0.3, 1e-2],
        [2e-6, 4e-3, 1 / 172_800],
        [0.7, 0.0, 1.0],
        [1e-3, 900.0, 1.0],
        [0.0, 1.2, 0.5],
    ]
)
"""Base, excess, decay: ordinary, hours, days, without excitation, ninefold, without a base rate."""
ROWS = range(len(PARAMS))


@pytest.fixture
def law() -> ExponentialDecay:
    return ExponentialDecay()


def hazard(row: Floats, s: float) -> float:
    base, excess, decay = row
    return float(base + excess * np.exp(-decay * s))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("a, b", [(0.0, 1e-9), (0.0, 3.0), (1.7, 1.7000001), (40.0, 4e3), (1e4, 1e6)])
def test_the_compensator_of_an_exponential_decay_is_the_integral_of_its_hazard(law, row, a, b):
    params = PARAMS[row]
    breaks = np.clip(a + np.array([0.0, 1.0, 5.0, 30.0]) / params[2], a, b)
    edges = np.unique([a, *breaks, b])
    parts = [
        integrate.quad(lambda s: hazard(params, s), low, high, epsabs=0, epsrel=1e-10)[0]
        for low, high in pairwise(edges)
    ]
    exact = law.compensator(params[None], np.array([a]), np.array([b]))
    np.testing.assert_allclose(exact, [sum(parts)], rtol=1e-6, atol=1e-300)
    np.testing.assert_allclose(
        np.exp(law.log_hazard(params[None], np.array([b]))), [hazard(params, b)], rtol=1e-12
    )


@pytest.mark.parametrize("row", ROWS)
def test_the_quantile_of_an_exponential_decay_inverts_the_cdf_and_knows_the_defect(law, row):
    params = PARAMS[row : row + 1]
    u = np.concatenate([[1e-9, 1e-3], np.linspace(0.02, 0.98, 25), [1 - 1e-6]])
    s = law.quantile(np.repeat(params, len(u), axis=0), u)
    reached = u < -np.expm1(law.log_defect(params)[0])
    assert (np.isfinite(s) == reached).all()
    assert (np.diff(s[reached]) > 0).all()
    back = -np.expm1(law.log_survival(np.repeat(params, reached.sum(), axis=0), s[reached]))
    np.testing.assert_allclose(back, u[reached], rtol=1e-7)


@pytest.mark.parametrize("row", range(5))
def test_the_mean_of_an_exponential_decay_is_the_integral_of_its_survival(law, row):
    params = PARAMS[row : row + 1]
    far = float(law.quantile(params, np.array([1 - 1e-13]))[0])
    nodes, weights = np.polynomial.legendre.leggauss(40)
    edges = np.concatenate([[0.0], np.geomspace(far * 1e-9, far, 400)])
    width = np.diff(edges)[:, None]
    at = edges[:-1, None] + width * (nodes + 1) / 2
    survival = np.exp(law.log_survival(params, at.reshape(1, -1))).reshape(at.shape)
    np.testing.assert_allclose(law.mean(params), [(survival * weights * width / 2).sum()], rtol=1e-6)


def test_the_next_mark_is_the_time_average_of_the_marks_shares_of_the_intensity(law):
    base, excess = np.array([[0.2, 0.5, 0.3]]), np.array([[0.7, 0.0, 0.3]])
    p = law.next_mark(PARAMS[:1], base, excess)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    mu, c, d = PARAMS[0]

    def density(s: float, mark: int) -> float:
        survival = np.exp(law.log_survival(PARAMS[:1], np.array([s])))[0]
        return float((mu * base[0, mark] + c * excess[0, mark] * np.exp(-d * s)) * survival)

    exact = [integrate.quad(density, 0, 80, args=(m,), epsabs=1e-12, limit=200)[0] for m in range(3)]
    np.testing.assert_allclose(p[0], exact, rtol=1e-6)


@pytest.mark.parametrize("delta", [1.0, 60.0])
@pytest.mark.parametrize("row", [1, 5])
def test_the_cells_of_an_exponential_decay_and_its_defect_share_all_probability(law, delta, row):
    params = PARAMS[row : row + 1]
    n = int(min(40 / 1e-4, 2e5) / delta) if row == 1 else int(200 / delta)
    gaps = delta * np.arange(1, n + 1)
    rows, step = np.repeat(params, n, axis=0), np.full(n, delta)
    inside = (np.exp(log_cell(law, rows, gaps, step)) * delta).sum()
    left = np.exp(log_open(law, params, np.array([delta * (n + 0.5)]), np.array([delta])))[0]
    assert inside + left == pytest.approx(1.0, abs=1e-9)


FAR: list[tuple[Law, list[float]]] = [
    (Lomax(), [210.0, 33_070.0, 1e-6]),
    (Exponential(), [1.0, 1e-3]),
]


@pytest.mark.parametrize("law, params", FAR, ids=["lomax", "exponential"])
def test_a_cell_far_out_in_a_thin_tail_has_a_finite_score_that_is_not_above_its_own(law, params):
    """Issued after two users of a real log: a wait of 14 days at a chance of e^-776, which underflows."""
    gaps, row = np.geomspace(600.0, 1_243_281.0, 400).round(), np.array([params])
    found = score(law, np.repeat(row, 400, axis=0), gaps, np.ones(400))
    assert np.isfinite(found.cell).all()
    assert found.cell.min() < -745
    half = law.log_survival(row, np.array([0.5]))[0]
    np.testing.assert_allclose(
        found.cell[found.cell < -710], (found.point - half)[found.cell < -710], atol=1e-6
    )
    assert (found.cell >= found.point - half - 1e-6).all()
