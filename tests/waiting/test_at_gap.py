"""The short way to the score of a gap gives the bits of the long one."""

import numpy as np
import pytest
from scipy.special import ndtr

from streamrec.waiting.cells import Cellular, score
from streamrec.waiting.dictionary import Dictionary
from streamrec.waiting.log_normal import LogNormalMixture
from streamrec.waiting.lomax import Lomax

N = 120


class _Long:
    """A law without its short way."""

    def __init__(self, law):
        self.width = law.width
        self.log_survival, self.log_hazard, self.compensator = (
            law.log_survival,
            law.log_hazard,
            law.compensator,
        )


def _dictionary(rng):
    law = Dictionary(np.linspace(-9.0, 20.0, 41), sigma=0.35)
    params = np.column_stack([rng.dirichlet(np.ones(41), N), rng.uniform(0.0, 0.5, N)])
    params[::7, -1] = 0.0
    return law, params


def _log_normals(rng):
    params = rng.normal(0.0, 1.0, (N, 27))
    params[:, 9:17] += 5.0
    params[::5, -1] = -np.inf
    return LogNormalMixture(8), params


@pytest.mark.parametrize("make", [_dictionary, _log_normals])
@pytest.mark.parametrize("delta", [0.0, 1.0, 60.0])
def test_scores_have_the_same_bits_either_way(make, delta):
    rng = np.random.default_rng(1)
    law, params = make(rng)
    gaps = np.maximum(np.round(np.exp(rng.normal(5.0, 4.0, N)) / max(delta, 1.0)), 1.0) * max(delta, 1.0)
    gaps[:3] = 0.0, 1e12, 1e-3
    params[3] = np.nan
    grid = np.full(N, delta)
    with np.errstate(all="ignore"):
        short, long = score(law, params, gaps, grid), score(_Long(law), params, gaps, grid)
    for one, other in zip(short, long, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_laws_with_a_short_way_are_asked_for_it():
    assert isinstance(LogNormalMixture(1), Cellular)
    assert not isinstance(Lomax(), Cellular)


@pytest.mark.parametrize("s", [1e-6, 0.4, 80.0, 1e5, 1e9])
def test_far_components_leave_no_trace_but_rounding(s):
    law, params = _dictionary(np.random.default_rng(2))
    params[:, -1] = 0.0
    weights = params[:, :-1] / params[:, :-1].sum(axis=1, keepdims=True)
    z = (np.log(s) - law.centres) / law.sigma
    wanted = np.log(np.minimum((weights * ndtr(-z)).sum(axis=1), 1.0))
    near_one = np.log1p(-(weights * ndtr(z)).sum(axis=1))
    wanted = np.where(wanted > -0.5, near_one, wanted)
    np.testing.assert_allclose(law.log_survival(params, np.full(N, s)), wanted, rtol=1e-12)
