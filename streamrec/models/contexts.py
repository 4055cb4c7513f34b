"""Context n-grams: what followed the same context before, backing off to shorter contexts.

    p_k(i | c) = (n(c, i) + α D_c p_{k-1}(i)) / (n(c) + α D_c),    p_0 = a background

Symbols: c the context of level k (level n is the most specific), n(c, i) how often mark i followed it,
n(c) = Σ_i n(c, i), D_c distinct successors of c. A level whose context was never seen is passed over.
Inside a tie set all marks are forecast from the counts before the set and are then counted on all levels.

Source: Witten, Bell (1991), IEEE Trans. Inf. Theory 37, 1085-1094 (method C of Moffat 1990: α = 1).
Departures: contexts other than suffixes; at most 200 successors per context.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numba import njit

from streamrec.arrays import Array, Floats, Hashes, Ints, Ints32
from streamrec.batch import N_LAST, Batch, MarkLists
from streamrec.errors import ConfigError
from streamrec.models.base import Context, Law, Walk
from streamrec.state.columns import Columns
from streamrec.state.successors import SuccessorTable
from streamrec.state.table import BLOCK, Slots, count_mark, find, has_room, open_context

DENSE_MARKS = 2000
"""Up to so many known marks a forecast lists every mark it has counted."""

LISTED = 64
"""Most marks listed when more are known; the mass of the others goes to the background."""

ALPHA = 1.0
"""Weight of the escape; one value for all streams (first halves: 1 beats 1/4, 1/2 and 3/4 in 30 of 35 cases)."""


class Levels(Protocol):
    """Turns a batch into context keys; level 1 first, the most specific last, 0 where there is none."""

    n: int

    def arrival(self, batch: Batch, seed: int) -> Hashes:
        """(S, n) keys of the contexts in which each set arrives; these are learned."""
        ...

    def issue(self, batch: Batch, seed: int) -> Hashes:
        """(S, n) keys of the contexts as they are known just after each set."""
        ...


class Suffix:
    """The user's last 1, 2, ..., `order` marks; the start of a history counts as one mark.

    Examples
    --------
    >>> Suffix(3).n
    3
    """

    def __init__(self, order: int) -> None:
        if not 1 <= order <= N_LAST:
            raise ConfigError(f"order: expected 1 to {N_LAST}, got {order}")
        self.n = order

    def arrival(self, batch: Batch, seed: int) -> Hashes:
        """Keys of the marks before each set."""
        return _suffix_keys(batch.before, batch.hashes, np.uint64(seed), self.n)

    def issue(self, batch: Batch, seed: int) -> Hashes:
        """Keys of the marks after each set."""
        return _suffix_keys(batch.after, batch.hashes, np.uint64(seed), self.n)


class GapAndLast:
    """The last mark; then it together with the half decade of the gap, which is known at arrival only."""

    n = 2

    def arrival(self, batch: Batch, seed: int) -> Hashes:
        """Keys of the last mark before each set, and of it with the gap just ended."""
        return _tagged_keys(batch.before, batch.gap, batch.hashes, np.uint64(seed))

    def issue(self, batch: Batch, seed: int) -> Hashes:
        """Keys of the last mark alone; the gap is still open."""
        open_gap = np.full(batch.n_sets, -1, np.int32)
        return _tagged_keys(batch.after, open_gap, batch.hashes, np.uint64(seed))


class RepeatAndLast:
    """The last mark; then it together with whether the user's last set brought anything new to the user."""

    n = 2

    def arrival(self, batch: Batch, seed: int) -> Hashes:
        """Keys from the state before each set."""
        return _tagged_keys(batch.before, batch.repeat_before, batch.hashes, np.uint64(seed))

    def issue(self, batch: Batch, seed: int) -> Hashes:
        """Keys from the state after each set."""
        return _tagged_keys(batch.after, batch.repeat_after, batch.hashes, np.uint64(seed))


