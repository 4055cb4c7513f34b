"""The walk of the mark mixture over the tie sets of a cut, in order.

    for every set:  1 score the user's published list
                    2 forecast the marks at arrival; rank every mark by the weights before the set
                    3 score mark by mark; Bayes and Soft-Bayes weights move after each, the experts do not
                    4 learn: bank, gate, escape mass, seen set
                    5 forecast the user's next marks; publish and freeze the list

Symbols: N mixed experts, A = N + naive rules. A dense scan over the known marks is made for the published
list and for each rank: O(K) per expert and set, exact at any K.
"""

from typing import NamedTuple

import numpy as np

from streamrec.arrays import Bools, Floats, Hashes, Ints, Ints32
from streamrec.jit import kernel
from streamrec.mixture.bayes import bayes_step, bayes_weights
from streamrec.mixture.escape import EscapeArrays, learn_escape, p_escape, placeholders
from streamrec.mixture.gate import gate_context, history_bucket, learn_gate, learn_trust, p_repeat
from streamrec.mixture.kernels_forecast import (
    Lists,
    Work,
    fill_expert,
    fill_features,
    fill_mixture,
    fill_scales,
    point_masses,
    rank_of,
    side_sums,
)
from streamrec.mixture.kernels_published import Published, copy_published, publish, score_published
from streamrec.mixture.seen import SeenArrays, close_seen, learn_seen, open_seen
from streamrec.mixture.soft_bayes import SoftArrays, learn_soft, soft_rate, soft_step, soft_weights
from streamrec.models.popularity import (
    BankArrays,
    learn_counts,
    member_p,
    refresh_members,
    refresh_mixed,
    transpose_counts,
)

NO_GAP_YET = -2


class Cut(NamedTuple):
    """What the walk needs of a `Batch`."""

    row: Ints
    time: Floats
    start: Ints
    mark: Ints32
    n_known: Ints
    length: Ints
    gap: Ints32
    repeat_before: Ints32
    repeat_after: Ints32
    hashes: Hashes


class State(NamedTuple):
    """All state of the mixture.

    Parameters
    ----------
    gate : (31, 2) counts of the repeat gate
    trust : (10, N) log-odds that an expert needs it
    log_weight : (N+1,) outer Bayes weights, the last one that of Soft-Bayes
    frozen : the published lists in the rows of the users
    """

    bank: BankArrays
    seen: SeenArrays
    gate: Floats
    trust: Floats
    escape: EscapeArrays
    soft: SoftArrays
    log_weight: Floats
    frozen: Published


class Out(NamedTuple):
    """Scores of a cut.

    Parameters
    ----------
    log_score, rank : (A+2, M) of mixture, Soft-Bayes and all experts
    issued_log_score, issued_rank, issued_known : (M,) of the frozen lists
    published : lists issued after the S sets
    """

    log_score: Floats
    rank: Floats
    issued_log_score: Floats
    issued_rank: Floats
    issued_known: Bools
    published: Published


class Bench(NamedTuple):
    """Scratch of a walk, and who is awake.

    Parameters
    ----------
    work : scratch of a forecast
    point : (largest set, A) p of the marks of a set
    slot : (K,) -1 but during `point_masses`
    outer, log_p : (N+1,) weights and scores of the outer layer
    member_p : (B,) b_j of one mark
    awake : (A,) experts that speak in this cut
    awake_outer : (N+1,) mixed experts that do, and True for Soft-Bayes
    everyone : (B,) True
    """

    work: Work
    point: Floats
    slot: Ints32
    outer: Floats
    log_p: Floats
    member_p: Floats
    awake: Bools
    awake_outer: Bools
    everyone: Bools


@kernel
def mix_weights(state: State, bench: Bench, context: int, gap: int) -> None:
    """Weights over the experts: of Soft-Bayes into `soft`, of the served mixture into `weight`."""
    weight, soft, outer = bench.work.weight, bench.work.soft, bench.outer
    n = len(weight)
    soft_weights(state.soft, context, gap, bench.awake[:n], soft)
    bayes_weights(state.log_weight, bench.awake_outer, outer)
    for k in range(n):
        weight[k] = outer[k] + outer[n] * soft[k]


