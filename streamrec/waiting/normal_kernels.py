"""Kernels for mixtures of log-normals and one exponential, one (row, time) at a time.

    S0(s) = Σ_c w_c Q(z_c) + w_e e^{-r s},   z_c = (ln s - μ_c) / σ_c,   Q(z) = erfc(z / √2) / 2
    f0(s) = Σ_c w_c φ(z_c) / (σ_c s) + w_e r e^{-r s}

Symbols: C components, w weights (the last one belongs to the exponential), μ in ln seconds, σ without
unit, r rate (1/s). `mu` and `sigma` have one row per law, or a single row that all laws share.
Every answer depends on its own row and time alone, so it has the same bits in any company.
"""

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from streamrec.arrays import Floats
from streamrec.waiting import defective
from streamrec.waiting.defective import log_of

Parts = tuple[Floats, Floats, Floats, Floats]
"""Weights (N, C+1), μ and σ (N or 1, C), rate (N,)."""

_ROOT_HALF = math.sqrt(0.5)
_LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)
_TINY = 1e-280
FAR = 10.5
"""Components this many σ away hold less than 5e-26 on the far side, and are left out at first,"""
SMALL = 1e-9
"""unless the sum is below this: then every component counts. So no sum moves by half of its last bit."""


@njit(cache=True, error_model="numpy")
def log_upper(z: float) -> float:
    """ln Q(z), the upper tail of the standard normal, for any z."""
    if z < 36.0:
        if z < -1.0:
            return math.log1p(-0.5 * math.erfc(-z * _ROOT_HALF))
        return math.log(0.5 * math.erfc(z * _ROOT_HALF))
    if z == math.inf:
        return -math.inf
    v = 1.0 / (z * z)
    return -0.5 * z * z - _LOG_ROOT_TAU - math.log(z) + math.log1p(-v * (1.0 - v * (3.0 - 15.0 * v)))


@njit(cache=True, error_model="numpy")
def log_between(z: float, h: float) -> float:
    """ln[Q(z) - Q(z + h)] for h >= 0; a midpoint series when the step is short."""
    m = z + 0.5 * h
    if h * max(1.0, abs(m)) < 0.03:
        q, k = m * m, h * h
        bend = k * (q - 1.0) / 24.0 + k * k * (q * q - 6.0 * q + 3.0) / 1920.0
        return -math.inf if h <= 0.0 else -0.5 * q - _LOG_ROOT_TAU + math.log(h) + math.log1p(bend)
    if z > 0.0:
        head = log_upper(z)
        return head + math.log(-math.expm1(log_upper(z + h) - head))
    if z + h < 0.0:
        head = log_upper(-(z + h))
        return head + math.log(-math.expm1(log_upper(-z) - head))
    return math.log(1.0 - 0.5 * math.erfc(-z * _ROOT_HALF) - 0.5 * math.erfc((z + h) * _ROOT_HALF))


@njit(cache=True, error_model="numpy")
def _log_sum(terms: Floats) -> float:
    top = terms.max()
    if not (top > -math.inf):
        return float(top)
    total = 0.0
    for x in terms:
        total += math.exp(x - top)
    return float(top + math.log(total))


@njit(cache=True, error_model="numpy")
def _tails(w: Floats, mu: Floats, sigma: Floats, rate: float, s: float) -> tuple[float, float]:
    """F0(s) and S0(s), each relatively exact where it is small."""
    below, above = _near_tails(w, mu, sigma, rate, s, FAR)
    if below < SMALL or above < SMALL:
        return _near_tails(w, mu, sigma, rate, s, math.inf)
    return below, above


@njit(cache=True, error_model="numpy")
def _near_tails(
    w: Floats, mu: Floats, sigma: Floats, rate: float, s: float, far: float
) -> tuple[float, float]:
    """The same, where components more than `far` σ away lie wholly on one side."""
    n = len(mu)
    below = above = 0.0
    if w[n] != 0.0:
        below, above = -w[n] * math.expm1(-rate * s), w[n] * math.exp(-rate * s)
    x = log_of(s)
    for c in range(n):
        z = (x - mu[c]) / sigma[c]
        tail = 0.5 * math.erfc(abs(z) * _ROOT_HALF) if not abs(z) > far else 0.0
        below += w[c] * (1.0 - tail if z > 0.0 else tail)
        above += w[c] * (tail if z > 0.0 else 1.0 - tail)
    return below, above


@njit(cache=True, error_model="numpy")
def log_survival(w: Floats, mu: Floats, sigma: Floats, rate: Floats, s: Floats) -> Floats:
    """ln S0, (N, T)."""
    out = np.empty_like(s)
    terms = np.empty(w.shape[1])
    for i in range(s.shape[0]):
        j = i if len(mu) > 1 else 0
        for t in range(s.shape[1]):
            below, above = _tails(w[i], mu[j], sigma[j], rate[i], s[i, t])
            if below < 0.5:
                out[i, t] = math.log1p(-below)
            elif above > _TINY:
                out[i, t] = math.log(above)
            else:
                for c in range(mu.shape[1]):
                    z = (log_of(s[i, t]) - mu[j, c]) / sigma[j, c]
                    terms[c] = log_of(w[i, c]) + log_upper(z)
                terms[-1] = log_of(w[i, -1]) - rate[i] * s[i, t]
                out[i, t] = _log_sum(terms)
    return out


