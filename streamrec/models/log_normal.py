"""Time to the next set by the last mark and the last gap: a histogram of ln s, made smooth.

    hazard of a bin   h_c[j] = (E_c[j] + κ) / (X_c[j] + κ / h_parent[j])
    contexts c        (last mark, gap bucket) -> (last mark) -> all;  all -> q / width[j], κ = 1
    mass of a bin     m[j] = S[j] (1 - e^{-h[j] width[j]}),   S[j+1] = S[j] e^{-h[j] width[j]}
    law               Σ_k w_k LogNormal(centre of bin k, σ) and the defect d = S[beyond the last bin]

Symbols: E_c[j] waits of context c that ended in bin j of elapsed time, X_c[j] person-seconds at risk
there, open waits included up to the clocks; S product-limit survival; q = 0.02 the chance that a wait
ends in a bin that nobody ever reached, so that unseen times keep mass and do not take it all.

A component that reaches into neighbouring bins would blur the histogram; so the weights are those
under which the mixture itself has about the bins' masses: they begin as m and take two steps

    w_k <- w_k Σ_j G[j, k] m_j / Σ_l G[j, l] w_l        G[j, k] mass of component k in bin j.

Contexts live in buckets of 8 slots found by a 64-bit hash of the mark's bytes and the gap bucket; when
a bucket is full its least recently used context makes room, the 7 others stay, and it is counted. Users
that wait in a context remember its slot and generation: if it went, they go on in the parents alone.

Source: product-limit: Kaplan and Meier (1958), J. Am. Stat. Assoc. 53, 457-481; shrinkage of rates to a
Gamma prior: Clayton and Kaldor (1987), Biometrics 43, 671-681; the steps: Richardson (1972), J. Opt.
Soc. Am. 62, 55-59, which are EM for the weights. Departure: one κ for all bins and levels.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit

from streamrec.arrays import Array, Bools, Bytes8, Floats, Hashes, Ints, Ints32
from streamrec.batch import Batch
from streamrec.errors import ConfigError
from streamrec.models.base import Context, Walk
from streamrec.state.columns import Column, Columns
from streamrec.waiting.dictionary import Dictionary
from streamrec.waiting.exposure import enter, exposed, leave
from streamrec.waiting.risk import EDGES, N_BINS, N_EDGES, ops_for, queue_of

WAYS = 8
"""Slots of a bucket."""
SIGMA = 0.4
"""Width of the components, ln seconds: about half a bin, flat to 1 % where the masses are equal."""
UNSEEN = 0.02
"""q, see above."""
REACH = 2
"""Bins on either side that a component reaches."""
CENTRES: Floats = (np.log(EDGES) - np.log(10.0) / 6.0).astype(np.float64)
"""Logarithms of the geometric middle of bins 0 to 40; bin 0 is taken as wide as the others."""
WIDTHS: Floats = np.diff(EDGES, prepend=0.0)

Rows = tuple[Ints32, Ints32]
Contexts = tuple[Hashes, Ints, Ints32, Floats, Floats, Bytes8]
Waiting = tuple[Ints32, Floats, Bytes8]


def _blur() -> Floats:
    """G[j, k - j + REACH]: mass of component k in bin j; the last bins in reach get what is beyond."""
    sides = np.concatenate([[-np.inf], np.arange(-REACH, REACH) + 0.5, [np.inf]]) * np.log(10.0) / 3.0
    below = np.array([0.5 * math.erfc(-x / (SIGMA * math.sqrt(2.0))) for x in sides])
    return np.tile(np.diff(below)[::-1], (N_EDGES, 1))


BLUR = _blur()


@njit(cache=True)
def _mix(z: Any) -> Any:
    """SplitMix64's finaliser."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def _key(mark: Any, gap: int) -> Any:
    """Hash of a context (uint64), never 0, from the hash of the mark; gap -2 stands for any gap."""
    z = _mix(_mix(np.uint64(mark)) + np.uint64(gap + 3) * np.uint64(0x9E3779B97F4A7C15))
    return np.uint64(1) if z == np.uint64(0) else z


