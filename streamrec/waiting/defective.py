"""What all defective laws share: a proper law S0 of which only the part 1 - d ever happens.

    S(s)   = d + (1 - d) S0(s)
    h(s)   = (1 - d) f0(s) / S(s)
    Λ(a,b) = -ln(1 - m),  m = (1 - d) [S0(a) - S0(b)] / S(a)
    F(s)   = u   where  F0(s) = u / (1 - d)

Symbols: d defect, S0, f0, F0 survival, density and cdf of the proper part, m the share of those alive
at a whose event comes within (a, b]. Each line is computed by the form that loses no digits: near
s = 0 from F, in the tail from logarithms.
"""

import numpy as np

from streamrec.arrays import Floats


def spread(params: Floats, s: Floats) -> Floats:
    """Columns of `params` (N, W) as (W, N) or (W, N, 1), whichever broadcasts with `s`.

    Examples
    --------
    >>> spread(np.zeros((5, 2)), np.zeros((5, 7))).shape
    (2, 5, 1)
    """
    return params.T[:, :, None] if np.ndim(s) == 2 else params.T


def log_mix(log_a: Floats, log_b: Floats) -> Floats:
    """ln(e^a + e^b); -inf where both are.

    Examples
    --------
    >>> log_mix(np.array([0.0, -np.inf]), np.array([0.5, -np.inf])).round(3).tolist()
    [0.974, -inf]
    """
    high, low = np.maximum(log_a, log_b), np.minimum(log_a, log_b)
    with np.errstate(invalid="ignore"):
        return np.where(low == -np.inf, high, high + np.log1p(np.exp(low - high)))


def log_survival(log_d: Floats, log_alive: Floats, log_s0: Floats) -> Floats:
    """ln S from ln d, ln(1 - d) and ln S0, relatively exact also where S is next to one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.log1p(np.exp(log_alive) * np.expm1(log_s0))
        return np.where(log_s0 > -0.7, near, log_mix(log_d, log_alive + log_s0))


def compensator(log_mass: Floats, log_s_a: Floats, log_s_b: Floats) -> Floats:
    """Λ(a, b) from ln[S(a) - S(b)] and both survivals; no digits are lost when b - a is small."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.exp(log_mass - log_s_a)
        return np.where(share < 0.5, -np.log1p(-share), log_s_a - log_s_b)


def proper_share(log_alive: Floats, u: Floats) -> Floats:
    """The probability u / (1 - d) of the proper part; 1 or more where u is never reached."""
    with np.errstate(divide="ignore"):
        return u * np.exp(-log_alive)
