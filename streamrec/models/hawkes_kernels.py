"""The counting of `models/hawkes.py`: one pass over the sets of a cut.

See there for the formulas. Sets go by in order: forecast at arrival, share out the responsibilities, put the
set's marks into the user's ring, forecast what comes next.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from streamrec.arrays import Array, Bools, Bytes8, Floats, Ints, Ints32

N_CLASSES = 16
"""R, the rank of the branching matrix."""
N_TOP = 8
"""Marks per class that a forecast lists; the mass of the others goes to the background."""
RING = 8
"""L, how many of a user's last marks excite."""
PULL = 4.0
"""g: pseudo-kernels of the class's average branching that every mark takes."""


class Counts(NamedTuple):
    """What was counted, as the kernels take it.

    Parameters
    ----------
    credit : (K, R) responsibilities by class
    kernels, open_n, open_g, open_at : (K,) kernels closed; of those still open: how many,
        Σ e^{-d (at - t_i)}, and at (s)
    within, events : (K,) responsibilities of the classes for the mark, and its events
    touched : (K,) flags of all these
    top : (R, N_TOP) the marks of each class with the largest `within`, -1 none
    class_credit, class_within : (R,) sums over the marks
    total : (6,) base responsibilities, kernels closed, open n, g and at, events
    risk : (3,) clock (s), users at risk, user-seconds up to the clock
    """

    credit: Floats
    kernels: Floats
    open_n: Floats
    open_g: Floats
    open_at: Floats
    within: Floats
    events: Floats
    touched: Bytes8
    top: Ints32
    class_credit: Floats
    class_within: Floats
    total: Floats
    risk: Floats


class Rings(NamedTuple):
    """The users' last marks, newest at `head - 1`: (U, RING) mark, time (s), weight; (U,) head, touched."""

    mark: Ints32
    time: Floats
    weight: Floats
    head: Ints32
    touched: Bytes8


class Out(NamedTuple):
    """Forecasts under construction: lists (see `MarkLists`), their length so far, and law parameters."""

    start: Ints
    mark: Ints32
    p: Floats
    background: Floats
    params: Floats


BASE, CLOSED, OPEN_N, OPEN_G, OPEN_AT, EVENTS = range(6)
CLOCK, USERS, SECONDS = range(3)


@njit(cache=True)
def walk(
    row: Ints, time: Floats, timed: Bools, dt: Floats, start: Ints, mark: Ints32, n_known: Ints,
    decay: float, c: Counts, rings: Rings, arrival: Out, issued: Out,
) -> None:  # fmt: skip
    """Go through the sets of a cut in order, filling `arrival` and `issued`; counts and rings go on."""
    term = np.empty((RING, N_CLASSES))
    for s in range(len(row)):
        r, t, first = row[s], time[s], np.isnan(dt[s])
        _move_clock(c, t)
        if first:
            c.risk[USERS] += 1.0
            c.risk[SECONDS] += c.risk[CLOCK] - t
        base = _base_rate(c, decay)
        fade = 0.0 if first else np.exp(-decay * dt[s])
        excite = _terms(c, rings, r, t - dt[s], decay, term)
        _forecast(c, base, excite, fade, decay, arrival, s, n_known[s])
        if not first:
            for k in range(start[s], start[s + 1]):
                _credit(
                    c, rings, r, mark[k], base, term * fade, timed[s], start[s + 1] - start[s], n_known[s] + 1
                )
        for k in range(start[s], start[s + 1]):
            _push(c, rings, r, mark[k], t, 1.0 / (start[s + 1] - start[s]), decay)
        excite = _terms(c, rings, r, t, decay, term)
        _forecast(c, _base_rate(c, decay), excite, np.inf, decay, issued, s, n_known[s])


@njit(cache=True)
def _move_clock(c: Counts, time: float) -> None:
    if c.risk[USERS] == 0.0 and c.risk[SECONDS] == 0.0:
        c.risk[CLOCK] = time
    elif time > c.risk[CLOCK]:
        c.risk[SECONDS] += c.risk[USERS] * (time - c.risk[CLOCK])
        c.risk[CLOCK] = time


@njit(cache=True)
def _base_rate(c: Counts, decay: float) -> float:
    """μ in 1/s."""
    rate: float = (c.total[BASE] + 0.5) / (c.risk[SECONDS] + 1.0 / decay)
    return rate


@njit(cache=True)
def _so_far(n: float, g: float, at: float, clock: float, decay: float) -> float:
    """Σ (1 - e^{-d (clock - t_i)}) over n open kernels whose Σ e^{-d (at - t_i)} is g."""
    value: float = max(n - g * np.exp(-decay * max(clock - at, 0.0)), 0.0)
    return value


@njit(cache=True)
def _terms(c: Counts, rings: Rings, r: int, time: float, decay: float, term: Floats) -> Floats:
    """term[i, class] = w_i U[m_i, class] d e^{-d (time - t_i)}; their sums by class, (R,)."""
    clock, sums = c.risk[CLOCK], np.zeros(N_CLASSES)
    all_kernels = c.total[CLOSED] + _so_far(c.total[OPEN_N], c.total[OPEN_G], c.total[OPEN_AT], clock, decay)
    for i in range(RING):
        m = rings.mark[r, i]
        if m < 0:
            term[i] = 0.0
            continue
        kernels = c.kernels[m] + _so_far(c.open_n[m], c.open_g[m], c.open_at[m], clock, decay)
        now = rings.weight[r, i] * decay * np.exp(-decay * (time - rings.time[r, i]))
        for k in range(N_CLASSES):
            average = (c.class_credit[k] + 0.5 / N_CLASSES) / (all_kernels + 1.0)
            u = (c.credit[m, k] + PULL * average) / (kernels + PULL)
            term[i, k] = u * now
            sums[k] += u * now
    return sums


