"""The published waiting time: a table of 32 rates and a tail, and the numbers read off it.

    x_j   = ln S(e_j) - ln S(e_{j+1})           exact at the edges, S the mixture's survival
    rate  = x_j / (e_{j+1} - e_j)               inside a bin the hazard is constant
    tail  = [ln S(H) - ln S(10 H)] / 9 H        H the horizon, which is the last edge
    never = S(H)
    mean  = E[T | T <= H],  quantiles likewise of the law given an event within H

Edges: 0, then 32 from 1 ms to the horizon in equal ratios, whatever the clock; written to 6 significant
digits, as the rates are. Rates below 1e-15 /s (one in thirty million years) are published as that, so
that no gap has probability zero. Rates are rounded *before* they are stored, so that the density that
is scored is that of the numbers as printed.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from streamrec.arrays import Array, Floats
from streamrec.waiting.piecewise_exponential import PiecewiseExponential

N_BINS = 32
LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
FIRST_EDGE_S = 1e-3
LEAST_RATE = 1e-15
BEYOND = 10.0
"""The tail is the mean hazard between the horizon and this many horizons."""

_POWERS = np.array([float(10**k) for k in range(23)])


@njit(cache=True, error_model="numpy")
def _round_one(x: float) -> float:
    if not (0.0 < abs(x) < math.inf):
        return x
    k = 5 - math.floor(math.log10(abs(x)))
    if k > 22 or k < -22:
        return x
    # both operands are exact, so the result is the float nearest to the decimal
    return float(np.rint(x * _POWERS[k]) / _POWERS[k] if k >= 0 else np.rint(x / _POWERS[-k]) * _POWERS[-k])


@njit(cache=True, error_model="numpy")
def _round_all(x: Floats, out: Floats) -> None:
    for i in range(len(x)):
        out[i] = _round_one(x[i])


def round_printed(x: Array) -> Floats:
    """Numbers rounded to 6 significant digits, such that `repr` prints no more than these.

    Examples
    --------
    >>> round_printed(np.array([1 / 3, 123456.7, 2e-15 / 3])).tolist()
    [0.333333, 123457.0, 6.66667e-16]
    """
    flat = np.ascontiguousarray(x, np.float64).ravel()
    out = np.empty_like(flat)
    _round_all(flat, out)
    return out.reshape(np.shape(x))


def table_edges(horizon_s: float) -> Floats:
    """The 33 edges in seconds: 0, then from 1 ms to the horizon in equal ratios.

    Examples
    --------
    >>> table_edges(1e6)[[0, 1, 2, 32]].tolist()
    [0.0, 0.001, 0.00195129, 1000000.0]
    """
    edges = np.concatenate([[0.0], round_printed(np.geomspace(FIRST_EDGE_S, horizon_s, N_BINS))])
    edges[-1] = horizon_s
    return edges


@dataclass(frozen=True, slots=True)
class Published:
    """What is published of N waiting times; `rates` and `tail` are the numbers as printed.

    Parameters
    ----------
    edges_s : (33,) s
    rates : (N, 32) 1/s
    tail : (N,) 1/s, beyond the last edge
    quantiles : (N, 5) s, at `LEVELS`, given an event within the horizon
    mean : (N,) s, given an event within the horizon
    never : (N,) probability of no event within the horizon
    interval : (N, 2) s, 5 % and 95 % quantile of the full law; inf where it is not reached

    All numbers of a row are NaN where every expert was asleep.
    """

    edges_s: Floats
    rates: Floats
    tail: Floats
    quantiles: Floats
    mean: Floats
    never: Floats
    interval: Floats

    @property
    def tables(self) -> Floats:
        """Parameters of the piecewise-exponential law, (N, 33)."""
        return np.column_stack([self.rates, self.tail])

    def within(self, h: float) -> Floats:
        """P(an event within h seconds) by the printed table, (N,)."""
        law = PiecewiseExponential(self.edges_s)
        return np.asarray(-np.expm1(law.log_survival(self.tables, np.full(len(self.mean), float(h)))))

    def one(self, s: int) -> dict[str, Any]:
        """Plain values of forecast s, ready for the record."""
        return {
            "quantiles": dict(zip(LEVELS.tolist(), self.quantiles[s].tolist(), strict=True)),
            "mean": float(self.mean[s]),
            "never": float(self.never[s]),
            "interval": self.interval[s].tolist(),
            "edges_s": self.edges_s.tolist(),
            "rates": self.rates[s].tolist(),
            "tail": float(self.tail[s]),
        }


def knots(edges: Floats) -> Floats:
    """Times at which the survival is asked for: every edge but 0, and far beyond the last, (33,)."""
    return np.append(edges[1:], BEYOND * edges[-1])


def mix_survival(log_s: Floats, log_w: Floats) -> Floats:
    """ln Σ_k w_k S_k at T times, (N, T), relatively exact also where S is next to one.

    Parameters
    ----------
    log_s : (K, N, T) ln S of every expert; rows of NaN where it is asleep
    log_w : (N, K) log-weights, any total
    """
    log_w = np.where(np.isnan(log_s[:, :, 0].T), -np.inf, log_w)
    log_w = log_w - _log_sum([log_w[:, k] for k in range(len(log_s))])[:, None]
    terms, below = [], np.zeros(log_s.shape[1:])
    for k, log_s_k in enumerate(np.maximum(np.where(np.isnan(log_s), 0.0, log_s), -1e4)):
        terms.append(log_w[:, k, None] + log_s_k)
        below = below - np.exp(log_w[:, k, None]) * np.expm1(log_s_k)
    return np.where(below < 0.5, np.log1p(-np.minimum(below, 0.5)), _log_sum(terms))


def _log_sum(terms: list[Floats]) -> Floats:
    """ln Σ exp(terms), added up in their order."""
    top = terms[0]
    for term in terms[1:]:
        top = np.maximum(top, term)
    with np.errstate(invalid="ignore"):
        total = np.zeros_like(top)
        for term in terms:
            total = total + np.exp(term - top)
    return np.asarray(top + np.log(total))


@njit(cache=True, error_model="numpy")
def _settle(log_s: Floats, edges: Floats, level: Floats) -> None:
    """ln S at the edges from 0 on, made to fall by the least rate at least."""
    level[0] = 0.0
    for j in range(len(edges) - 1):
        level[j + 1] = min(log_s[j], level[j] - LEAST_RATE * (edges[j + 1] - edges[j]))


@njit(cache=True, error_model="numpy")
def _mean(level: Floats, edges: Floats) -> float:
    """Σ over bins of S(e_j) [e_j (1 - e^{-x}) + width (1 - e^{-x} (1 + x)) / x], over F(H)."""
    total, alive = 0.0, 1.0
    for j in range(len(edges) - 1):
        x = level[j] - level[j + 1]
        width = edges[j + 1] - edges[j]
        if x < 1e-3:
            gone = x * (1.0 - x * (0.5 - x * (1.0 / 6.0 - x / 24.0)))
            place = x * (0.5 - x * (1.0 / 3.0 - x * (0.125 - x / 30.0)))
        else:
            gone = 1.0 - math.exp(-x)
            place = (gone - x * (1.0 - gone)) / x
        total += alive * (edges[j] * gone + width * place)
        alive *= 1.0 - gone
    return total / -math.expm1(level[-1])


@njit(cache=True, error_model="numpy")
def _time_at(target: float, level: Floats, edges: Floats) -> float:
    """Time at which ln S falls to `target`, inside the table."""
    j = 0
    while j < len(edges) - 2 and level[j + 1] > target:
        j += 1
    share = (level[j] - target) / (level[j] - level[j + 1])
    return float(edges[j] + min(share, 1.0) * (edges[j + 1] - edges[j]))


@njit(cache=True, error_model="numpy")
def middles(log_s: Floats, edges: Floats) -> Floats:
    """Median and mean given an event within the horizon, (K, N, 2), from ln S at the knots (K, N, 33)."""
    level = np.empty(len(edges))
    out = np.full((log_s.shape[0], log_s.shape[1], 2), math.nan)
    for k in range(log_s.shape[0]):
        for n in range(log_s.shape[1]):
            if not math.isnan(log_s[k, n, 0]):
                _settle(log_s[k, n], edges, level)
                out[k, n, 0] = _time_at(math.log1p(0.5 * math.expm1(level[-1])), level, edges)
                out[k, n, 1] = _mean(level, edges)
    return out


@njit(cache=True, error_model="numpy")
def _read(log_s: Floats, log_d: Floats, edges: Floats, levels: Floats, out: Floats) -> None:
    """Rates, tail, quantiles, mean, never and interval of every row, side by side in `out`."""
    level = np.empty(len(edges))
    bins = len(edges) - 1
    horizon = edges[bins]
    for n in range(len(log_s)):
        out[n] = math.nan
        if math.isnan(log_s[n, 0]):
            continue
        _settle(log_s[n], edges, level)
        end = level[bins]
        for j in range(bins):
            rate = (level[j] - level[j + 1]) / (edges[j + 1] - edges[j])
            out[n, j] = _round_one(max(rate, LEAST_RATE))
        tail = max((end - log_s[n, bins]) / ((BEYOND - 1.0) * horizon), LEAST_RATE)
        out[n, bins] = _round_one(tail)
        at = bins + 1
        for u in levels:
            out[n, at] = _time_at(math.log1p(u * math.expm1(end)), level, edges)
            at += 1
        out[n, at], out[n, at + 1] = _mean(level, edges), math.exp(end)
        for u in (levels[0], levels[-1]):
            target = math.log1p(-u)
            if target >= end:
                out[n, at + 2] = _time_at(target, level, edges)
            else:
                out[n, at + 2] = horizon + (end - target) / tail if target > log_d[n] else math.inf
            at += 1


def publish(log_s: Floats, log_d: Floats, edges: Floats) -> Published:
    """Read everything that is published off ln S at the knots (N, 33) and ln of the defect (N,)."""
    out = np.empty((len(log_s), N_BINS + 1 + len(LEVELS) + 4))
    _read(np.ascontiguousarray(log_s), log_d, edges, LEVELS, out)
    rates, tail, quantiles, mean, never, interval = np.split(out, [32, 33, 38, 39, 40], axis=1)
    return Published(edges, rates, tail[:, 0], quantiles, mean[:, 0], never[:, 0], interval)
