"""One forecast: every expert as coefficients over features, gated, and dense when somebody needs it.

    p_k(i) = scale_k[side(i)] · ( Σ_f G[k, f] φ_f(i) + Σ_listed p )      side 0 unseen, 1 seen by the user

Symbols: φ_f(i) the features of a mark (counts of the B members, b_B, 1), G coefficients, E list-giving
experts, V naive rules. Experts stand in the order: B members, popularity (b_B), E experts, V naive. The
first N = B + 1 + E are gated and mixed. All probabilities here are *given that the mark is a known one*.

A list-giving expert carries a share `FLOOR` of b_B, so that no known mark has probability 0 and neither side
of the gate is empty. Naive rules stay as they are.
"""

from typing import NamedTuple

import numpy as np

from streamrec.arrays import Bools, Floats, Ints, Ints32
from streamrec.jit import kernel
from streamrec.mixture.soft_bayes import copy_row
from streamrec.models.popularity import BankArrays

FLOOR = 1e-6
TOLERANCE = 1e-9


class Lists(NamedTuple):
    """The `MarkLists` of X experts in one piece.

    Parameters
    ----------
    start : (X, S+1) marks of expert x at set s are mark[start[x, s]:start[x, s+1]]
    mark, p : (L,) all listed marks and masses
    background : (X, S, B+1)
    """

    start: Ints
    mark: Ints32
    p: Floats
    background: Floats


class Work(NamedTuple):
    """Scratch of one forecast.

    Parameters
    ----------
    features : (experts, B+2) G
    scale : (experts, 2) factor on unseen and on seen marks
    gated : (experts, 2) the same if the gate were trusted fully
    side : (2, B+2) sums of the features over unseen and over seen known marks
    weight, soft : (N,) weights of the served mixture and of Soft-Bayes, over experts
    y : (K,) a dense distribution
    coefficient : (2, B+2) coefficients of a mixture on either side
    """

    features: Floats
    scale: Floats
    gated: Floats
    side: Floats
    weight: Floats
    soft: Floats
    y: Floats
    coefficient: Floats


def new_work(n_members: int, n_mixed: int, n_all: int, n_marks: int) -> Work:
    """Scratch for `n_all` experts, `n_mixed` of them mixed, and room for `n_marks` marks."""
    f = n_members + 2
    shapes = ((n_all, f), (n_all, 2), (n_all, 2), (2, f), n_mixed, n_mixed, n_marks, (2, f))
    return Work(*(np.zeros(shape) for shape in shapes))


@kernel
def side_sums(bank: BankArrays, marks: Ints32, n_seen: int, n_known: int, side: Floats) -> None:
    """Sum every feature over the seen marks and over the other known ones."""
    x, total, mixed = bank.x, bank.total, bank.mixed
    n_members = len(total)
    side[:] = 0.0
    for s in range(n_seen):
        for j in range(n_members):
            side[1, j] += x[marks[s], j]
    for j in range(n_members):
        side[0, j] = max(0.0, total[j] - side[1, j])
    side[0, n_members + 1], side[1, n_members + 1] = n_known - n_seen, n_seen
    for u in range(2):
        for f in range(n_members + 2):
            if f != n_members:
                side[u, n_members] += mixed[f] * side[u, f]


@kernel
def fill_features(bank: BankArrays, lists: Lists, s: int, n_floored: int, features: Floats) -> None:
    """Coefficients of all experts at set s; the first `n_floored` lists carry the floor."""
    members, background = bank.members, lists.background
    n_members = len(members)
    features[n_members:] = 0.0
    for j in range(n_members):
        copy_row(members[j], features[j])
    features[n_members, n_members] = 1.0
    for x in range(len(background)):
        k, floor = n_members + 1 + x, FLOOR if x < n_floored else 0.0
        for j in range(n_members):
            mass = (1.0 - floor) * background[x, s, j]
            if mass > 0.0:
                features[k, j] += mass * members[j, j]
                if j > 0:
                    features[k, 0] += mass * members[j, 0]
                features[k, n_members + 1] += mass * members[j, n_members + 1]
        features[k, n_members] += (1.0 - floor) * background[x, s, n_members] + floor