@kernel
def prepare(
    state: State, bench: Bench, lists: Lists, s: int, rho: float, bucket: int, n_seen: int, n_known: int
) -> int:
    """Features, sums over both sides and gate scales of all experts; answers who is not normalised, or −1."""
    work, seen = bench.work, state.seen
    n_mixed, n_members = len(work.weight), len(state.bank.total)
    side_sums(state.bank, seen.listed, n_seen, n_known, work.side)
    fill_features(state.bank, lists, s, n_mixed - n_members - 1, work.features)
    return fill_scales(work, lists, s, n_mixed, rho, state.trust[bucket], seen.place, bench.awake)


@kernel
def rank_set(
    out: Out,
    state: State,
    bench: Bench,
    lists: Lists,
    s: int,
    lo: int,
    marks: Ints32,
    n_known: int,
    n_seen: int,
    q: float,
    n_new: float,
    rank_experts: bool,
) -> None:
    """Ranks of the marks of a set by the mixture, Soft-Bayes and, if wanted, every expert."""
    work, seen, bank = bench.work, state.seen, state.bank
    n_floored = len(work.weight) - len(bank.total) - 1
    for a in range(len(out.rank)):
        if a < 2:
            weight = work.weight if a == 0 else work.soft
            fill_mixture(work, bank, lists, s, weight, n_known, seen.listed, n_seen, seen.place)
        elif rank_experts and bench.awake[a - 2]:
            fill_expert(work, bank, lists, s, a - 2, n_floored, n_known, seen.listed, n_seen, seen.place)
        else:
            continue
        for t in range(len(marks)):
            if t > 0 and marks[t] == marks[t - 1]:
                out.rank[a, lo + t] = out.rank[a, lo + t - 1]
            else:
                out.rank[a, lo + t] = rank_of(work.y, n_known, marks[t], q, n_new)


@kernel
def score_mark(
    out: Out, state: State, bench: Bench, at: int, t: int, known_share: float, context: int, gap: int
) -> None:
    """Score one known mark by everybody, then move the weights."""
    w, awake, log_score, point, log_p = bench.work.soft, bench.awake, out.log_score, bench.point, bench.log_p
    n, soft_p = len(w), 0.0
    soft_weights(state.soft, context, gap, awake[:n], w)
    for k in range(len(awake)):
        if not awake[k]:
            continue
        p = known_share * point[t, k]
        log_score[k + 2, at] = np.log(p) if p > 0.0 else -np.inf
        if k < n:
            soft_p += w[k] * p
            log_p[k] = log_score[k + 2, at]
    log_p[n] = np.log(soft_p)
    log_score[1, at] = log_p[n]
    log_score[0, at] = bayes_step(state.log_weight, log_p, bench.awake_outer)
    learn_soft(state.soft, context, gap, point[t, :n], awake[:n])


@kernel
def score_new(out: Out, bench: Bench, at: int, q: float) -> None:
    """Score an unknown mark: the same for everybody, so that no weight moves."""
    log_q = np.log(q) if q > 0.0 else -np.inf
    log_score, awake = out.log_score, bench.awake
    for a in range(len(log_score)):
        if a < 2 or awake[a - 2]:
            log_score[a, at] = log_q


@kernel
def learn_bank_weights(state: State, bench: Bench, mark: int) -> None:
    """Move v after a known mark."""
    bank, p = state.bank, bench.member_p
    for j in range(len(p)):
        p[j] = member_p(bank, j, mark)
    soft_step(bank.weight, p, bench.everyone, soft_rate(bank.clock[1]))


@kernel
def learn_set(state: State, bench: Bench, cut: Cut, s: int, marks: Ints32, n_seen: int) -> tuple[int, int]:
    """Step 4 for one set; answers the new numbers of seen and of known marks."""
    n_known, length, row = cut.n_known[s], cut.length[s], cut.row[s]
    context, bucket = gate_context(length, cut.repeat_before[s]), history_bucket(length)
    n_after, choice = n_known, 0 < n_seen < n_known
    for mark in marks:
        learn_escape(state.escape, bucket, mark >= n_known)
        if mark < n_known:
            learn_bank_weights(state, bench, mark)
            if choice:
                was_seen = state.seen.place[mark] >= 0
                learn_gate(state.gate, context, was_seen)
                learn_trust(state.trust[bucket], bench.work.gated, 1 if was_seen else 0)
        n_after = max(n_after, mark + 1)
    state.escape.ever[0] += n_after - n_known
    for mark in marks:
        n_seen = learn_seen(state.seen, row, n_seen, mark, length, cut.hashes)
    learn_counts(state.bank, marks, cut.time[s], n_after)
    refresh_members(state.bank, n_after)
    refresh_mixed(state.bank, n_after)
    return n_seen, n_after


