"""What all defective laws share: a proper law S0 of which only the part 1 - d ever happens.

    S(s)   = d + (1 - d) S0(s)
    h(s)   = (1 - d) f0(s) / S(s)
    Λ(a,b) = -ln(1 - m),  m = (1 - d) [S0(a) - S0(b)] / S(a)
    F(s)   = u   where  F0(s) = u / (1 - d)

Symbols: d defect, S0, f0, F0 survival, density and cdf of the proper part, m the share of those alive
at a whose event comes within (a, b]. Each line is computed by the form that loses no digits: near
s = 0 from F, in the tail from logarithms. The kernels take one number each; laws call them element by
element, so that an answer has the same bits in any company.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import njit

from streamrec.arrays import Floats


def spread(params: Floats, s: Floats) -> Floats:
    """Columns of `params` (N, W) as (W, N) or (W, N, 1), whichever broadcasts with `s`.

    Examples
    --------
    >>> spread(np.zeros((5, 2)), np.zeros((5, 7))).shape
    (2, 5, 1)
    """
    return params.T[:, :, None] if np.ndim(s) == 2 else params.T


def elementwise(signatures: list[str]) -> Callable[[Callable[..., float]], Callable[..., Floats]]:
    """Make a numpy ufunc of a kernel that takes one number per argument."""
    make: Any = numba.vectorize
    compiled: Callable[[Callable[..., float]], Callable[..., Floats]] = make(signatures, cache=True)
    return compiled


@njit(cache=True, error_model="numpy")
def log_of(x: float) -> float:
    """ln x; -inf at 0 and NaN below, without a floating-point warning."""
    return math.log(x) if x > 0.0 else (-math.inf if x == 0.0 else math.nan)


@njit(cache=True, error_model="numpy")
def log_mix(log_a: float, log_b: float) -> float:
    """ln(e^a + e^b); -inf where both are."""
    high, low = max(log_a, log_b), min(log_a, log_b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


@njit(cache=True, error_model="numpy")
def survival_of(log_d: float, log_alive: float, log_s0: float) -> float:
    """ln S from ln d, ln(1 - d) and ln S0, relatively exact also where S is next to one."""
    if log_s0 > -0.7:
        return math.log1p(math.exp(log_alive) * math.expm1(log_s0))
    return log_mix(log_d, log_alive + log_s0)


@njit(cache=True, error_model="numpy")
def integral_of(log_mass: float, log_s_a: float, log_s_b: float) -> float:
    """Λ(a, b) from ln[S(a) - S(b)] and both survivals; no digits are lost when b - a is small."""
    share = math.exp(log_mass - log_s_a)
    return -math.log1p(-share) if share < 0.5 else log_s_a - log_s_b


@njit(cache=True, error_model="numpy")
def survival_with(defect: float, log_s0: float) -> float:
    """`survival_of` from the defect itself; takes no logarithm that it does not need."""
    if log_s0 > -0.7:
        return math.log1p((1.0 - defect) * math.expm1(log_s0))
    return log_s0 if defect == 0.0 else log_mix(math.log(defect), math.log1p(-defect) + log_s0)


@elementwise(["float64(float64, float64, float64)"])
def log_survival(log_d: float, log_alive: float, log_s0: float) -> float:
    """`survival_of` for arrays that broadcast."""
    return survival_of(log_d, log_alive, log_s0)


@elementwise(["float64(float64, float64, float64)"])
def compensator(log_mass: float, log_s_a: float, log_s_b: float) -> float:
    """`integral_of` for arrays that broadcast."""
    return integral_of(log_mass, log_s_a, log_s_b)


def proper_share(log_alive: Floats, u: Floats) -> Floats:
    """The probability u / (1 - d) of the proper part; 1 or more where u is never reached."""
    return u * np.exp(-log_alive)
