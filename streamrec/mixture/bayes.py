"""The outermost layer: Bayes over experts, with a bound on any stream.

    w_k ← w_k p_k / p_mix over the experts that are awake,   p_mix = Σ_awake w_k p_k / Σ_awake w_k

    Σ_{t: k awake} (ℓ_mix,t − ℓ_k,t) ≤ −ln w_k(0);   uniform start over N members: L_mix ≤ min_k L_k + ln N

Symbols: ℓ = −ln p. Awake experts keep their common mass, sleeping ones their own. Weights are kept as
logarithms.

Source: Vovk (1990), COLT; sleeping experts: Freund, Schapire, Singer, Warmuth (1997), STOC.
"""

import numpy as np

from streamrec.arrays import Bools, Floats
from streamrec.jit import kernel


@kernel
def bayes_weights(log_w: Floats, awake: Bools, out: Floats) -> None:
    """Weights of the awake members, summing to one; 0 for the others."""
    top = -np.inf
    for k in range(len(log_w)):
        if awake[k]:
            top = max(top, log_w[k])
    mass = 0.0
    for k in range(len(log_w)):
        out[k] = np.exp(log_w[k] - top) if awake[k] else 0.0
        mass += out[k]
    for k in range(len(log_w)):
        out[k] /= mass


@kernel
def bayes_step(log_w: Floats, log_p: Floats, awake: Bools) -> float:
    """Learn one event; answers ln p_mix as it was before.

    Examples
    --------
    >>> log_w = np.log([0.5, 0.5])
    >>> both = np.array([True, True])
    >>> float(np.exp(bayes_step(log_w, np.log([0.9, 0.1]), both)).round(12)), np.exp(log_w).round(12).tolist()
    (0.5, [0.9, 0.1])
    """
    before, after = -np.inf, -np.inf
    for k in range(len(log_w)):
        if awake[k]:
            before = max(before, log_w[k])
            after = max(after, log_w[k] + log_p[k])
    mass, joint = 0.0, 0.0
    for k in range(len(log_w)):
        if awake[k]:
            mass += np.exp(log_w[k] - before)
            joint += np.exp(log_w[k] + log_p[k] - after)
    log_mix: float = after + np.log(joint) - before - np.log(mass)
    for k in range(len(log_w)):
        if awake[k]:
            log_w[k] += log_p[k] - log_mix
    return log_mix
