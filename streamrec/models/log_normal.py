"""Time to the next set by the last mark and the last gap: a histogram of ln s, made smooth.

    tested in a bin   N_c[j] = E_c[j] + X_c[j] / width[j]
    chance of a bin   q_c[j] = (E_c[j] + κ q_parent[j]) / (N_c[j] + κ)
    contexts c        (last mark, gap bucket) -> (last mark) -> all;  all -> q = 0.02 with κ = 1
    mass of a bin     m[j] = S[j] q[j],   S[j+1] = S[j] (1 - q[j])
    law               Σ_k w_k LogNormal(centre of bin k, σ) and the defect d = S[beyond the last bin]

Symbols: E_c[j] waits of context c that ended in bin j of elapsed time; X_c[j] person-seconds at risk
there of all other waits, those open now included up to the clocks, so X / width is the number of waits
that have passed the bin and the shares of those that are in it; S product-limit survival. Unlike
E / exposure this does not assume that the hazard is constant in a bin a factor 2.15 wide. Bins that
nobody ever reached keep a chance of 0.02 each; the rest of the survival beyond them is the defect.

A component that reaches into neighbouring bins would blur the histogram; so the weights are those
under which the mixture itself has about the bins' masses: they begin as m and take three steps

    w_k <- w_k Σ_j G[j, k] m_j / Σ_l G[j, l] w_l        G[j, k] mass of component k in bin j.

Contexts live in buckets of 8 slots found by a 64-bit hash of the mark's bytes and the gap bucket; when
a bucket is full its least recently used context makes room, the 7 others stay, and it is counted. Users
that wait in a context remember its slot and generation: if it went, they go on in the parents alone.

Source: product-limit: Kaplan and Meier (1958), J. Am. Stat. Assoc. 53, 457-481; Beta priors for its
chances: Hjort (1990), Ann. Stat. 18, 1259-1294; the steps: Richardson (1972), J. Opt. Soc. Am. 62,
55-59, which are EM for the weights. Departure: one κ for all bins and levels.
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
from streamrec.waiting.exposure import enter, leave
from streamrec.waiting.risk import EDGES, N_BINS, N_EDGES, ops_for, queue_of

WAYS = 8
"""Slots of a bucket."""
SIGMA = 0.35
"""Width of the components, ln seconds: a little less than half a bin."""
UNSEEN = 0.02
"""Chance that a wait ends in a bin that nobody has reached."""
CENTRES: Floats = (np.log(EDGES) - np.log(10.0) / 6.0).astype(np.float64)
"""Logarithms of the geometric middle of bins 0 to 40; bin 0 is taken as wide as the others."""
WIDTHS: Floats = np.diff(EDGES, prepend=0.0)
STARTS: Floats = np.concatenate([[0.0], EDGES])

Rows = tuple[Ints32, Ints32]
Contexts = tuple[Hashes, Ints, Ints32, Floats, Floats, Bytes8]
Waiting = tuple[Ints32, Floats, Bytes8]


def _blur() -> tuple[float, float, float]:
    """Mass of a component in its own bin, in a neighbour, and beyond that neighbour's far edge."""
    step = math.log(10.0) / 3.0 / (SIGMA * math.sqrt(2.0))
    inner, outer = 0.5 * math.erfc(0.5 * step), 0.5 * math.erfc(1.5 * step)
    return 1.0 - 2.0 * inner, inner - outer, outer


OWN, NEXT, FAR = _blur()


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
def _level(r: int, level: int, slot_of: Ints32, born: Ints32, generation: Ints32) -> int:
    """Slot in which a row waits at a level (0 the mark, 1 mark and gap); -1 if it is gone or was never."""
    slot = slot_of[r, level]
    return slot if slot >= 0 and generation[slot] == born[r, level] else -1


@njit(cache=True)
def _move(
    r: int, p: int, a: int, b: int, time: float, slot_of: Ints32, born: Ints32, generation: Ints32,
    person_time: Floats, touched: Bytes8, n: Ints32, since: Floats, changed: Bytes8,
) -> None:  # fmt: skip
    """A row leaves bin a and enters bin b in all its contexts; -1 stands for not at risk."""
    slots = len(generation)
    for level in range(-1, 2):
        slot = slots - 1 if level < 0 else _level(r, level, slot_of, born, generation)
        if slot >= 0:
            cell = p * slots + slot
            if a >= 0:
                leave(n, since, person_time, cell, slot, a, time)
            if b >= 0:
                enter(n, since, person_time, cell, slot, b, time)
            touched[slot], changed[cell] = 1, 1


@njit(cache=True, error_model="numpy")
def _shrink(
    n: Ints32, since: Floats, person_time: Floats, events: Floats, slot: int, prior: float, clocks: Floats,
    q: Floats, x: Floats,
) -> None:  # fmt: skip
    """Chances of a context, shrunk to those of its parent in q (bins,), which they replace; x is scratch."""
    for j in range(N_EDGES):
        x[j] = person_time[slot, j]
    for p in range(len(clocks)):
        cell, clock = p * len(events) + slot, clocks[p]
        if clock > -np.inf:
            for j in range(N_EDGES):
                x[j] += n[cell, j] * (clock - since[cell, j])
    for j in range(N_EDGES):
        tested = events[slot, j] + max(x[j], 0.0) / WIDTHS[j]
        q[j] = (events[slot, j] + prior * q[j]) / (tested + prior)