@njit(cache=True)
def _forecast(
    c: Counts, base: float, excite: Floats, fade: float, decay: float, out: Out, s: int, n_known: int
) -> None:
    """Write the law of forecast s, and its list: what is not listed is background.

    With the excitation faded to `fade` the marks stand beside the base; with `fade` infinite they
    stand alone, and `_lists` weighs them against the base over all times at which the event may come.
    """
    excess = excite.sum()
    per_class = (
        excite / (excess if np.isinf(fade) else base / max(fade, 1e-300) + excess) if excess > 0.0 else excite
    )
    out.params[s, 0], out.params[s, 1], out.params[s, 2] = base, excess, decay
    end, listed = out.start[s], 0.0
    for k in range(N_CLASSES):
        for j in range(N_TOP):
            m = c.top[k, j]
            if m < 0 or m >= n_known or per_class[k] <= 0.0:
                continue
            p = per_class[k] * (c.within[m] / c.class_within[k])
            out.mark[end], out.p[end] = m, p
            listed += p
            end += 1
    out.start[s + 1] = end
    out.background[s, -1] = max(1.0 - listed, 0.0)


@njit(cache=True)
def _credit(
    c: Counts, rings: Rings, r: int, m: int, base: float, term: Floats, timed: bool, n: int, n_known: int
) -> None:
    """Share one mark of a set among the base and the ring by responsibility."""
    k = m % N_CLASSES
    in_class = max((n_known - 1 - k) // N_CLASSES + 1, 1)
    share = (c.within[m] + 0.5) / (c.class_within[k] + 0.5 * in_class)
    excited = term[:, k].sum() * share
    of_base = base * (c.events[m] + 0.5) / (c.total[EVENTS] + 0.5 * n_known)
    whole = of_base + excited
    c.total[BASE] += timed * of_base / whole / n
    for i in range(RING):
        source = rings.mark[r, i]
        if source >= 0:
            part = term[i, k] * share / whole / n
            c.credit[source, k] += part
            c.class_credit[k] += part
            c.touched[source] = 1
    _count_within(c, m, k, excited / whole / n)


@njit(cache=True)
def _count_within(c: Counts, m: int, k: int, amount: float) -> None:
    """Count a mark within its class, and keep the class's top marks in order."""
    if amount <= 0.0:
        return
    c.within[m] += amount
    c.class_within[k] += amount
    c.touched[m] = 1
    place = N_TOP
    for j in range(N_TOP):
        if c.top[k, j] == m or c.top[k, j] < 0:
            place = j
            break
    if place == N_TOP:
        if c.within[m] <= c.within[c.top[k, N_TOP - 1]]:
            return
        place = N_TOP - 1
    c.top[k, place] = m
    while place > 0 and c.within[c.top[k, place - 1]] < c.within[m]:
        c.top[k, place], c.top[k, place - 1] = c.top[k, place - 1], m
        place -= 1


@njit(cache=True)
def _open(n: Array, g: Array, at: Array, i: int, time: float, weight: float, decay: float) -> None:
    """A kernel of `weight` opens at `time` (closes: -weight, with the time at which it had opened)."""
    if time > at[i]:
        g[i] *= np.exp(-decay * (time - at[i]))
        at[i] = time
    n[i] += weight
    g[i] += weight * np.exp(-decay * (at[i] - time))


@njit(cache=True)
def _close(c: Counts, m: int, opened: float, time: float, weight: float, decay: float) -> None:
    """The kernel of mark m that opened at `opened` stops counting at `time`."""
    value = weight * -np.expm1(-decay * max(time - opened, 0.0))
    c.open_n[m] -= weight
    c.open_g[m] = max(c.open_g[m] - weight * np.exp(-decay * (c.open_at[m] - opened)), 0.0)
    c.kernels[m] += value
    c.total[OPEN_N] -= weight
    c.total[OPEN_G] = max(c.total[OPEN_G] - weight * np.exp(-decay * (c.total[OPEN_AT] - opened)), 0.0)
    c.total[CLOSED] += value
    c.touched[m] = 1


@njit(cache=True)
def _push(c: Counts, rings: Rings, r: int, m: int, time: float, weight: float, decay: float) -> None:
    """A mark enters its user's ring; the oldest leaves it and its kernel is closed."""
    i = rings.head[r] % RING
    if rings.mark[r, i] >= 0:
        _close(c, rings.mark[r, i], rings.time[r, i], time, rings.weight[r, i], decay)
    rings.mark[r, i], rings.time[r, i], rings.weight[r, i] = m, time, weight
    rings.head[r] = (i + 1) % RING
    rings.touched[r] = 1
    _open(c.open_n, c.open_g, c.open_at, m, time, weight, decay)
    _open(c.total[OPEN_N : OPEN_N + 1], c.total[OPEN_G : OPEN_G + 1], c.total[OPEN_AT : OPEN_AT + 1],
          0, time, weight, decay)  # fmt: skip
    c.events[m] += 1.0
    c.total[EVENTS] += 1.0
    c.touched[m] = 1


@njit(cache=True)
def drop(rows: Ints32, decay: float, c: Counts, rings: Rings) -> None:
    """Users leave: their kernels close at the clock, and they are no longer at risk."""
    for r in rows:
        for i in range(RING):
            if rings.mark[r, i] >= 0:
                _close(c, rings.mark[r, i], rings.time[r, i], c.risk[CLOCK], rings.weight[r, i], decay)
                rings.mark[r, i] = -1
        c.risk[USERS] -= 1.0
