"""Lomax waiting time with a defect: the gamma-Poisson law of a user whose rate is not known exactly.

    S(s) = d + (1 - d) (1 + s/β)^{-α}

Symbols: α shape (a prior's shape plus the user's events), β scale in seconds (the prior's plus the
user's exposure), d defect. A rate drawn from Gamma(α, β) and then an exponential wait gives S0.
Source: Lomax (1954), J. Am. Stat. Assoc. 49, 847-852; as a posterior predictive: Fader, Hardie and
Lee (2005), Marketing Science 24, 275-284.
"""

import numpy as np

from streamrec.arrays import Floats
from streamrec.waiting import defective
from streamrec.waiting.defective import spread


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
        shape, scale, defect = spread(params, s)
        return self._log_survival(shape, scale, defect, s)

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln h(s); without a defect α / (β + s)."""
        shape, scale, defect = spread(params, s)
        log_s0 = -shape * np.log1p(s / scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_density = np.log1p(-defect) + np.log(shape) - np.log(scale + s) + log_s0
            return np.asarray(log_density - defective.log_survival(np.log(defect), np.log1p(-defect), log_s0))

    def compensator(self, params: Floats, a: Floats, b: Floats) -> Floats:
        """Λ(a, b)."""
        shape, scale, defect = spread(params, a)
        with np.errstate(divide="ignore", invalid="ignore"):
            fades = np.log(-np.expm1(-shape * np.log1p((b - a) / (scale + a))))
            log_mass = np.log1p(-defect) - shape * np.log1p(a / scale) + fades
        log_s_a = self._log_survival(shape, scale, defect, a)
        log_s_b = self._log_survival(shape, scale, defect, b)
        return defective.compensator(log_mass, log_s_a, log_s_b)

    def quantile(self, params: Floats, u: Floats) -> Floats:
        """Time at which the cdf reaches u; inf from u = 1 - d on."""
        shape, scale, defect = spread(params, u)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = defective.proper_share(np.log1p(-defect), u)
            reached = scale * np.expm1(-np.log1p(-np.minimum(share, 1)) / shape)
            return np.where(share < 1, reached, np.inf)

    def log_defect(self, params: Floats) -> Floats:
        """ln d, (N,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(params[:, 2]))

    @staticmethod
    def _log_survival(shape: Floats, scale: Floats, defect: Floats, s: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return defective.log_survival(np.log(defect), np.log1p(-defect), -shape * np.log1p(s / scale))