class ContextModel:
    """Counts per context with Witten-Bell backoff; an expert for marks.

    Every set of a cut is forecast from the counts of the sets before it and then counted, so that the
    forecasts do not depend on how the stream is cut. Whether a set has seen its context does not
    depend on interned ids: keys are hashes of raw marks.

    Parameters
    ----------
    levels : the contexts, from the least to the most specific
    alpha : weight of the escape to the shorter context; positive
    background : column of the background below level 1; the bank's own mixture by default
    contexts, blocks, successors, floor : caps, see `SuccessorTable`

    Raises
    ------
    ConfigError
        If alpha is not positive, there is no such background, or the caps do not fit together.
    """

    gives_marks = True
    law: Law | None = None

    def __init__(
        self,
        context: Context,
        levels: Levels,
        alpha: float = ALPHA,
        background: int | None = None,
        contexts: int = 1 << 18,
        blocks: int = 1 << 19,
        successors: int = 200,
        floor: int = 1024,
    ) -> None:
        most = context.n_backgrounds
        column = most if background is None else background
        if not alpha > 0:
            raise ConfigError(f"{context.name}: alpha: expected > 0, got {alpha}")
        if not 0 <= column <= context.n_backgrounds:
            raise ConfigError(
                f"{context.name}: background: expected 0 to {context.n_backgrounds}, got {column}"
            )
        self.name = context.name
        self.levels, self.alpha, self.column = levels, float(alpha), column
        self.n_columns, self.seed = context.n_backgrounds + 1, context.seed
        self.table = SuccessorTable(contexts, blocks, successors, floor)
        self._place: Ints32 = np.full(0, -1, np.int32)

    def walk(self, batch: Batch) -> Walk:
        """Forecast, count and issue, set by set."""
        keys = self.levels.arrival(batch, self.seed)
        next_keys = self.levels.issue(batch, self.seed)
        if len(self._place) < batch.n_marks:
            self._place = np.full(2 * batch.n_marks, -1, np.int32)
        arrival, issued = self._lists(batch), self._lists(batch)
        sets = Sets(batch.start, batch.mark, batch.n_known, keys, next_keys)
        rule = (self.alpha, self.table.successors, self.column)
        done = _walk(0, sets, batch.serial, self.table.slots(), *rule, self._place, arrival, issued)
        while done < batch.n_sets:
            n = int(batch.start[done + 1] - batch.start[done])
            self.table.make_room(self.levels.n, self.levels.n * n)
            done = _walk(done, sets, batch.serial, self.table.slots(), *rule, self._place, arrival, issued)
        return Walk(marks_arrival=_cut_to_size(arrival), marks_issued=_cut_to_size(issued))

    def learn(self, batch: Batch) -> None:
        """Nothing is left to learn: sets are counted while walking."""

    def remap_marks(self, new_id: Ints) -> None:
        """Rename the counted marks; those that are gone take their counts with them."""
        self.table.remap_marks(new_id)

    def tables(self) -> Mapping[str, Columns]:
        """The columns of the successor table."""
        return self.table.tables()

    def scalars(self) -> Mapping[str, Array]:
        """The counters of the successor table."""
        return self.table.scalars()

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        self.table.load_scalars(arrays)

    def _lists(self, batch: Batch) -> "Lists":
        """Lists with room for the longest forecasts that can come."""
        widest = self.levels.n * self.table.successors
        longest = np.where(batch.n_known > DENSE_MARKS, LISTED, min(batch.n_marks, widest))
        room = int(longest.sum()) + widest  # a list is as wide as that before it is shortened
        return Lists(
            start=np.zeros(batch.n_sets + 1, np.int64),
            mark=np.empty(room, np.int32),
            p=np.empty(room, np.float64),
            background=np.zeros((batch.n_sets, self.n_columns), np.float64),
        )


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
    next_keys: Hashes


def _cut_to_size(lists: Lists) -> MarkLists:
    n = int(lists.start[-1])
    return MarkLists(lists.start, lists.mark[:n], lists.p[:n], lists.background)


@njit(cache=True)
def _walk(
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
    for s in range(first, n_sets):
        begin, end = sets.start[s], sets.start[s + 1]
        if not has_room(t, n_levels, n_levels * (end - begin)):
            return int(s)
        dense = sets.n_known[s] <= DENSE_MARKS
        _forecast(t, sets.keys[s], alpha, dense, column, place, arrival, s)
        for level in range(n_levels):
            if sets.keys[s, level] != np.uint64(0):
                slot = open_context(t, sets.keys[s, level], serial + s)
                for i in range(begin, end):
                    count_mark(t, slot, sets.mark[i], most)
        _forecast(t, sets.next_keys[s], alpha, dense, column, place, issued, s)
    return int(n_sets)


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
        if t.key[slot] == np.uint64(0):
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
def _suffix_keys(last: Ints32, hashes: Hashes, seed: np.uint64, order: int) -> Hashes:
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
def _tagged_keys(last: Ints32, tag: Ints32, hashes: Hashes, seed: np.uint64) -> Hashes:
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
