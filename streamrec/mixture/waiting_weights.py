"""The posterior over waiting-time experts that every user's row keeps, set after set.

    p_team = Σ_k v_k p_k                       v as it stood when the row's forecast was issued
    ℓ_mix  = ln Σ_j w_j p_j / Σ_j w_j          j over the team and the experts awake at this set
    w_j   <- w_j p_j / e^{ℓ_mix}               those asleep keep their weight
    w0_j   = ε/(K+1) + (1 - ε) c_j / Σ c       the prior that a user's row starts from
    c      = start + Σ over users with a scored gap of their present posterior
    v_k   <- v_k (1 - η + η p_k / p_team)      one global Soft-Bayes step per scored gap, η = max(0.02, 2/√n)
    u_k    = w_k + w_team v_k                  what is served: the law is linear in the experts

Symbols: K experts, p_k the cell's density by what expert k had issued, ε the floor, v the weights of the
*team*, a convex combination that all users share. Over a user's gaps the densities multiply out to L_mix =
-ln Σ_j w0_j e^{-L_j} <= min_j(L_j - ln w0_j), with the w0 of the user's first set. c is one step of
expectation-maximisation for the shares of users that each fits best, taken user by user as their gaps
come. Users with a handful of gaps cannot tell experts apart; for them the team is there. An expert is asleep
where it has issued nothing (NaN): its regret counts over the gaps at which it was awake, and it has no
part in the team that was issued then.

Source: Bayes mixture for log-loss: Vovk (1990), Aggregating strategies, COLT; sleeping experts: Freund,
Schapire, Singer and Warmuth (1997), STOC; Soft-Bayes: Orseau, Lattimore, Legg (2017), ALT.
"""

import math

import numpy as np
from numba import njit

from streamrec.arrays import Bytes8, Floats, Ints

FLOOR = 0.02
"""Share of the prior that is spread evenly: no expert starts below FLOOR / (K + 1)."""

MIN_RATE, MAX_RATE, HASTE = 0.02, 0.5, 2.0


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
def _team_up(v: Floats, score: Floats, rate: float) -> None:
    """One Soft-Bayes step of the team after a gap; those asleep keep their share."""
    best, mass, mean = -math.inf, 0.0, 0.0
    for k in range(len(v)):
        if not math.isnan(score[k]):
            best = max(best, score[k])
    if best == -math.inf:
        return
    for k in range(len(v)):
        if not math.isnan(score[k]):
            mass += v[k]
            mean += v[k] * math.exp(score[k] - best)
    for k in range(len(v)):
        if not math.isnan(score[k]):
            v[k] *= 1.0 - rate + rate * math.exp(score[k] - best) * mass / mean


@njit(cache=True)
def _issue_team(v: Floats, awake: Bytes8, log_v: Floats) -> None:
    """Freeze the team's weights over the experts that have issued something."""
    mass = 0.0
    for k in range(len(v)):
        mass += v[k] * awake[k]
    for k in range(len(v)):
        log_v[k] = math.log(v[k] / mass) if awake[k] else -math.inf


@njit(cache=True)
def serve(log_w: Floats, log_v: Floats, out: Floats) -> None:
    """ln u of one row: log_w (K+1), log_v and out (K,)."""
    n_experts = len(log_v)
    for k in range(n_experts):
        out[k] = math.log(math.exp(log_w[k]) + math.exp(log_w[n_experts] + log_v[k]))


@njit(cache=True)
def serve_rows(log_w: Floats, log_v: Floats) -> Floats:
    """ln u of every row, (N, K)."""
    out = np.empty(log_v.shape)
    for n in range(len(out)):
        serve(log_w[n], log_v[n], out[n])
    return out


@njit(cache=True)
def walk(
    row: Ints, place: Ints, scores: Floats, awake: Bytes8, log_w: Floats, log_v: Floats, begun: Bytes8,
    counts: Floats, v: Floats, v_n: Floats, floor: float, mix: Floats, after: Floats, served: Floats,
    team: Floats,
) -> None:  # fmt: skip
    """Walk the sets of a cut in order.

    Parameters
    ----------
    row : (S,) row of each set
    place : (S,) which of the n scored gaps the set is, or -1
    scores : (4, n, K+1) cell, point, arrival and pit of every expert; the last column is filled here
    awake : (S, K) 1 where an expert issues something after the set
    log_w : (rows, K+1) log-weights, the team last, changed in place; NaN in a row that has not begun
    log_v : (rows, K) the team as it was issued, changed in place
    begun : (rows,) whether the row has had a scored gap, changed in place
    counts, v, v_n : (K+1,), (K,), (1,) c, v and gaps learned, changed in place
    floor : ε
    mix : (4, n) out, the mixture's cell, point, arrival and pit
    after : (S, K+1) out, log-weights of the row after each set
    served, team : (S, K) out, ln u and ln v as issued after each set
    """
    n_experts = len(v)
    for s in range(len(row)):
        r, i = row[s], place[s]
        if math.isnan(log_w[r, 0]):
            total = counts.sum()
            for k in range(n_experts + 1):
                log_w[r, k] = math.log(floor / (n_experts + 1) + (1.0 - floor) * counts[k] / total)
        if i >= 0:
            for kind in range(3):
                scores[kind, i, n_experts] = mixed(log_v[r], scores[kind, i, :n_experts])
                mix[kind, i] = mixed(log_w[r], scores[kind, i])
            scores[3, i, n_experts] = _mean(log_v[r], scores[3, i, :n_experts])
            mix[3, i] = _mean(log_w[r], scores[3, i])
            if not math.isnan(mix[0, i]):
                _learn(log_w[r], scores[0, i], mix[0, i], begun[r] == 0, counts)
                begun[r] = 1
                rate = max(MIN_RATE, min(MAX_RATE, HASTE / math.sqrt(v_n[0] + 1.0)))
                _team_up(v, scores[0, i, :n_experts], rate)
                v_n[0] += 1.0
        _issue_team(v, awake[s], log_v[r])
        after[s], team[s] = log_w[r], log_v[r]
        serve(log_w[r], log_v[r], served[s])


@njit(cache=True)
def mixed_rows(log_w: Floats, scores: Floats) -> Floats:
    """`mixed` for every row, (N,), from log_w and scores (N, K)."""
    out = np.empty(len(log_w))
    for n in range(len(log_w)):
        out[n] = mixed(log_w[n], scores[n])
    return out
