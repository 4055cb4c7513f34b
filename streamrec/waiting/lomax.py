"""Lomax waiting time with a defect: the gamma-Poisson law of a user whose rate is not known exactly.

    S(s) = d + (1 - d) (1 + s/β)^{-α}

Symbols: α shape (a prior's shape plus the user's events), β scale in seconds (the prior's plus the
user's exposure), d defect. A rate drawn from Gamma(α, β) and then an exponential wait gives S0.
Source: Lomax (1954), J. Am. Stat. Assoc. 49, 847-852; as a posterior predictive: Fader, Hardie and
Lee (2005), Marketing Science 24, 275-284.
"""

import math

import numpy as np
from numba import njit

from streamrec.arrays import Floats
from streamrec.waiting.defective import elementwise, integral_of, log_of, spread, survival_with


@njit(cache=True, error_model="numpy")
def _survival(shape: float, scale: float, defect: float, s: float) -> float:
    return survival_with(defect, -shape * math.log1p(s / scale))


@elementwise(["float64(float64, float64, float64, float64)"])
def _log_survival(shape: float, scale: float, defect: float, s: float) -> float:
    return _survival(shape, scale, defect, s)


@elementwise(["float64(float64, float64, float64, float64)"])
def _log_hazard(shape: float, scale: float, defect: float, s: float) -> float:
    log_density = log_of(shape) - math.log(scale + s) - shape * math.log1p(s / scale)
    return math.log1p(-defect) + log_density - _survival(shape, scale, defect, s)


@elementwise(["float64(float64, float64, float64, float64, float64)"])
def _compensator(shape: float, scale: float, defect: float, a: float, b: float) -> float:
    fades = log_of(-math.expm1(-shape * math.log1p((b - a) / (scale + a))))
    log_mass = math.log1p(-defect) - shape * math.log1p(a / scale) + fades
    return integral_of(log_mass, _survival(shape, scale, defect, a), _survival(shape, scale, defect, b))


@elementwise(["float64(float64, float64, float64, float64)"])
def _quantile(shape: float, scale: float, defect: float, u: float) -> float:
    share = u / (1.0 - defect) if defect < 1.0 else math.inf
    if not share < 1.0:
        return math.nan if math.isnan(share) else math.inf
    return scale * math.expm1(-math.log1p(-share) / shape)


class Lomax:
    """Law with parameters [shape, scale (s), defect]; shape, scale > 0, 0 <= defect < 1.

    Examples
    --------
    >>> law = Lomax()
    >>> np.exp(law.log_survival(np.array([[2.0, 5.0, 0.0]]), np.array([5.0]))).round(12).tolist()
    [0.25]
    """

    width = 3

    def log_survival(self, params: Floats, s: Floats) -> Floats:
        """ln S(s), in the shape of s."""
        return _log_survival(*spread(params, s), s)

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln h(s); without a defect α / (β + s)."""
        return _log_hazard(*spread(params, s), s)

    def compensator(self, params: Floats, a: Floats, b: Floats) -> Floats:
        """Λ(a, b)."""
        return _compensator(*spread(params, a), a, b)

    def quantile(self, params: Floats, u: Floats) -> Floats:
        """Time at which the cdf reaches u; inf from u = 1 - d on."""
        with np.errstate(over="ignore"):
            return _quantile(*spread(params, u), u)

    def log_defect(self, params: Floats) -> Floats:
        """ln d, (N,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(params[:, 2]))
