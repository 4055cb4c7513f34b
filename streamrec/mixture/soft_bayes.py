"""Soft-Bayes: weights that compete with the best fixed convex combination of experts.

    w_k ← w_k (1 − η + η p_k / p_mix),   p_mix = Σ_awake w_k p_k / Σ_awake w_k

Symbols: η = max(0.02, min(0.5, 2/√n)) after n updates of these weights, N experts. The weights of experts
that sleep stay as they are, so the awake ones keep their mass. The theory's rate √(ln N / (2 N n)) is right
for the worst stream and slow on ours: on the first halves of MovieLens-100K and taobao (first 50,000 events)
and of taxi (first 20,000), this schedule was 0.002 to 0.013 nats better and lower floors no better.

Weights live on three levels: all events; (log2 history, repeat state); (log2 history, gap bucket, repeat
state). Each level learns on its own and starts as a copy of the one above; the forecast takes
w = λ_2 w_2 + (1 − λ_2)(λ_1 w_1 + (1 − λ_1) w_0) with λ = n_c / (n_c + s). When a forecast is issued the gap
is not known yet and λ_2 = 0.

Source: Orseau, Lattimore, Legg (2019), "Soft-Bayes: Prod for mixtures of experts with log-loss", ALT 2017 /
TCS. Departures: a faster rate with a floor (we track), and the levels.
"""

from typing import NamedTuple

import numpy as np

from streamrec.arrays import Bools, Floats
from streamrec.batch import GAP_BUCKETS
from streamrec.jit import kernel
from streamrec.mixture.gate import GATE_CONTEXTS

MIN_RATE = 0.02
MAX_RATE = 0.5
HASTE = 2.0
SHRINK = 300.0


class SoftArrays(NamedTuple):
    """Weights and number of updates by level.

    Parameters
    ----------
    everywhere, everywhere_n : (1, N), (1,)
    context, context_n : (30, N), (30,) by (log2 history, repeat state)
    gap, gap_n : (750, N), (750,) by (context, gap bucket or none)
    """

    everywhere: Floats
    everywhere_n: Floats
    context: Floats
    context_n: Floats
    gap: Floats
    gap_n: Floats


def new_soft(n: int) -> SoftArrays:
    """Uniform weights of n experts at every level."""
    fine = GATE_CONTEXTS * (GAP_BUCKETS + 1)
    levels = (1, GATE_CONTEXTS, fine)
    arrays = [a for size in levels for a in (np.full((size, n), 1.0 / n), np.zeros(size))]
    return SoftArrays(*arrays)


@kernel
def soft_step(w: Floats, p: Floats, awake: Bools, rate: float) -> float:
    """One update of the weights of the awake experts; answers p_mix before it.

    Examples
    --------
    >>> w = np.array([0.5, 0.5])
    >>> soft_step(w, np.array([0.9, 0.1]), np.array([True, True]), 0.5)
    0.5
    >>> w
    array([0.7, 0.3])
    """
    mass, mixed = 0.0, 0.0
    for k in range(len(w)):
        if awake[k]:
            mass += w[k]
            mixed += w[k] * p[k]
    mixed /= mass
    for k in range(len(w)):
        if awake[k]:
            w[k] *= 1.0 - rate + rate * (p[k] / mixed)
    return mixed


@kernel
def soft_rate(n: float) -> float:
    """η of the (n+1)-th update."""
    rate: float = max(MIN_RATE, min(MAX_RATE, HASTE / np.sqrt(n + 1.0)))
    return rate


@kernel
def soft_weights(soft: SoftArrays, context: int, gap: int, awake: Bools, out: Floats) -> None:
    """Weights of a context over the awake experts, summing to one; gap −1: none, −2: not known yet."""
    fine = context * (GAP_BUCKETS + 1) + gap + 1
    share = soft.context_n[context] / (soft.context_n[context] + SHRINK)
    finer = soft.gap_n[fine] / (soft.gap_n[fine] + SHRINK) if gap > -2 else 0.0
    mass, everywhere, by_context, by_gap = 0.0, soft.everywhere, soft.context, soft.gap
    for k in range(len(out)):
        coarse = share * by_context[context, k] + (1.0 - share) * everywhere[0, k]
        out[k] = finer * by_gap[fine, k] + (1.0 - finer) * coarse if gap > -2 else coarse
        if not awake[k]:
            out[k] = 0.0
        mass += out[k]
    for k in range(len(out)):
        out[k] /= mass


@kernel
def copy_row(of: Floats, to: Floats) -> None:
    """to = of, entry by entry (an array assignment would want reference counts)."""
    for k in range(len(of)):
        to[k] = of[k]


@kernel
def learn_soft(soft: SoftArrays, context: int, gap: int, p: Floats, awake: Bools) -> None:
    """Move the weights of all three levels after a known mark that the experts gave p."""
    fine = context * (GAP_BUCKETS + 1) + gap + 1
    if soft.context_n[context] == 0:
        copy_row(soft.everywhere[0], soft.context[context])
    if soft.gap_n[fine] == 0:
        copy_row(soft.context[context], soft.gap[fine])
    soft_step(soft.everywhere[0], p, awake, soft_rate(soft.everywhere_n[0]))
    soft_step(soft.context[context], p, awake, soft_rate(soft.context_n[context]))
    soft_step(soft.gap[fine], p, awake, soft_rate(soft.gap_n[fine]))
    soft.everywhere_n[0] += 1
    soft.context_n[context] += 1
    soft.gap_n[fine] += 1
