"""Waiting time under an intensity that falls exponentially to a base: one event's view of a Hawkes process.

    h(s)    = μ + c e^{-b s}
    Λ(a,t)  = μ (t - a) + A e^{-b a} (1 - e^{-b (t - a)}),      A = c / b
    S(s)    = e^{-Λ(0, s)};  the defect is e^{-A} when μ = 0, else 0
    s(u)    = z + W0((b A / μ) e^{-b z}) / b,    z = (E - A) / μ,  E = -ln(1 - u)
    mean    = (1/μ) 1F1(1; μ/b + 1; -A)

Symbols: μ base rate (1/s), c excess rate just after the user's last event (1/s), b decay (1/s), W0 Lambert's
function, 1F1 Kummer's function. W0 of e^y is taken as the Wright omega function of y, which cannot
overflow. Source: Lambert W for inverse sampling: Corless et al. (1996), Adv. Comput. Math. 5, 329-359; the
mean by the substitution v = 1 - e^{-b s} in ∫ S, Abramowitz and Stegun 13.2.1.
"""

import numpy as np
from scipy.special import hyp1f1, wrightomega

from streamrec.arrays import Floats
from streamrec.waiting.defective import spread


class ExponentialDecay:
    """Law with parameters [base (1/s), excess (1/s), decay (1/s)]; base, excess >= 0, decay > 0.

    Examples
    --------
    >>> law = ExponentialDecay()
    >>> params = np.array([[0.5, 1.6, 2.0]])
    >>> law.log_hazard(params, np.array([0.0])).round(4).tolist()
    [0.7419]
    >>> s = law.quantile(params, np.array([0.9]))
    >>> float(np.exp(law.log_survival(params, s)).round(12)[0])
    0.1
    """

    width = 3

    def log_survival(self, params: Floats, s: Floats) -> Floats:
        """ln S(s), in the shape of s."""
        return -self.compensator(params, np.zeros_like(s), s)

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln h(s); -inf where both the base and the excess are gone."""
        base, excess, decay = spread(params, s)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(base + excess * np.exp(-decay * s)))

    def compensator(self, params: Floats, a: Floats, b: Floats) -> Floats:
        """Λ(a, b), exact also for b - a far below 1/decay."""
        base, excess, decay = spread(params, a)
        with np.errstate(invalid="ignore"):
            flat = np.where(base > 0, base * (b - a), 0.0)
            return np.asarray(flat - excess / decay * np.exp(-decay * a) * np.expm1(-decay * (b - a)))

    def quantile(self, params: Floats, u: Floats) -> Floats:
        """Time at which the cdf reaches u; inf where it never does."""
        base, excess, decay = spread(params, u)
        exponent, mass = -np.log1p(-u), excess / decay
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            z = (exponent - mass) / base
            log_argument = np.log(excess) - np.log(base) - decay * z
            based = np.where(excess > 0, z + wrightomega(log_argument) / decay, exponent / base)
            based = np.maximum(based, 0.0)
            baseless = np.where(exponent < mass, -np.log1p(-exponent / mass) / decay, np.inf)
            for _ in range(2):  # Newton: z and W cancel where A b / μ is large
                short = exponent - self.compensator(params, np.zeros_like(u), based)
                based = np.maximum(based + short * np.exp(-self.log_hazard(params, based)), 0.0)
        return np.asarray(np.where(base > 0, based, baseless))

    def log_defect(self, params: Floats) -> Floats:
        """-A where there is no base rate, else -inf; (N,)."""
        base, excess, decay = params.T
        return np.asarray(np.where(base > 0, -np.inf, -excess / decay))

    def mean(self, params: Floats) -> Floats:
        """Mean waiting time in s, (N,); inf without a base rate.

        Examples
        --------
        >>> ExponentialDecay().mean(np.array([[0.5, 0.0, 1.0]])).tolist()
        [2.0]
        """
        base, excess, decay = params.T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(base > 0, hyp1f1(1.0, base / decay + 1.0, -excess / decay) / base, np.inf)

    def next_mark(self, params: Floats, base_share: Floats, excess_share: Floats) -> Floats:
        """Probability of every mark being next, whenever that is, (N, M); needs a positive base rate.

        p_m = (μ_m/μ) μ E[τ] + (c_m/c) [1 - μ E[τ]], since ∫ h S = 1 and ∫ μ S = μ E[τ].

        Parameters
        ----------
        base_share, excess_share : (N, M) shares of the marks in the base and in the excess rate
        """
        from_base = (params[:, 0] * self.mean(params))[:, None]
        return base_share * from_base + excess_share * (1.0 - from_base)
