"""Repeat last: the user does again what the user's last set held; a naive rule.

    p(i) = r / n · 1[i in the last set] + (1 - r) b(i),    r = (hits + 1/2) / (trials + 1)

Symbols: n distinct marks of the user's last set, b all-time popularity (background 0); a trial is an event of
a user who had a set before, a hit one whose mark was in it. r estimates Bernoulli's parameter as
Krichevsky, Trofimov (1981), IEEE Trans. Inf. Theory 27, 199-207, do.
"""

from collections.abc import Mapping

import numpy as np
from numba import njit

from streamrec.arrays import Array, Bytes8, Floats, Ints, Ints32
from streamrec.batch import Batch, MarkLists
from streamrec.models.base import Context, Law, Walk
from streamrec.state.columns import Column, Columns

KEPT = 16
"""Marks of a set that a row keeps: the first in the order of raw bytes; the others' share goes to b."""

HITS, TRIALS = 0, 1


class RepeatLast:
    """All marks of the user's last set at equal rank, with one repeat probability for all users.

    The row keeps the marks of the last set (at most `KEPT` of them, and their true number) in the
    arena's columns `<name>.marks` and `<name>.n`.

    Examples
    --------
    >>> rows = Columns(1, {})
    >>> rule = RepeatLast(Context("repeat_last", rows, n_backgrounds=2, seed=0))
    >>> sorted(rows), rule.repeat_probability
    (['repeat_last.marks', 'repeat_last.n'], 0.5)
    """

    gives_marks = True
    law: Law | None = None

    def __init__(self, context: Context) -> None:
        self.name = context.name
        self.arena: Columns = context.arena
        self.arena.add(f"{self.name}.marks", Column(np.int32, (KEPT,), -1))
        self.arena.add(f"{self.name}.n", Column(np.int32))
        self.n_columns = context.n_backgrounds + 1
        self.counts: Ints = np.zeros(2, np.int64)

    @property
    def repeat_probability(self) -> float:
        """r, the estimated probability that a mark is one of the last set's."""
        return float((self.counts[HITS] + 0.5) / (self.counts[TRIALS] + 1.0))

    def walk(self, batch: Batch) -> Walk:
        """Forecast, count hits and issue, set by set."""
        arrival, issued = self._lists(batch), self._lists(batch)
        marks, n = self.arena[f"{self.name}.marks"], self.arena[f"{self.name}.n"]
        _walk(
            *(batch.row, batch.start, batch.mark, marks, n, self.arena.touched, self.counts),
            *(arrival.start, arrival.mark, arrival.p, arrival.background),
            *(issued.start, issued.mark, issued.p, issued.background),
        )
        return Walk(marks_arrival=_cut_to_size(arrival), marks_issued=_cut_to_size(issued))

    def learn(self, batch: Batch) -> None:
        """Nothing is left to learn: hits are counted while walking."""

    def remap_marks(self, new_id: Ints) -> None:
        """Rename the marks that rows keep; those that are gone leave their set."""
        marks, n = self.arena[f"{self.name}.marks"], self.arena[f"{self.name}.n"]
        _remap(marks, n, self.arena.touched, np.asarray(new_id, np.int64))

    def tables(self) -> Mapping[str, Columns]:
        """No tables; rows live in the arena."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """Hits and trials."""
        return {"counts": self.counts.copy()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        self.counts = np.array(arrays["counts"], np.int64)

    def _lists(self, batch: Batch) -> MarkLists:
        return MarkLists(
            start=np.zeros(batch.n_sets + 1, np.int64),
            mark=np.empty(batch.n_sets * KEPT, np.int32),
            p=np.empty(batch.n_sets * KEPT, np.float64),
            background=np.zeros((batch.n_sets, self.n_columns), np.float64),
        )


def _cut_to_size(lists: MarkLists) -> MarkLists:
    n = int(lists.start[-1])
    return MarkLists(lists.start, lists.mark[:n], lists.p[:n], lists.background)


@njit(cache=True)
def _walk(
    row: Ints,
    start: Ints,
    mark: Ints32,
    marks: Ints32,
    n: Ints32,
    touched: Bytes8,
    counts: Ints,
    arrival_start: Ints,
    arrival_mark: Ints32,
    arrival_p: Floats,
    arrival_background: Floats,
    issued_start: Ints,
    issued_mark: Ints32,
    issued_p: Floats,
    issued_background: Floats,
) -> None:
    for s in range(len(row)):
        u = row[s]
        r = (counts[HITS] + 0.5) / (counts[TRIALS] + 1.0)
        _forecast(marks[u], n[u], r, arrival_start, arrival_mark, arrival_p, arrival_background, s)
        if n[u] > 0:
            counts[TRIALS] += start[s + 1] - start[s]
            counts[HITS] += _hits(marks[u], n[u], mark[start[s] : start[s + 1]])
        n[u] = _keep(marks[u], mark[start[s] : start[s + 1]])
        touched[u] = 1
        r = (counts[HITS] + 0.5) / (counts[TRIALS] + 1.0)
        _forecast(marks[u], n[u], r, issued_start, issued_mark, issued_p, issued_background, s)


@njit(cache=True)
def _forecast(
    last: Ints32, n: int, r: float, start: Ints, mark: Ints32, p: Floats, background: Floats, f: int
) -> None:
    """Write forecast f: an equal share for each mark kept, the rest on all-time popularity."""
    kept, begin = min(n, KEPT), start[f]
    for i in range(kept):
        mark[begin + i] = last[i]
        p[begin + i] = r / n
    background[f, 0] = 1.0 - kept * (r / n) if n > 0 else 1.0
    start[f + 1] = begin + kept


@njit(cache=True)
def _hits(last: Ints32, n: int, marks: Ints32) -> int:
    """Events of a set whose marks are among those kept of the set before."""
    hits = 0
    for mark in marks:
        for i in range(min(n, KEPT)):
            hits += mark == last[i]
    return hits


@njit(cache=True)
def _keep(last: Ints32, marks: Ints32) -> int:
    """Replace the kept marks by those of a set; how many distinct ones it has (equal ones stand together)."""
    n = 0
    last[:] = -1
    for i in range(len(marks)):
        if i > 0 and marks[i] == marks[i - 1]:
            continue
        if n < KEPT:
            last[n] = marks[i]
        n += 1
    return n


@njit(cache=True)
def _remap(marks: Ints32, n: Ints32, touched: Bytes8, new_id: Ints) -> None:
    """Rename and close the gaps; a row that changes is touched."""
    for u in range(len(n)):
        kept, held = 0, min(n[u], KEPT)
        for i in range(held):
            renamed = new_id[marks[u, i]]
            if renamed >= 0:
                marks[u, kept] = renamed
                kept += 1
        if held > 0:
            marks[u, kept:] = -1
            n[u] -= held - kept
            touched[u] = 1
