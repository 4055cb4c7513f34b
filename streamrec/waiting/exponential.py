"""Exponential waiting time with a defect: a constant rate for those who come back at all.

    S(s) = d + (1 - d) e^{-r s}

Symbols: r rate (1/s), d defect, the probability that the event never comes.
Source: the cure model of Boag (1949), J. R. Stat. Soc. B 11, 15-53, with an exponential latency.
"""

import numpy as np

from streamrec.arrays import Floats
from streamrec.waiting import defective
from streamrec.waiting.defective import spread


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
        rate, defect = spread(params, s)
        return self._log_survival(rate, defect, s)

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln h(s); falls from ln[(1 - d) r] as those who stay silent turn out not to come."""
        rate, defect = spread(params, s)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(
                np.log1p(-defect) + np.log(rate) - rate * s - self._log_survival(rate, defect, s)
            )

    def compensator(self, params: Floats, a: Floats, b: Floats) -> Floats:
        """Λ(a, b)."""
        rate, defect = spread(params, a)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_mass = np.log1p(-defect) - rate * a + np.log(-np.expm1(-rate * (b - a)))
        log_s_a, log_s_b = self._log_survival(rate, defect, a), self._log_survival(rate, defect, b)
        return defective.compensator(log_mass, log_s_a, log_s_b)

    def quantile(self, params: Floats, u: Floats) -> Floats:
        """Time at which the cdf reaches u; inf from u = 1 - d on."""
        rate, defect = spread(params, u)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = defective.proper_share(np.log1p(-defect), u)
            return np.where(share < 1, -np.log1p(-np.minimum(share, 1)) / rate, np.inf)

    def log_defect(self, params: Floats) -> Floats:
        """ln d, (N,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(params[:, 1]))

    @staticmethod
    def _log_survival(rate: Floats, defect: Floats, s: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return defective.log_survival(np.log(defect), np.log1p(-defect), -rate * s)