@njit(cache=True)
def _slot(key: Any, stamp: int, contexts: Contexts, waiting: Waiting, count: Ints) -> int:
    """Slot of a context, which becomes the one used last; its bucket's oldest makes room if it is new."""
    keys, stamps, generation, events, person_time, touched = contexts
    slots = len(keys)
    first = WAYS * int(np.int64(key % np.uint64((slots - 1) // WAYS)))
    oldest = first
    for slot in range(first, first + WAYS):
        if keys[slot] == key:
            stamps[slot], touched[slot] = stamp, 1
            return slot
        if stamps[slot] < stamps[oldest]:
            oldest = slot
    if keys[oldest] != 0:
        count[0] += 1
        for cell in range(oldest, len(waiting[0]), slots):
            waiting[0][cell], waiting[2][cell] = 0, 1
    keys[oldest], stamps[oldest], touched[oldest] = key, stamp, 1
    generation[oldest] += 1
    events[oldest], person_time[oldest] = 0.0, 0.0
    return oldest


@njit(cache=True, inline="always")
def _level(r: int, level: int, rows: Rows, generation: Ints32) -> int:
    """Slot in which a row waits at a level (0 the mark, 1 mark and gap); -1 if it is gone or was never."""
    slot = rows[0][r, level]
    return slot if slot >= 0 and generation[slot] == rows[1][r, level] else -1


@njit(cache=True)
def _move(
    r: int, p: int, a: int, b: int, time: float, rows: Rows, contexts: Contexts, waiting: Waiting
) -> None:
    """A row leaves bin a and enters bin b in its contexts; -1 stands for not at risk."""
    generation, person_time, touched = contexts[2], contexts[4], contexts[5]
    n, since, changed = waiting
    slots = len(generation)
    for level in range(-1, 2):
        slot = slots - 1 if level < 0 else _level(r, level, rows, generation)
        if slot < 0:
            continue
        cell = p * slots + slot
        if a >= 0:
            leave(n, since, person_time, cell, slot, a, time)
        if b >= 0:
            enter(n, since, person_time, cell, slot, b, time)
        touched[slot], changed[cell] = 1, 1


@njit(cache=True)
def _masses(
    r: int, prior: float, clocks: Floats, rows: Rows, contexts: Contexts, waiting: Waiting, out: Floats
) -> None:
    """Product-limit masses of the bins and the survival beyond them, into out (bins,)."""
    generation, events, person_time = contexts[2], contexts[3], contexts[4]
    n, since, slots = waiting[0], waiting[1], len(generation)
    mark, both = _level(r, 0, rows, generation), _level(r, 1, rows, generation)
    alive = 1.0
    for j in range(N_EDGES):
        x = exposed(n, since, person_time, slots, slots - 1, j, clocks)
        h = (events[slots - 1, j] + UNSEEN) / (x + WIDTHS[j])
        if mark >= 0:
            x = exposed(n, since, person_time, slots, mark, j, clocks)
            h = (events[mark, j] + prior) / (x + prior / h)
        if both >= 0:
            x = exposed(n, since, person_time, slots, both, j, clocks)
            h = (events[both, j] + prior) / (x + prior / h)
        ends = -math.expm1(-h * WIDTHS[j])
        out[j] = alive * ends
        alive *= 1.0 - ends
    out[N_EDGES] = min(max(alive, 1e-12), 1.0 - 1e-9)


@njit(cache=True)
def _sharpen(out: Floats, kept: Floats) -> None:
    """Two steps from the bins' masses (K,) towards weights whose mixture has these masses."""
    kept[:] = out[:N_EDGES]
    factor = np.empty(N_EDGES)
    for _ in range(2):
        for j in range(N_EDGES):
            blurred = 0.0
            for k in range(max(j - REACH, 0), min(j + REACH + 1, N_EDGES)):
                blurred += BLUR[j, k - j + REACH] * out[k]
            factor[j] = kept[j] / blurred if blurred > 0.0 else 0.0
        for k in range(N_EDGES):
            gain = 0.0
            for j in range(max(k - REACH, 0), min(k + REACH + 1, N_EDGES)):
                gain += BLUR[j, k - j + REACH] * factor[j]
            out[k] *= gain


@njit(cache=True)
def _settle(
    s: int, r: int, stamp: int, mark: int, gap: int, rows: Rows, row_touched: Bytes8, contexts: Contexts,
    waiting: Waiting, count: Ints,
) -> None:  # fmt: skip
    """Put a row into the contexts of its set."""
    for level in range(2):
        slot = _slot(_key(mark, -2 if level == 0 else gap), stamp, contexts, waiting, count)
        rows[0][r, level], rows[1][r, level] = slot, contexts[2][slot]
    row_touched[r] = 1


@njit(cache=True)
def _walk(
    timed: Bools, marks: Ints32, hashes: Hashes, gaps: Ints32, serial: int, sets: Ints32, op_rows: Ints32,
    part: Ints32, source: Array, target: Array, time: Floats, clocks: Floats, prior: float, rows: Rows,
    row_touched: Bytes8, contexts: Contexts, waiting: Waiting, count: Ints, arrival: Floats, issued: Floats,
) -> None:  # fmt: skip
    kept = np.empty(N_EDGES)
    for i in range(len(sets)):
        s, r, p, a, b = sets[i], op_rows[i], part[i], source[i], target[i]
        if s < 0:
            _move(r, p, a, b, time[i], rows, contexts, waiting)
            continue
        clocks[p] = max(clocks[p], time[i])
        _masses(r, prior, clocks, rows, contexts, waiting, arrival[s])
        _sharpen(arrival[s], kept)
        if timed[s] and a >= 0:
            contexts[3][-1, a] += 1.0
            for level in range(2):
                slot = _level(r, level, rows, contexts[2])
                if slot >= 0:
                    contexts[3][slot, a] += 1.0
        _move(r, p, a, -1, time[i], rows, contexts, waiting)
        _settle(s, r, serial + s, hashes[marks[s]], gaps[s], rows, row_touched, contexts, waiting, count)
        _move(r, p, -1, b, time[i], rows, contexts, waiting)
        _masses(r, prior, clocks, rows, contexts, waiting, issued[s])
        _sharpen(issued[s], kept)


@njit(cache=True)
def _withdraw(
    op_rows: Ints32,
    part: Ints32,
    source: Array,
    time: Floats,
    rows: Rows,
    contexts: Contexts,
    waiting: Waiting,
) -> None:
    """Dropped rows leave their contexts and forget them."""
    for i in range(len(op_rows)):
        _move(op_rows[i], part[i], source[i], -1, time[i], rows, contexts, waiting)
        rows[0][op_rows[i]] = -1


class LogNormal:
    """Mixture of log-normals per (last mark, gap bucket), shrunk to (last mark) and to all.

    Costs O(bins) per set and O(1) per crossing, whatever the number of users and marks.

    Parameters
    ----------
    context : name, arena (columns `<name>.*`), risk queue
    slots : contexts kept; a multiple of 8
    prior : κ, events that a parent's hazard is worth in every bin; positive

    Raises
    ------
    ConfigError
        If `slots` or `prior` is out of range, or the context has no risk queue.

    Examples
    --------
    >>> from streamrec.waiting.risk import RiskQueue
    >>> arena = Columns(2, {})
    >>> model = LogNormal(Context("log_normal", arena, 0, 0, RiskQueue(arena)), slots=64)
    >>> model.law.width
    42
    """

    gives_marks = False

    def __init__(self, context: Context, slots: int = 16384, prior: float = 1.0) -> None:
        if slots < WAYS or slots % WAYS or not prior > 0:
            raise ConfigError(
                f"model {context.name}: slots, prior: expected a multiple of {WAYS} and a number > 0, "
                f"got {slots} and {prior}"
            )
        self.name, self.slots, self.prior = context.name, slots, float(prior)
        self.law = Dictionary(CENTRES, SIGMA)
        self.arena = context.arena
        self.risk = queue_of(context, context.name)
        self.count: Ints = np.zeros(1, np.int64)
        bins = (N_BINS,)
        self.contexts = Columns(
            slots + 1,
            {
                "key": Column(np.uint64),
                "stamp": Column(np.int64, (), -1),
                "generation": Column(np.int32),
                "events": Column(np.float64, bins),
                "person_time": Column(np.float64, bins),
            },
        )
        self.waiting = Columns(slots + 1, {"n": Column(np.int32, bins), "since": Column(np.float64, bins)})
        self.arena.add(f"{self.name}.slot", Column(np.int32, (2,), -1))
        self.arena.add(f"{self.name}.generation", Column(np.int32, (2,), -1))
        self.risk.watch(lambda o: _withdraw(o.row, o.partition, o.source, o.time, *self._state()))

    @property
    def n_evicted(self) -> int:
        """Contexts that made room for others."""
        return int(self.count[0])

    def walk(self, batch: Batch) -> Walk:
        """The waiting user's law in its old context before every set, and in its new one after it."""
        ops = ops_for(self.risk, batch, self.name)
        self.waiting.grow(len(ops.clocks) * (self.slots + 1))
        shape = (batch.n_sets, N_BINS)
        arrival, issued = np.zeros(shape), np.zeros(shape)
        rows, contexts, waiting = self._state()
        _walk(
            batch.timed, np.ascontiguousarray(batch.after[:, 0]), batch.hashes, batch.gap, batch.serial,
            ops.set, ops.row, ops.partition, ops.source, ops.target, ops.time, ops.clocks.copy(), self.prior,
            rows, self.arena.touched, contexts, waiting, self.count, arrival, issued,
        )  # fmt: skip
        return Walk(wait_issued=issued, wait_arrival=arrival)

    def learn(self, batch: Batch) -> None:
        """Nothing is left to learn."""

    def remap_marks(self, new_id: Ints) -> None:
        """Contexts go by the marks' bytes; ids play no part."""

    def tables(self) -> Mapping[str, Columns]:
        """Contexts (the last slot stands for all), and who waits in them per partition."""
        return {"contexts": self.contexts, "waiting": self.waiting}

    def scalars(self) -> Mapping[str, Array]:
        """The counter of evictions."""
        return {"count": self.count.copy()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take it back."""
        self.count = np.array(arrays["count"], np.int64)

    def _state(self) -> tuple[Rows, Contexts, Waiting]:
        arena, table, waiting = self.arena, self.contexts, self.waiting
        rows = arena[f"{self.name}.slot"], arena[f"{self.name}.generation"]
        names = ("key", "stamp", "generation", "events", "person_time")
        key, stamp, generation, events, person_time = (table[name] for name in names)
        return (
            rows,
            (key, stamp, generation, events, person_time, table.touched),
            (waiting["n"], waiting["since"], waiting.touched),
        )