@njit(cache=True, error_model="numpy")
def _between(z: float, h: float) -> float:
    """Q(z) - Q(z + h) as a plain number, by the forms of `log_between`; 0 where it underflows."""
    m = z + 0.5 * h
    if h * max(1.0, abs(m)) < 0.03:
        q, k = m * m, h * h
        bend = k * (q - 1.0) / 24.0 + k * k * (q * q - 6.0 * q + 3.0) / 1920.0
        return math.exp(-0.5 * q - _LOG_ROOT_TAU) * h * (1.0 + bend)
    if z > 0.0:
        return 0.5 * (math.erfc(z * _ROOT_HALF) - math.erfc((z + h) * _ROOT_HALF))
    if z + h < 0.0:
        return 0.5 * (math.erfc(-(z + h) * _ROOT_HALF) - math.erfc(-z * _ROOT_HALF))
    return 1.0 - 0.5 * math.erfc(-z * _ROOT_HALF) - 0.5 * math.erfc((z + h) * _ROOT_HALF)


@njit(cache=True, error_model="numpy")
def _density(w: Floats, mu: Floats, sigma: Floats, rate: float, s: float) -> float:
    """f0(s) s, for s > 0; 0 where it underflows."""
    n, x = len(mu), math.log(s)
    total = w[n] * rate * s * math.exp(-rate * s) if w[n] != 0.0 else 0.0
    for c in range(n):
        z = (x - mu[c]) / sigma[c]
        total += w[c] / sigma[c] * math.exp(-0.5 * z * z - _LOG_ROOT_TAU)
    return total


@njit(cache=True, error_model="numpy")
def _mass(w: Floats, mu: Floats, sigma: Floats, rate: float, low: float, step: float) -> float:
    """S0(low) - S0(low + step), for low > 0; 0 where it underflows."""
    total = _near_mass(w, mu, sigma, rate, low, step, FAR)
    return _near_mass(w, mu, sigma, rate, low, step, math.inf) if total < SMALL else total


@njit(cache=True, error_model="numpy")
def _near_mass(
    w: Floats, mu: Floats, sigma: Floats, rate: float, low: float, step: float, far: float
) -> float:
    """The same without components more than `far` σ away from all of the step."""
    n, x, grows = len(mu), math.log(low), math.log1p(step / low)
    total = -w[n] * math.exp(-rate * low) * math.expm1(-rate * step) if w[n] != 0.0 else 0.0
    for c in range(n):
        z, h = (x - mu[c]) / sigma[c], grows / sigma[c]
        if not (z > far or z + h < -far):
            total += w[c] * _between(z, h)
    return total


@njit(cache=True, error_model="numpy")
def _far_density(w: Floats, mu: Floats, sigma: Floats, rate: float, s: float, terms: Floats) -> float:
    """ln f0 where f0 s is no float64, and at s = 0, where only the exponential counts."""
    n, x = len(mu), log_of(s)
    for c in range(n):
        z = (x - mu[c]) / sigma[c]
        shape = -0.5 * z * z - _LOG_ROOT_TAU - math.log(sigma[c]) - x
        terms[c] = log_of(w[c]) + (shape if s > 0.0 else -math.inf)
    terms[n] = log_of(w[n]) + log_of(rate) - rate * s
    return _log_sum(terms)


@njit(cache=True, error_model="numpy")
def _far_mass(w: Floats, mu: Floats, sigma: Floats, rate: float, a: float, b: float, terms: Floats) -> float:
    """ln[S0(a) - S0(b)] where the difference is no float64, and from a = 0."""
    n = len(mu)
    for c in range(n):
        if a > 0.0:
            step = math.log1p((b - a) / a) / sigma[c]
            terms[c] = log_of(w[c]) + log_between((math.log(a) - mu[c]) / sigma[c], step)
        else:
            terms[c] = log_of(w[c]) + log_upper(-(log_of(b) - mu[c]) / sigma[c])
    terms[n] = log_of(w[n]) - rate * a + log_of(-math.expm1(-rate * (b - a)))
    return _log_sum(terms)


@njit(cache=True, error_model="numpy")
def log_density(w: Floats, mu: Floats, sigma: Floats, rate: Floats, s: Floats) -> Floats:
    """ln f0, (N, T)."""
    out = np.empty_like(s)
    terms = np.empty(w.shape[1])
    for i in range(s.shape[0]):
        j = i if len(mu) > 1 else 0
        for t in range(s.shape[1]):
            here = _density(w[i], mu[j], sigma[j], rate[i], s[i, t]) if s[i, t] > 0.0 else 0.0
            if here > _TINY:
                out[i, t] = math.log(here) - math.log(s[i, t])
            else:
                out[i, t] = _far_density(w[i], mu[j], sigma[j], rate[i], s[i, t], terms)
    return out


