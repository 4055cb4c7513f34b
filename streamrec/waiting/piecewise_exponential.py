"""Piecewise-exponential waiting time: the form of every law without a closed form, and of the record.

    h(s) = r_j  for e_j <= s < e_{j+1},   h(s) = tail  for s >= e_B,   ln S(s) = -∫_0^s h

Symbols: B bins, e edges in seconds with e_0 = 0, r rates (1/s). A tail of 0 leaves the defect
exp(-Σ_j r_j (e_{j+1} - e_j)).
Source: Friedman (1982), Piecewise exponential models for survival data, Ann. Stat. 10, 101-113.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from streamrec.arrays import Floats
from streamrec.errors import ConfigError


@njit(cache=True, error_model="numpy")
def _integral(rates: Floats, edges: Floats, a: Floats, b: Floats) -> Floats:
    """∫ of the hazard over [a, b], added up bin by bin, (N, T)."""
    out = np.zeros_like(a)
    last = len(edges) - 1
    for n in range(a.shape[0]):
        for t in range(a.shape[1]):
            low, high = a[n, t], b[n, t]
            j = min(np.searchsorted(edges, low, "right"), last + 1) - 1
            if j >= last or high < edges[j + 1]:
                out[n, t] = rates[n, j] * (high - low) if high > low else 0.0
                continue
            total = rates[n, j] * (edges[j + 1] - low)
            j += 1
            while j < last and high >= edges[j + 1]:
                total += rates[n, j] * (edges[j + 1] - edges[j])
                j += 1
            out[n, t] = total + (rates[n, j] * (high - edges[j]) if high > edges[j] else 0.0)
    return out


@njit(cache=True, error_model="numpy")
def _invert(rates: Floats, edges: Floats, target: Floats) -> Floats:
    """Time at which the integral of the hazard reaches `target`, (N, T); inf if it never does."""
    out = np.empty_like(target)
    last = len(edges) - 1
    for n in range(target.shape[0]):
        for t in range(target.shape[1]):
            left, j = target[n, t], 0
            while j < last and rates[n, j] * (edges[j + 1] - edges[j]) < left:
                left -= rates[n, j] * (edges[j + 1] - edges[j])
                j += 1
            out[n, t] = edges[j] + left / rates[n, j] if rates[n, j] > 0.0 else math.inf
            if math.isnan(left) or math.isnan(rates[n, j]):
                out[n, t] = math.nan
    return out


class PiecewiseExponential:
    """Law with parameters [B rates (1/s), tail rate (1/s)], all >= 0, on fixed edges.

    Parameters
    ----------
    edges : (B+1,) s, from 0, strictly ascending

    Raises
    ------
    ConfigError
        If edges do not begin at 0 or do not ascend.

    Examples
    --------
    >>> law = PiecewiseExponential([0.0, 1.0, 10.0])
    >>> row = np.array([[0.5, 0.1, 0.0]])
    >>> law.log_survival(row, np.array([11.0])).round(9).tolist(), law.log_defect(row).round(9).tolist()
    ([-1.4], [-1.4])
    """

    def __init__(self, edges: ArrayLike) -> None:
        self.edges = np.array(edges, np.float64)
        if self.edges.ndim != 1 or len(self.edges) < 2 or self.edges[0] != 0:
            raise ConfigError(f"edges: expected a row of at least two from 0 s on, got {edges!r}")
        if not (np.diff(self.edges) > 0).all() or not np.isfinite(self.edges).all():
            raise ConfigError(f"edges: expected finite and ascending seconds, got {edges!r}")
        self.width = len(self.edges)

    def log_survival(self, params: Floats, s: Floats) -> Floats:
        """ln S(s), in the shape of s."""
        return -self.compensator(params, np.zeros_like(s), s)

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln h(s); an edge belongs to the bin that it begins."""
        bins = np.searchsorted(self.edges, s, side="right") - 1
        rates = np.take_along_axis(
            params, bins.reshape(len(bins), math.prod(bins.shape[1:])), axis=1
        ).reshape(bins.shape)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(rates))

    def compensator(self, params: Floats, a: Floats, b: Floats) -> Floats:
        """Λ(a, b), exact also across an edge."""
        rows = np.ascontiguousarray(params)
        return _integral(rows, self.edges, _flat(a), _flat(b)).reshape(np.shape(a))

    def quantile(self, params: Floats, u: Floats) -> Floats:
        """Time at which the cdf reaches u; inf where it never does."""
        rows = np.ascontiguousarray(params)
        return _invert(rows, self.edges, _flat(-np.log1p(-u))).reshape(np.shape(u))

    def log_defect(self, params: Floats) -> Floats:
        """ln d, (N,); -inf when the tail rate is positive."""
        whole = self.log_survival(params, np.full(len(params), self.edges[-1]))
        return np.where(params[:, -1] > 0, -np.inf, whole)


def _flat(s: Floats) -> Floats:
    return np.ascontiguousarray(s.reshape(len(s), math.prod(s.shape[1:])), np.float64)