@kernel
def list_scale(x: int, n_floored: int) -> float:
    """What the floor leaves of a list's masses."""
    return 1.0 - FLOOR if x < n_floored else 1.0


@kernel
def side_masses(work: Work, lists: Lists, s: int, k: int, n_floored: int, place: Ints) -> tuple[float, float]:
    """Z of expert k over the unseen and over the seen marks."""
    unseen, seen, features, side = 0.0, 0.0, work.features, work.side
    for f in range(features.shape[1]):
        unseen += features[k, f] * side[0, f]
        seen += features[k, f] * side[1, f]
    x = k - features.shape[1] + 1
    if x >= 0:
        mark, mass = lists.mark, lists.p
        for i in range(lists.start[x, s], lists.start[x, s + 1]):
            p = mass[i] * list_scale(x, n_floored)
            if place[mark[i]] >= 0:
                seen += p
            else:
                unseen += p
    return unseen, seen


@kernel
def fill_scales(
    work: Work, lists: Lists, s: int, n_mixed: int, rho: float, trust: Floats, place: Ints, awake: Bools
) -> int:
    """Gate every mixed expert that `lists` covers; answers one whose masses do not sum to one, or −1."""
    wrong, scale, gated, ahead = -1, work.scale, work.gated, work.features.shape[1] - 1
    n_floored = n_mixed - ahead
    for k in range(ahead + lists.start.shape[0]):
        unseen, seen = side_masses(work, lists, s, k, n_floored, place)
        if awake[k] and abs(unseen + seen - 1.0) > TOLERANCE:
            wrong = k
        if k >= n_mixed:
            scale[k, 0], scale[k, 1] = 1.0, 1.0
        else:
            gated[k, 0] = (1.0 - rho) / unseen if rho < 1.0 else rho / seen
            gated[k, 1] = rho / seen if rho > 0.0 else (1.0 - rho) / unseen
            v = 1.0 / (1.0 + np.exp(-trust[k]))
            for u in range(2):
                scale[k, u] = v * gated[k, u] + (1.0 - v)
    return wrong


@kernel
def background_mass(bank: BankArrays, g: Floats, mark: int) -> float:
    """Coefficients g times the features of one known mark."""
    x, n_members = bank.x, len(bank.total)
    p: float = g[n_members + 1] + g[n_members] * bank.pop[mark]
    for j in range(n_members):
        p += g[j] * x[mark, j]
    return p


@kernel
def experts_background(bank: BankArrays, features: Floats, mark: int, out: Floats) -> None:
    """What every expert gives a mark through its backgrounds."""
    x, pop, n_members = bank.x, bank.pop[mark], len(bank.total)
    for k in range(len(out)):
        p = features[k, n_members + 1] + features[k, n_members] * pop
        for j in range(n_members):
            p += features[k, j] * x[mark, j]
        out[k] = p


@kernel
def add_listed(lists: Lists, s: int, n_floored: int, first: int, slot: Ints32, out: Floats) -> None:
    """Add listed masses to the marks that have a slot; list x goes to column first + x."""
    start, mark, p = lists.start, lists.mark, lists.p
    for x in range(len(start)):
        for i in range(start[x, s], start[x, s + 1]):
            t = slot[mark[i]]
            if t >= 0:
                out[t, first + x] += p[i] * list_scale(x, n_floored)


@kernel
def point_masses(
    work: Work,
    bank: BankArrays,
    lists: Lists,
    s: int,
    n_floored: int,
    marks: Ints32,
    n_known: int,
    place: Ints,
    slot: Ints32,
    out: Floats,
) -> None:
    """p_k of every known mark of a set, out (marks, experts); rows of unknown marks are left alone."""
    features, scale = work.features, work.scale
    for t in range(len(marks)):
        mark = marks[t]
        if mark < n_known and slot[mark] < 0:
            slot[mark] = t
            experts_background(bank, features, mark, out[t])
    add_listed(lists, s, n_floored, len(bank.total) + 1, slot, out)
    for t in range(len(marks)):
        mark = marks[t]
        if mark < n_known and slot[mark] == t:
            side = 1 if place[mark] >= 0 else 0
            for k in range(len(scale)):
                out[t, k] *= scale[k, side]
        elif mark < n_known:  # once more in this set
            copy_row(out[slot[mark]], out[t])
    for mark in marks:
        slot[mark] = -1


