"""Turns the tie sets of a cut into a `Batch`, and keeps what a batch needs of every user's past.

A user's short past (time and number of sets, the last marks, the last gap) lives in the arena columns
`history.*`. Inside a set marks stand in the order of their raw bytes, so the "last" mark of a set
does not depend on the order of arrival.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba import njit

from streamrec.arrays import Array, Bools, Floats, Ints, Ints32
from streamrec.batch import N_LAST, Batch, gap_bucket
from streamrec.event import TieSet
from streamrec.state.columns import Column, Columns


class History:
    """The arena columns behind a batch.

    Parameters
    ----------
    arena : user rows; gets the columns `history.*` and keeps `last_time` up to date
    vocabulary : interns the marks of the sets

    Raises
    ------
    KeyError
        If another part has taken the column names.
    """

    def __init__(self, arena: Any, vocabulary: Any) -> None:
        self.arena = arena
        self.vocabulary = vocabulary
        self.serial = 0
        arena.add("history.length", Column(np.int64))
        arena.add("history.last", Column(np.int32, (N_LAST,), -1))
        arena.add("history.gap", Column(np.int32, (), -1))
        arena.add("history.repeat", Column(np.int32))
        arena.add("history.partition", Column(np.int32, (), -1))

    def batch(self, sets: Sequence[TieSet]) -> Batch:
        """Intern users and marks of the sets, let the users' histories go on, and lay out the arrays."""
        row = self.arena.rows_of([s.user for s in sets])
        n_before = self.vocabulary.n_marks
        mark = self.vocabulary.intern([m for s in sets for m in s.marks])
        start = np.zeros(len(sets) + 1, np.int64)
        np.cumsum([len(s.marks) for s in sets], out=start[1:])
        time = np.array([s.time for s in sets], np.float64)
        further = np.array([s.further for s in sets], np.bool_)
        partition = np.array([s.partition for s in sets], np.int32)
        walked = self._walk(row, time, partition, start, mark)
        dt, previous, length, before, after, gap, gap_before, repeat_before, repeat_after = walked
        batch = Batch(
            serial=self.serial,
            row=row,
            partition=partition,
            time=time,
            dt=dt,
            timed=~np.isnan(dt) & ~further,
            start=start,
            mark=mark,
            n_known=_known_before(start, mark, n_before),
            previous=previous,
            length=length,
            before=before,
            after=after,
            gap=gap,
            gap_before=gap_before,
            repeat_before=repeat_before,
            repeat_after=repeat_after,
            hashes=self.vocabulary.hashes,
        )
        self.serial += len(sets)
        return batch

    def _walk(
        self, row: Ints, time: Floats, partition: Ints32, start: Ints, mark: Ints32
    ) -> tuple[Array, ...]:
        arena, n = self.arena, len(row)
        previous, dt = _link(row, time, arena["last_time"])
        gap = gap_bucket(dt)
        length = np.empty(n, np.int64)
        before, after = np.empty((n, N_LAST), np.int32), np.empty((n, N_LAST), np.int32)
        gap_before, repeats = np.empty(n, np.int32), np.empty((2, n), np.int32)
        _remember(
            row, start, mark, gap, partition,
            arena["history.length"], arena["history.last"], arena["history.gap"], arena["history.repeat"],
            arena["history.partition"], arena.touched,
            length, before, after, gap_before, repeats,
        )  # fmt: skip
        arena["last_time"][row] = time
        return dt, previous, length, before, after, gap, gap_before, repeats[0], repeats[1]

    def remap_marks(self, new_id: Ints) -> None:
        """Marks were evicted: rewrite the last marks of all users; a mark that is gone becomes -1."""
        last = self.arena["history.last"]
        known = last >= 0
        renamed = np.where(known, new_id[np.where(known, last, 0)], -1).astype(np.int32)
        changed = np.flatnonzero((renamed != last).any(axis=1))
        last[changed] = renamed[changed]
        self.arena.touched[changed] = 1

    def tables(self) -> Mapping[str, Columns]:
        """Nothing of its own: the columns stand in the arena."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """The number of sets so far."""
        return {"serial": np.array(self.serial, np.int64)}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        self.serial = int(arrays["serial"])


def _known_before(start: Ints, mark: Ints32, n_before: int) -> Ints:
    """Marks known before each set; ids count up in order of appearance."""
    highest = np.maximum.accumulate(mark) if len(mark) else mark
    seen_by = np.concatenate([[n_before], np.maximum(highest + 1, n_before)])
    known: Ints = seen_by[start[:-1]].astype(np.int64)
    return known


@njit(cache=True)
def _link(row: Ints, time: Floats, last_time: Floats) -> tuple[Ints, Floats]:
    """Index of the same user's set before each one (or -1), and the gap to it in seconds (or NaN)."""
    n = len(row)
    previous = np.full(n, -1, np.int64)
    dt = np.full(n, np.nan)
    order = np.argsort(row, kind="mergesort")
    for k in range(n):
        s = order[k]
        if k > 0 and row[order[k - 1]] == row[s]:
            previous[s] = order[k - 1]
            dt[s] = time[s] - time[order[k - 1]]
        else:
            dt[s] = time[s] - last_time[row[s]]
    return previous, dt


@njit(cache=True)
def _remember(
    row: Ints, start: Ints, mark: Ints32, gap: Ints32, partition: Ints32,
    length: Ints, last: Ints32, gap_of: Ints32, repeat_of: Ints32, partition_of: Ints32, touched: Bools,
    length_before: Ints, before: Ints32, after: Ints32, gap_before: Ints32, repeats: Ints32,
) -> None:  # fmt: skip
    """Copy each user's past before and after every set, and let it go on, in event order."""
    n_last = last.shape[1]
    for s in range(len(row)):
        r = row[s]
        length_before[s] = length[r]
        gap_before[s] = gap_of[r]
        repeats[0, s] = repeat_of[r]
        before[s] = last[r]
        fresh = False
        for k in range(start[s], start[s + 1]):
            seen = False
            for j in range(n_last):
                seen = seen or before[s, j] == mark[k]
            fresh = fresh or not seen
        for k in range(start[s], start[s + 1]):
            for j in range(n_last - 1, 0, -1):
                last[r, j] = last[r, j - 1]
            last[r, 0] = mark[k]
        after[s] = last[r]
        length[r] += 1
        gap_of[r] = gap[s]
        repeat_of[r] = 1 if fresh else 2
        repeats[1, s] = repeat_of[r]
        partition_of[r] = partition[s]
        touched[r] = 1
