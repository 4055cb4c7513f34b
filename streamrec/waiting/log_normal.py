"""Mixture of log-normals and one exponential with a defect: what the neural models issue.

    S(s) = d + (1 - d) [Σ_c w_c Q((ln s - μ_c)/σ_c) + w_e e^{-r s}]

Symbols: C log-normal components, w weights that sum to one with w_e, μ in ln seconds, σ without unit, r
rate (1/s), d defect, Q upper tail of the standard normal. The exponential keeps the hazard positive
at s = 0, where every log-normal has none.
Source: Shchur, Biloš and Günnemann (2020), Intensity-free learning of temporal point processes, ICLR.
Departures: the exponential component and the defect.
"""

import numpy as np

from streamrec.arrays import Floats
from streamrec.errors import ConfigError
from streamrec.waiting import defective, normal_kernels
from streamrec.waiting.normal_kernels import Parts, call


class LogNormalMixture:
    """Law of width 3C + 3 whose parameters are all unbounded, as a network puts them out.

    Layout of a row: C + 1 log-weights (not normalised; the last is the exponential's), C values μ,
    C values ln σ, ln r, logit d.

    Parameters
    ----------
    n_components : number C of log-normals; at least 1

    Raises
    ------
    ConfigError
        If there is no component.

    Examples
    --------
    >>> law = LogNormalMixture(1)
    >>> row = np.array([[0.0, -np.inf, np.log(60.0), 0.0, 0.0, -np.inf]])  # one log-normal, no defect
    >>> law.quantile(row, np.array([0.5])).round(9).tolist()
    [60.0]
    """

    def __init__(self, n_components: int) -> None:
        if n_components < 1:
            raise ConfigError(f"n_components: expected at least 1, got {n_components}")
        self.n_components = n_components
        self.width = 3 * n_components + 3

    def log_survival(self, params: Floats, s: Floats) -> Floats:
        """ln S(s), in the shape of s."""
        log_d, log_alive = self._defect(params, s)
        parts = self._parts(params)
        log_s0 = call(normal_kernels.log_survival, parts, s)
        return defective.log_survival(log_d, log_alive, log_s0)

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln h(s)."""
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
        _, log_alive = self._defect(params, u)
        share = defective.proper_share(log_alive, u)
        return call(normal_kernels.quantile, self._parts(params), share)

    def log_defect(self, params: Floats) -> Floats:
        """ln d, (N,)."""
        return -_softplus(-params[:, -1])

    def _parts(self, params: Floats) -> Parts:
        c = self.n_components
        logits = params[:, : c + 1]
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        total = raised[:, 0].copy()
        for k in range(1, c + 1):
            total = total + raised[:, k]
        mu, sigma = params[:, c + 1 : 2 * c + 1], np.exp(params[:, 2 * c + 1 : 3 * c + 1])
        return raised / total[:, None], mu, sigma, np.exp(params[:, -2])

    @staticmethod
    def _defect(params: Floats, s: Floats) -> tuple[Floats, Floats]:
        logit = defective.spread(params[:, -1:], s)[0]
        return -_softplus(-logit), -_softplus(logit)


def _softplus(x: Floats) -> Floats:
    """ln(1 + e^x)."""
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))