@kernel
def arrive(
    out: Out, state: State, bench: Bench, cut: Cut, lists: Lists, s: int, n_seen: int, rank_experts: bool
) -> int:
    """Steps 2 and 3 for one set; answers who is not normalised, or −1."""
    lo, hi, n_known, wrong = cut.start[s], cut.start[s + 1], cut.n_known[s], -1
    marks, work = cut.mark[lo:hi], bench.work
    context, gap = gate_context(cut.length[s], cut.repeat_before[s]), cut.gap[s]
    e = p_escape(state.escape, history_bucket(cut.length[s]), n_known)
    n_new = placeholders(state.escape, n_known)
    q = e / n_new if n_new > 0 else 0.0
    mix_weights(state, bench, context, gap)
    if n_known > 0:
        rho = p_repeat(state.gate, context, n_seen, n_known)
        wrong = prepare(state, bench, lists, s, rho, history_bucket(cut.length[s]), n_seen, n_known)
        n_floored = len(work.weight) - len(state.bank.total) - 1
        point_masses(
            work, state.bank, lists, s, n_floored, marks, n_known, state.seen.place, bench.slot, bench.point
        )
    rank_set(
        out,
        state,
        bench,
        lists,
        s,
        lo,
        marks,
        n_known,
        n_seen,
        q / (1.0 - e) if e < 1.0 else np.inf,
        n_new,
        rank_experts,
    )
    for t in range(hi - lo):
        if marks[t] < n_known:
            score_mark(out, state, bench, lo + t, t, 1.0 - e, context, gap)
        else:
            score_new(out, bench, lo + t, q)
    return wrong


@kernel
def issue(
    out: Out, state: State, bench: Bench, cut: Cut, lists: Lists, s: int, n_seen: int, n_known: int
) -> int:
    """Step 5 for one set; answers who is not normalised, or −1."""
    work, seen = bench.work, state.seen
    length = cut.length[s] + 1
    context = gate_context(length, cut.repeat_after[s])
    rho = p_repeat(state.gate, context, n_seen, n_known)
    wrong = prepare(state, bench, lists, s, rho, history_bucket(length), n_seen, n_known)
    mix_weights(state, bench, context, NO_GAP_YET)
    fill_mixture(work, state.bank, lists, s, work.weight, n_known, seen.listed, n_seen, seen.place)
    e, n_new = p_escape(state.escape, history_bucket(length), n_known), placeholders(state.escape, n_known)
    publish(out.published, s, work.y, n_known, e, n_new, cut.hashes)
    copy_published(out.published, s, state.frozen, cut.row[s], seen.row_touched)
    return wrong


@kernel
def walk_marks(
    out: Out, state: State, bench: Bench, cut: Cut, arrival: Lists, issued: Lists, rank_experts: bool
) -> tuple[int, int]:
    """The whole walk; answers (set, expert) where masses do not sum to one, else (−1, −1)."""
    transpose_counts(state.bank, len(cut.hashes))
    n_known = -1
    for s in range(len(cut.row)):
        if cut.n_known[s] != n_known and cut.n_known[s] > 0:  # a cut begins, or marks were interned elsewhere
            refresh_members(state.bank, cut.n_known[s])
            refresh_mixed(state.bank, cut.n_known[s])
        lo, hi, row = cut.start[s], cut.start[s + 1], cut.row[s]
        for m in range(lo, hi):
            if state.frozen.n[row] >= 0:
                out.issued_log_score[m], out.issued_rank[m] = score_published(state.frozen, row, cut.mark[m])
                out.issued_known[m] = True
        n_seen = open_seen(state.seen, row)
        wrong = arrive(out, state, bench, cut, arrival, s, n_seen, rank_experts)
        n_seen, n_known = learn_set(state, bench, cut, s, cut.mark[lo:hi], n_seen)
        late = issue(out, state, bench, cut, issued, s, n_seen, n_known)
        close_seen(state.seen, n_seen)
        if max(wrong, late) >= 0:
            return s, max(wrong, late)
    return -1, -1
