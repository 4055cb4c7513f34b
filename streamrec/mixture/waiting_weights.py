"""The posterior over waiting-time experts that every user's row keeps, set after set.

    ℓ_mix  = ln Σ_k w_k p_k / Σ_k w_k          k over the experts awake at this set
    w_k   <- w_k p_k / e^{ℓ_mix}               those asleep keep their weight
    w0_k   = ε/K + (1 - ε) c_k / Σ_j c_j       the prior that a user's row starts from
    c      = 1 + Σ over users with a scored gap of their present posterior

Symbols: K experts, p_k the cell's density by what expert k had issued, ε the floor. Over a user's gaps the
densities multiply out to L_mix = -ln Σ_k w0_k e^{-L_k} <= min_k(L_k - ln w0_k), with the w0 of the user's
first set. c is one step of expectation-maximisation for the shares of users that each expert fits
best, taken user by user as their gaps come. An expert is asleep where it has issued nothing (NaN): its
regret counts over the gaps at which it was awake.
Source: Bayes mixture for log-loss: Vovk (1990), Aggregating strategies, COLT; sleeping experts: Freund,
Schapire, Singer and Warmuth (1997), STOC.
"""

import math

import numpy as np
from numba import njit

from streamrec.arrays import Bytes8, Floats, Ints

FLOOR = 0.05
"""Share of the prior that is spread evenly: no expert starts below FLOOR / K."""


@njit(cache=True)
def log_total(log_w: Floats, score: Floats) -> tuple[float, float]:
    """ln Σ w_k and ln Σ w_k e^{score_k} over the experts with both; NaN where there is none."""
    top_w, top = -math.inf, -math.inf
    awake = 0
    for k in range(len(log_w)):
        if not math.isnan(score[k]) and not math.isnan(log_w[k]):
            awake += 1
            top_w, top = max(top_w, log_w[k]), max(top, log_w[k] + score[k])
    if awake == 0 or top_w == -math.inf:
        return math.nan, math.nan
    total_w, total = 0.0, 0.0
    for k in range(len(log_w)):
        if not math.isnan(score[k]) and not math.isnan(log_w[k]):
            total_w += math.exp(log_w[k] - top_w)
            if top > -math.inf:
                total += math.exp(log_w[k] + score[k] - top)
    return top_w + math.log(total_w), top + (math.log(total) if top > -math.inf else 0.0)


@njit(cache=True)
def mixed(log_w: Floats, score: Floats) -> float:
    """ln of the weighted mean of e^{score_k}."""
    whole, total = log_total(log_w, score)
    return total - whole


@njit(cache=True)
def _mean(log_w: Floats, value: Floats) -> float:
    """Weighted mean of plain values over the experts that have one."""
    whole, _ = log_total(log_w, value * 0.0)
    mean = 0.0
    for k in range(len(log_w)):
        if not math.isnan(value[k]) and not math.isnan(log_w[k]):
            mean += math.exp(log_w[k] - whole) * value[k]
    return mean if not math.isnan(whole) else math.nan


@njit(cache=True)
def _learn(log_w: Floats, score: Floats, log_mix: float, fresh: bool, counts: Floats) -> None:
    """Re-weight one row by the gap that was scored, and move the counts of the prior along."""
    for k in range(len(log_w)):
        before = 0.0 if fresh else math.exp(log_w[k])
        if not math.isnan(score[k]) and log_mix > -math.inf:
            log_w[k] += score[k] - log_mix
        counts[k] += math.exp(log_w[k]) - before


@njit(cache=True)
def walk(
    row: Ints, place: Ints, scores: Floats, log_w: Floats, begun: Bytes8, counts: Floats, floor: float,
    mix: Floats, after: Floats,
) -> None:  # fmt: skip
    """Walk the sets of a cut in order.

    Parameters
    ----------
    row : (S,) row of each set
    place : (S,) which of the n scored gaps the set is, or -1
    scores : (4, n, K) cell, point, arrival and pit of every expert
    log_w : (rows, K) log-weights, changed in place; NaN in a row that has not begun
    begun : (rows,) whether the row has had a scored gap, changed in place
    counts : (K,) c, changed in place
    floor : ε
    mix : (4, n) out, the mixture's cell, point, arrival and pit
    after : (S, K) out, log-weights of the row after each set
    """
    n_experts = log_w.shape[1]
    for s in range(len(row)):
        r, i = row[s], place[s]
        if math.isnan(log_w[r, 0]):
            total = counts.sum()
            for k in range(n_experts):
                log_w[r, k] = math.log(floor / n_experts + (1.0 - floor) * counts[k] / total)
        if i >= 0:
            for kind in range(3):
                mix[kind, i] = mixed(log_w[r], scores[kind, i])
            mix[3, i] = _mean(log_w[r], scores[3, i])
            if not math.isnan(mix[0, i]):
                _learn(log_w[r], scores[0, i], mix[0, i], begun[r] == 0, counts)
                begun[r] = 1
        after[s] = log_w[r]


@njit(cache=True)
def mixed_rows(log_w: Floats, scores: Floats) -> Floats:
    """`mixed` for every row, (N,), from log_w and scores (N, K)."""
    out = np.empty(len(log_w))
    for n in range(len(log_w)):
        out[n] = mixed(log_w[n], scores[n])
    return out
