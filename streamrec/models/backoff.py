"""Kernels of the context models: keys of contexts, and the walk over a cut that forecasts and counts.

    key(level) = mix(key(level - 1), hash of the next older mark)

Keys are hashes of raw marks and of the place of the mark in the context, never of interned ids, so that an
evicted mark that comes back finds its contexts. Two contexts share a key with probability 2^-64.

Source: the mixer is the finaliser of splitmix64, Steele, Lea, Flood (2014), OOPSLA, 453-472. The
formula of the forecast stands in `streamrec.models.contexts`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from streamrec.arrays import Floats, Hashes, Ints, Ints32
from streamrec.state.table import BLOCK, Slots, count_mark, find, has_room, open_context

DENSE_MARKS = 2000
"""Up to so many known marks a forecast lists every mark it has counted."""

LISTED = 64
"""Most marks listed when more are known; the mass of the others goes to the background."""


class Lists(NamedTuple):
    """Mark lists under construction, as kernels take them; see `MarkLists`."""

    start: Ints
    mark: Ints32
    p: Floats
    background: Floats


class Sets(NamedTuple):
    """What the kernel reads of a batch, and the keys of its contexts."""

    start: Ints
    mark: Ints32
    n_known: Ints
    keys: Hashes
    apart: Hashes
    next_keys: Hashes


@njit(cache=True)
def walk_sets(
    first: int,
    sets: Sets,
    serial: int,
    t: Slots,
    alpha: float,
    most: int,
    column: int,
    place: Ints32,
    arrival: Lists,
    issued: Lists,
) -> int:
    """Walk the sets from `first` on; the set for which the table has no room, or their number."""
    n_sets, n_levels = sets.keys.shape
    n_contexts = n_levels + sets.apart.shape[1]
    slots = np.empty(n_levels, np.int64)
    for s in range(first, n_sets):
        marks = sets.mark[sets.start[s] : sets.start[s + 1]]
        if not has_room(t, n_contexts, n_contexts * len(marks)):
            return int(s)
        dense = sets.n_known[s] <= DENSE_MARKS
        _forecast(t, sets.keys[s], alpha, dense, column, place, arrival, s)
        _count_levels(t, sets.keys[s], marks, serial + s, most, slots)
        _count_apart(t, sets.apart[s], marks, serial + s, most)
        _forecast(t, sets.next_keys[s], alpha, dense, column, place, issued, s)
    return int(n_sets)


@njit(cache=True)
def _count_levels(t: Slots, keys: Hashes, marks: Ints32, stamp: int, most: int, slots: Ints) -> None:
    """Count each mark from the most specific level down to the first that knew it."""
    for level in range(len(keys)):
        slots[level] = open_context(t, keys[level], stamp) if keys[level] != np.uint64(0) else -1
    for mark in marks:
        for level in range(len(keys) - 1, -1, -1):
            if slots[level] >= 0 and count_mark(t, slots[level], mark, most):
                break


@njit(cache=True)
def _count_apart(t: Slots, keys: Hashes, marks: Ints32, stamp: int, most: int) -> None:
    """Count every mark in every context."""
    for key in keys:
        slot = open_context(t, key, stamp)
        for mark in marks:
            count_mark(t, slot, mark, most)


@njit(cache=True)
def _forecast(
    t: Slots, keys: Hashes, alpha: float, dense: bool, column: int, place: Ints32, out: Lists, f: int
) -> None:
    """Write forecast f: the most specific level first, each with the mass that is let through to it."""
    begin = end = out.start[f]
    through = 1.0
    for level in range(len(keys) - 1, -1, -1):
        if keys[level] == np.uint64(0):
            continue
        slot = find(t.key, keys[level])
        if t.distinct[slot] == 0:  # never seen, or what it would have learned was known above
            continue
        escape = alpha * t.distinct[slot]
        mass = through / (t.total[slot] + escape)
        end = _add_chain(t, slot, mass, place, out, begin, end)
        through = mass * escape
    for i in range(begin, end):
        place[out.mark[i]] = -1
    if not dense and end - begin > LISTED:
        end, rest = _shorten(out, begin, end)
        through += rest
    out.background[f, column] = through
    out.start[f + 1] = end


@njit(cache=True)
def _add_chain(t: Slots, slot: int, mass: float, place: Ints32, out: Lists, begin: int, end: int) -> int:
    """Add mass x count of every successor to the list; `place` finds those that are listed already."""
    block, filled = t.head[slot], ((t.distinct[slot] - 1) & (BLOCK - 1)) + 1
    while block >= 0:
        for j in range(filled):
            mark = t.mark[block, j]
            if place[mark] < 0:
                place[mark] = end - begin
                out.mark[end] = mark
                out.p[end] = mass * t.counts[block, j]
                end += 1
            else:
                out.p[begin + place[mark]] += mass * t.counts[block, j]
        block, filled = t.next[block], BLOCK
    return end


@njit(cache=True)
def _shorten(out: Lists, begin: int, end: int) -> tuple[int, float]:
    """Keep the LISTED largest masses, the earlier of equal ones; the new end and the mass of the others."""
    n = end - begin
    least = np.partition(out.p[begin:end], n - LISTED)[n - LISTED]
    above = 0
    for i in range(begin, end):
        above += out.p[i] > least
    equal, kept, rest = LISTED - above, begin, 0.0
    for i in range(begin, end):
        p = out.p[i]
        if p > least or (p == least and equal > 0):
            equal -= p == least
            out.mark[kept], out.p[kept] = out.mark[i], p
            kept += 1
        else:
            rest += p
    return kept, rest


@njit(cache=True)
def _mixed(h: np.uint64) -> np.uint64:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014); never 0."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h = h ^ (h >> np.uint64(31))
    return h if h != np.uint64(0) else np.uint64(1)


@njit(cache=True)
def suffix_keys(last: Ints32, hashes: Hashes, seed: np.uint64, order: int) -> Hashes:
    """(S, order) keys of the last 1..order marks; 0 where the history is shorter than that less one."""
    keys = np.zeros((len(last), order), np.uint64)
    for s in range(len(last)):
        h = _mixed(seed + np.uint64(0x9E3779B97F4A7C15))
        for level in range(order):
            mark = last[s, level]
            h = _mixed(h ^ (hashes[mark] if mark >= 0 else np.uint64(1)))
            h = _mixed(h + np.uint64(level))
            keys[s, level] = h
            if mark < 0:
                break
    return keys


@njit(cache=True)
def tagged_keys(last: Ints32, tag: Ints32, hashes: Hashes, seed: np.uint64) -> Hashes:
    """(S, 2) keys of the last mark, and of it with a tag; 0 where the tag is -1."""
    keys = np.zeros((len(last), 2), np.uint64)
    for s in range(len(last)):
        h = _mixed(seed + np.uint64(0x9E3779B97F4A7C15))
        mark = last[s, 0]
        h = _mixed(h ^ (hashes[mark] if mark >= 0 else np.uint64(1)))
        keys[s, 0] = h
        if tag[s] >= 0:
            keys[s, 1] = _mixed(h + np.uint64(tag[s]) + np.uint64(1))
    return keys
