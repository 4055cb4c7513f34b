"""Exponential waiting time with a defect: a constant rate for those who come back at all.

    S(s) = d + (1 - d) e^{-r s}

Symbols: r rate (1/s), d defect, the probability that the event never comes.
Source: the cure model of Boag (1949), J. R. Stat. Soc. B 11, 15-53, with an exponential latency.
"""

import math

import numpy as np
from numba import njit

from streamrec.arrays import Floats
from streamrec.waiting.defective import elementwise, integral_of, log_of, spread, survival_with


@njit(cache=True, error_model="numpy")
def _survival(rate: float, defect: float, s: float) -> float:
    return survival_with(defect, -rate * s)


@elementwise(["float64(float64, float64, float64)"])
def _log_survival(rate: float, defect: float, s: float) -> float:
    return _survival(rate, defect, s)


@elementwise(["float64(float64, float64, float64)"])
def _log_hazard(rate: float, defect: float, s: float) -> float:
    return math.log1p(-defect) + log_of(rate) - rate * s - _survival(rate, defect, s)


@elementwise(["float64(float64, float64, float64, float64)"])
def _compensator(rate: float, defect: float, a: float, b: float) -> float:
    log_mass = math.log1p(-defect) - rate * a + log_of(-math.expm1(-rate * (b - a)))
    return integral_of(log_mass, _survival(rate, defect, a), _survival(rate, defect, b))


@elementwise(["float64(float64, float64, float64)"])
def _quantile(rate: float, defect: float, u: float) -> float:
    share = u / (1.0 - defect) if defect < 1.0 else math.inf
    if not share < 1.0 or rate == 0.0:
        return math.nan if math.isnan(share) else math.inf
    return -math.log1p(-share) / rate


class Exponential:
    """Law with parameters [rate (1/s), defect]; rate >= 0, 0 <= defect < 1.

    A defect so close to one that float32 cannot tell them apart is a law without events: whoever
    issues it keeps 1 - d above 1e-6.

    Examples
    --------
    >>> law = Exponential()
    >>> law.log_survival(np.array([[2.0, 0.0]]), np.array([3.0])).tolist()
    [-6.0]
    >>> law.quantile(np.array([[2.0, 0.5]]), np.array([0.6])).tolist()
    [inf]
    """

    width = 2

    def log_survival(self, params: Floats, s: Floats) -> Floats:
        """ln S(s), in the shape of s."""
        return _log_survival(*spread(params, s), s)

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln h(s); falls from ln[(1 - d) r] as those who stay silent turn out not to come."""
        return _log_hazard(*spread(params, s), s)

    def compensator(self, params: Floats, a: Floats, b: Floats) -> Floats:
        """Λ(a, b)."""
        return _compensator(*spread(params, a), a, b)

    def quantile(self, params: Floats, u: Floats) -> Floats:
        """Time at which the cdf reaches u; inf from u = 1 - d on."""
        return _quantile(*spread(params, u), u)

    def log_defect(self, params: Floats) -> Floats:
        """ln d, (N,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(params[:, 1]))
