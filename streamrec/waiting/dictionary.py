"""Mixture of fixed log-normals with a defect: a smooth histogram of ln s with weights per row.

    S(s) = d + (1 - d) Σ_c w_c Q((ln s - m_c)/σ)

Symbols: m_c fixed centres in ln seconds, σ their common width, w_c weights, d defect, Q upper tail of the
standard normal. Since centres never move, the components' survivals at fixed knots are a table
made once, and a row's survival there is one sum over it.
Source: mixture of known densities, e.g. Lindsay (1995), Mixture Models, ch. 1.
"""

import numpy as np
from numba import njit

from streamrec.arrays import Floats
from streamrec.errors import ConfigError
from streamrec.waiting import defective, normal_kernels
from streamrec.waiting.normal_kernels import Parts, call


@njit(cache=True, error_model="numpy")
def _sum_over(weights: Floats, table: Floats) -> Floats:
    """Σ_c weights[n, c] table[c, t] in the order of c, whatever N is (a matrix product is not)."""
    out = np.zeros((weights.shape[0], table.shape[1]))
    for n in range(weights.shape[0]):
        for c in range(table.shape[0]):
            for t in range(table.shape[1]):
                out[n, t] += weights[n, c] * table[c, t]
    return out


class Knots:
    """Survival of a dictionary's rows at fixed times, by a table made once.

    Parameters
    ----------
    law : the dictionary
    times : (T,) s, positive
    """

    def __init__(self, law: "Dictionary", times: Floats) -> None:
        each = np.eye(len(law.centres), law.width)
        self._above = np.exp(law.log_survival(each, np.tile(times, (len(each), 1))))
        self._below = -np.expm1(law.log_survival(each, np.tile(times, (len(each), 1))))

    def log_survival(self, params: Floats) -> Floats:
        """ln S at the knots, (N, T); below 1e-300 it stays at ln 1e-300."""
        weights = np.ascontiguousarray(_normal(params[:, :-1]))
        alive = 1.0 - params[:, -1:]
        above = params[:, -1:] + alive * _sum_over(weights, self._above)
        below = alive * _sum_over(weights, self._below)
        return np.where(below < 0.5, np.log1p(-np.minimum(below, 0.5)), np.log(np.maximum(above, 1e-300)))


class Dictionary:
    """Law with parameters [K weights, defect] over K log-normals that never move.

    Weights are not negative and need not sum to one (they are divided by their sum); 0 <= defect < 1.

    Parameters
    ----------
    centres : (K,) ln seconds, the components' medians
    sigma : their common standard deviation in ln seconds; positive

    Raises
    ------
    ConfigError
        If there is no centre, one is not finite, or sigma is not positive.

    Examples
    --------
    >>> law = Dictionary(np.log([1.0, 100.0]), sigma=0.5)
    >>> law.quantile(np.array([[0.0, 2.0, 0.5]]), np.array([0.25])).round(9).tolist()
    [100.0]
    """

    def __init__(self, centres: Floats, sigma: float) -> None:
        self.centres = np.asarray(centres, np.float64)
        self.sigma = float(sigma)
        if self.centres.ndim != 1 or not len(self.centres) or not np.isfinite(self.centres).all():
            raise ConfigError(f"centres: expected a row of finite ln seconds, got {centres!r}")
        if not 0 < self.sigma < np.inf:
            raise ConfigError(f"sigma: expected > 0, got {sigma}")
        self.width = len(self.centres) + 1

    def log_survival(self, params: Floats, s: Floats) -> Floats:
        """ln S(s), in the shape of s."""
        log_d, log_alive = self._defect(params, s)
        log_s0 = call(normal_kernels.log_survival, self._parts(params), s)
        return defective.log_survival(log_d, log_alive, log_s0)

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln h(s); -inf at s = 0."""
        _, log_alive = self._defect(params, s)
        log_density = log_alive + call(normal_kernels.log_density, self._parts(params), s)
        return np.asarray(log_density - self.log_survival(params, s))

    def compensator(self, params: Floats, a: Floats, b: Floats) -> Floats:
        """Λ(a, b)."""
        _, log_alive = self._defect(params, a)
        log_mass = log_alive + call(normal_kernels.log_mass, self._parts(params), a, b)
        log_s_a, log_s_b = self.log_survival(params, a), self.log_survival(params, b)
        return defective.compensator(log_mass, log_s_a, log_s_b)

    def at_gap(self, params: Floats, dt: Floats, half: Floats) -> tuple[Floats, ...]:
        """Everything that a score of a gap needs (`cells.AtGap`), each survival computed once."""
        return normal_kernels.at_gap(self._parts(params), *self._defect(params, dt), dt, half)

    def quantile(self, params: Floats, u: Floats) -> Floats:
        """Time at which the cdf reaches u; inf from u = 1 - d on."""
        share = defective.proper_share(self._defect(params, u)[1], u)
        return call(normal_kernels.quantile, self._parts(params), share)

    def log_defect(self, params: Floats) -> Floats:
        """ln d, (N,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(params[:, -1]))

    def at_knots(self, times: Floats) -> Knots:
        """The fast path to the survival at times that stay the same for all rows."""
        return Knots(self, times)

    def _parts(self, params: Floats) -> Parts:
        n = len(params)
        weights = np.concatenate([_normal(params[:, :-1]), np.zeros((n, 1))], axis=1)
        sigma = np.full((1, len(self.centres)), self.sigma)
        return weights, self.centres[None, :], sigma, np.zeros(n)

    @staticmethod
    def _defect(params: Floats, s: Floats) -> tuple[Floats, Floats]:
        defect = defective.spread(params[:, -1:], s)[0]
        with np.errstate(divide="ignore"):
            return np.log(defect), np.log1p(-defect)


def _normal(weights: Floats) -> Floats:
    """Rows divided by their sums, added up in the order of the columns."""
    return np.asarray(weights / np.cumsum(weights, axis=1)[:, -1:])