@kernel
def fill_background(y: Floats, bank: BankArrays, g: Floats, n_known: int) -> None:
    """y[i] = coefficients g times the features of every known mark."""
    xt, pop, n_members = bank.xt, bank.pop, len(bank.total)
    for i in range(n_known):
        y[i] = g[n_members + 1] + g[n_members] * pop[i]
    for j in range(n_members):
        if g[j] != 0.0:
            for i in range(n_known):
                y[i] += g[j] * xt[j, i]


@kernel
def add_list(work: Work, lists: Lists, s: int, x: int, k: int, weight: float, place: Ints) -> None:
    """Add what expert k lists, gated and weighted, to y."""
    y, marks, p = work.y, lists.mark, lists.p
    low, high = weight * work.scale[k, 0], weight * work.scale[k, 1]
    for i in range(lists.start[x, s], lists.start[x, s + 1]):
        mark = marks[i]
        y[mark] += (high if place[mark] >= 0 else low) * p[i]


@kernel
def fill_expert(
    work: Work,
    bank: BankArrays,
    lists: Lists,
    s: int,
    k: int,
    n_floored: int,
    n_known: int,
    seen: Ints32,
    n_seen: int,
    place: Ints,
) -> None:
    """y = the distribution of expert k over the known marks."""
    y, g, features, low, high = work.y, work.coefficient[0], work.features, work.scale[k, 0], work.scale[k, 1]
    for f in range(len(g)):
        g[f] = low * features[k, f]
    fill_background(y, bank, g, n_known)
    for i in range(n_seen):  # the quotient is 1 for a naive rule, so that its ties stay ties
        y[seen[i]] *= high / low
    x = k - len(bank.total) - 1
    if x >= 0:
        add_list(work, lists, s, x, k, list_scale(x, n_floored), place)


@kernel
def fill_mixture(
    work: Work,
    bank: BankArrays,
    lists: Lists,
    s: int,
    weight: Floats,
    n_known: int,
    seen: Ints32,
    n_seen: int,
    place: Ints,
) -> None:
    """y = Σ_k weight_k p_k over the known marks, in one pass over the features."""
    y, g, features, scale, n_members = work.y, work.coefficient, work.features, work.scale, len(bank.total)
    g[:] = 0.0
    for k in range(len(weight)):
        for u in range(2):
            factor = weight[k] * scale[k, u]
            for f in range(features.shape[1]):
                g[u, f] += factor * features[k, f]
    fill_background(y, bank, g[0], n_known)
    high = g[1]
    for i in range(n_seen):
        y[seen[i]] = background_mass(bank, high, seen[i])
    n_lists = len(weight) - n_members - 1
    for x in range(n_lists):
        k = n_members + 1 + x
        if weight[k] > 0.0:
            add_list(work, lists, s, x, k, weight[k] * list_scale(x, n_lists), place)


@kernel
def rank_of(y: Floats, n_known: int, mark: int, q: float, n_new: float) -> float:
    """Mean of optimistic and pessimistic rank of a mark among known marks and n_new placeholders at q."""
    known = mark < n_known
    value = y[mark] if known else q
    greater, equal = 0, 0
    for i in range(n_known):
        greater += y[i] > value
        equal += y[i] == value
    rank = greater + 0.5 * equal + (0.5 if known else 1.0)
    if not known:
        return rank + 0.5 * max(0.0, n_new - 1.0)
    if q > value:
        return rank + n_new
    return rank + (0.5 * n_new if q == value else 0.0)
