"""The repeat/explore gate: whether the next mark is one that the user has had before.

    ρ_c      = (r_c + s ρ) / (n_c + s),   ρ = (r + ½) / (n + 1)
    g_k(i)   = ρ_c p_k(i) / Z_k(seen) for a seen mark, (1 − ρ_c) p_k(i) / Z_k(unseen) for another known one
    p'_k     = v_kb g_k + (1 − v_kb) p_k,    v_kb ∝ v_kb g_k(i)/p_k(i) after every mark i, from ½

Symbols: c context (log2 of the history length, repeat state), n_c known marks that came in c, r_c of them
seen before, s = 2 pseudo-marks that a context takes from all others, Z_k exact sums of expert k over a side.
A user without seen marks has ρ = 0; one who has seen every known mark has ρ = 1.

Source: the repeat/explore split of Ren et al. (2019), RepeatNet, AAAI; the counts are ours.
"""

import numpy as np

from streamrec.arrays import Floats
from streamrec.jit import kernel

HISTORY_BUCKETS = 10
REPEAT_STATES = 3
GATE_CONTEXTS = HISTORY_BUCKETS * REPEAT_STATES
SHRINK = 2.0
MOST_TRUST = 6.0


@kernel
def history_bucket(length: int) -> int:
    """floor(log2(1 + length)), at most 9."""
    bucket = 0
    while bucket < HISTORY_BUCKETS - 1 and (length + 1) >> (bucket + 1) > 0:
        bucket += 1
    return bucket


@kernel
def gate_context(length: int, repeat: int) -> int:
    """Index of (log2 history, repeat state), 0 .. 29."""
    return history_bucket(length) * REPEAT_STATES + repeat


def new_trust(n: int) -> Floats:
    """Log-odds of v for n experts, (history buckets, n): even."""
    return np.zeros((HISTORY_BUCKETS, n))


@kernel
def learn_trust(trust: Floats, gated: Floats, side: int) -> None:
    """Move the log-odds (n,) of a bucket after a mark on a side; `gated` (n, 2) are the factors g_k / p_k."""
    for k in range(len(trust)):
        factor = gated[k, side]
        step = np.log(factor) if factor > 0.0 else -MOST_TRUST
        trust[k] = min(max(trust[k] + step, -MOST_TRUST), MOST_TRUST)


def new_gate() -> Floats:
    """Fresh counts, (contexts + 1, 2): known marks seen before, all; the last row is for all contexts."""
    return np.zeros((GATE_CONTEXTS + 1, 2))


@kernel
def p_repeat(gate: Floats, context: int, n_seen: int, n_known: int) -> float:
    """ρ_c for a user with n_seen seen marks of n_known."""
    if n_seen == 0:
        return 0.0
    if n_seen == n_known:
        return 1.0
    everywhere = (gate[-1, 0] + 0.5) / (gate[-1, 1] + 1.0)
    p: float = (gate[context, 0] + SHRINK * everywhere) / (gate[context, 1] + SHRINK)
    return p


@kernel
def learn_gate(gate: Floats, context: int, was_seen: bool) -> None:
    """Count one known mark of a user who had a choice of seen and unseen ones."""
    for c in (context, len(gate) - 1):
        gate[c, 0] += was_seen
        gate[c, 1] += 1.0