@njit(cache=True)
def _masses(q: Floats, out: Floats) -> None:
    """Product-limit masses of the bins and the survival beyond them, into out (bins,)."""
    alive = 1.0
    for j in range(N_EDGES):
        out[j] = alive * q[j]
        alive *= 1.0 - q[j]
    out[N_EDGES] = min(max(alive, 1e-12), 1.0 - 1e-9)


@njit(cache=True, error_model="numpy")
def _sharpen(out: Floats, w: Floats, ratio: Floats) -> None:
    """Three steps from the bins' masses (K,) towards weights whose mixture has these masses.

    w and ratio are scratch, (K + 4,), with two zeros on either side.
    """
    w[2:-2] = out[:N_EDGES]
    for _ in range(3):
        for k in range(2, N_EDGES + 2):
            blurred = OWN * w[k] + NEXT * (w[k - 1] + w[k + 1]) + FAR * (w[k - 2] + w[k + 2])
            ratio[k] = out[k - 2] / (blurred + 1e-300)
        for k in range(2, N_EDGES + 2):
            near, far = ratio[k - 1] + ratio[k + 1], ratio[k - 2] + ratio[k + 2]
            w[k] *= OWN * ratio[k] + NEXT * near + FAR * far
    out[:N_EDGES] = w[2:-2]


@njit(cache=True, error_model="numpy")
def _answer(
    mark: int, both: int, prior: float, clocks: Floats, person_time: Floats, events: Floats, n: Ints32,
    since: Floats, scratch: Floats, out: Floats,
) -> None:  # fmt: skip
    """Parameters of the law of a wait in two contexts (-1 none) as they stand, into out (width,)."""
    q, x = scratch[0], scratch[3]
    q[:] = UNSEEN
    _shrink(n, since, person_time, events, len(events) - 1, 1.0, clocks, q, x)
    if mark >= 0:
        _shrink(n, since, person_time, events, mark, prior, clocks, q, x)
    if both >= 0:
        _shrink(n, since, person_time, events, both, prior, clocks, q, x)
    _masses(q, out)
    _sharpen(out, scratch[1], scratch[2])


@njit(cache=True)
def _walk(
    timed: Bools, marks: Ints32, hashes: Hashes, gaps: Ints32, serial: int, sets: Ints32, op_rows: Ints32,
    part: Ints32, source: Array, target: Array, time: Floats, elapsed: Floats, clocks: Floats,
    prior: float, rows: Rows, row_touched: Bytes8, contexts: Contexts, waiting: Waiting, count: Ints,
    arrival: Floats, issued: Floats,
) -> None:  # fmt: skip
    slot_of, born = rows
    _, _, generation, events, person_time, touched = contexts
    n, since, changed = waiting
    scratch = np.zeros((4, N_EDGES + 4))
    for i in range(len(sets)):
        s, r, p, a, b, t = sets[i], op_rows[i], part[i], source[i], target[i], time[i]
        if s < 0:
            _move(r, p, a, b, t, slot_of, born, generation, person_time, touched, n, since, changed)
            continue
        clocks[p] = max(clocks[p], t)
        mark = _level(r, 0, slot_of, born, generation)
        both = _level(r, 1, slot_of, born, generation)
        _answer(mark, both, prior, clocks, person_time, events, n, since, scratch, arrival[s])
        if timed[s] and a >= 0:
            for slot in (len(events) - 1, mark, both):
                if slot >= 0:
                    events[slot, a] += 1.0
                    person_time[slot, a] -= elapsed[i] - STARTS[a]
        _move(r, p, a, -1, t, slot_of, born, generation, person_time, touched, n, since, changed)
        mark = _slot(_key(hashes[marks[s]], -2), serial + s, contexts, waiting, count)
        both = _slot(_key(hashes[marks[s]], gaps[s]), serial + s, contexts, waiting, count)
        slot_of[r, 0], born[r, 0], slot_of[r, 1], born[r, 1] = mark, generation[mark], both, generation[both]
        row_touched[r] = 1
        _move(r, p, -1, b, t, slot_of, born, generation, person_time, touched, n, since, changed)
        _answer(mark, both, prior, clocks, person_time, events, n, since, scratch, issued[s])


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
    slot_of, born = rows
    for i in range(len(op_rows)):
        r = op_rows[i]
        _move(
            r, part[i], source[i], -1, time[i], slot_of, born, contexts[2], contexts[4], contexts[5],
            waiting[0], waiting[1], waiting[2],
        )  # fmt: skip
        slot_of[r] = -1


class LogNormal:
    """Mixture of log-normals per (last mark, gap bucket), shrunk to (last mark) and to all.

    Costs O(bins) per set and O(1) per crossing, whatever the number of users and marks.

    Parameters
    ----------
    context : name, arena (columns `<name>.*`), risk queue
    slots : contexts kept; a multiple of 8
    prior : κ, waits that a parent's chances are worth in every bin; positive (20 is best or within 0.002
        nats a wait of it on the first halves of five event logs, against 3, 8 and 50)

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

    def __init__(self, context: Context, slots: int = 16384, prior: float = 20.0) -> None:
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
            ops.set, ops.row, ops.partition, ops.source, ops.target, ops.time, ops.elapsed,
            ops.clocks.copy(), self.prior, rows, self.arena.touched, contexts, waiting, self.count,
            arrival, issued,
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