@njit(cache=True, error_model="numpy")
def log_mass(w: Floats, mu: Floats, sigma: Floats, rate: Floats, a: Floats, b: Floats) -> Floats:
    """ln[S0(a) - S0(b)], (N, T), without cancellation."""
    out = np.empty_like(a)
    terms = np.empty(w.shape[1])
    for i in range(a.shape[0]):
        j = i if len(mu) > 1 else 0
        for t in range(a.shape[1]):
            low, step = a[i, t], b[i, t] - a[i, t]
            inside = _mass(w[i], mu[j], sigma[j], rate[i], low, step) if low > 0.0 else 0.0
            if inside > _TINY:
                out[i, t] = math.log(inside)
            else:
                out[i, t] = _far_mass(w[i], mu[j], sigma[j], rate[i], low, b[i, t], terms)
    return out


@njit(cache=True, error_model="numpy")
def quantile(w: Floats, mu: Floats, sigma: Floats, rate: Floats, p: Floats) -> Floats:
    """Time at which F0 reaches p, (N, T): bisection on ln s, to the last bits; inf for p >= 1."""
    out = np.empty_like(p)
    for i in range(p.shape[0]):
        j = i if len(mu) > 1 else 0
        for t in range(p.shape[1]):
            out[i, t] = _solve(w[i], mu[j], sigma[j], rate[i], p[i, t])
    return out


@njit(cache=True, error_model="numpy")
def _bracket(w: Floats, mu: Floats, sigma: Floats, rate: float, p: float) -> tuple[float, float]:
    """Two values of ln s with the quantile between them."""
    low, high = math.inf, -math.inf
    for c in range(len(mu)):
        if w[c] > 0.0:
            low, high = min(low, mu[c] - 38.0 * sigma[c]), max(high, mu[c] + 38.0 * sigma[c])
    if w[len(mu)] > 0.0 and rate > 0.0:
        x = math.log(-math.log1p(-p) / rate)
        low, high = min(low, x), max(high, x)
    return low, high


@njit(cache=True, error_model="numpy")
def _solve(w: Floats, mu: Floats, sigma: Floats, rate: float, p: float) -> float:
    """Newton steps on ln F0 or ln S0 (whichever is small) against ln s, inside a shrinking bracket."""
    if not p < 1.0:
        return math.nan if math.isnan(p) else math.inf
    low, high = _bracket(w, mu, sigma, rate, p)
    x = 0.5 * (low + high)
    for _ in range(200):
        s = math.exp(x)
        below, above = _tails(w, mu, sigma, rate, s)
        if below < p:
            low = x
        else:
            high = x
        slope = w[len(mu)] * rate * s * math.exp(-rate * s)
        for c in range(len(mu)):
            z = (x - mu[c]) / sigma[c]
            slope += w[c] * math.exp(-0.5 * z * z - _LOG_ROOT_TAU) / sigma[c]
        step = math.nan
        if p < 0.5 and below > 0.0:
            step = -math.log(below / p) * below / slope
        elif p >= 0.5 and above > 0.0:
            step = math.log(above / (1.0 - p)) * above / slope
        if abs(step) <= 1e-15 * max(1.0, abs(x)):
            return math.exp(x)
        x += step
        if not low < x < high:
            x = 0.5 * (low + high)
    return math.exp(x)


def call(kernel: Callable[..., Floats], parts: Parts, *times: Floats) -> Floats:
    """Run a kernel on times (N,) or (N, T); the answer has the shape of the first; all are of one shape.

    Examples
    --------
    >>> parts = np.ones((1, 1)), np.zeros((1, 0)), np.ones((1, 0)), np.ones(1)
    >>> call(log_survival, parts, np.array([2.0]))
    array([-2.])
    """
    shape = times[0].shape
    flat = [np.ascontiguousarray(t.reshape(shape[0], math.prod(shape[1:]))) for t in times]
    return kernel(*(np.ascontiguousarray(part) for part in parts), *flat).reshape(shape)


def at_gap(
    parts: Parts, log_d: Floats, log_alive: Floats, dt: Floats, half: Floats
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """ln S at half, dt - half and dt, Λ of the cell, ln h at dt, for laws with a defect; each (N,).

    Every survival is asked for once; the bits are those of the laws' own methods.
    """
    times = np.stack([half, dt - half, dt, dt + half], axis=1)
    log_s0 = call(log_survival, parts, times)
    log_s = defective.log_survival(log_d[:, None], log_alive[:, None], log_s0)
    log_mass_here = log_alive + call(log_mass, parts, dt - half, dt + half)
    inside = defective.compensator(log_mass_here, log_s[:, 1], log_s[:, 3])
    log_hazard = log_alive + call(log_density, parts, dt) - log_s[:, 2]
    return log_s[:, 0], log_s[:, 1], log_s[:, 2], inside, log_hazard
