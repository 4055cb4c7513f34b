"""Wave-major packing: many sequences advance side by side, each in its own order.

    sets of the cut      a b a c a b          users by count   a: 0 2 4   b: 1 5   c: 3
    wave 0               a0 b1 c3
    wave 1               a2 b5                wave r holds the (r+1)-th set of every user that has one,
    wave 2               a4                   so its users are the first n_r of the list

A recurrent cell then steps wave by wave on a prefix of the users' states: no gather, and the arena is
read and written once per user of the cut.
"""

from typing import NamedTuple

import numpy as np

from streamrec.arrays import Array, Floats, Hashes, Ints, Ints32
from streamrec.batch import Batch


class Waves(NamedTuple):
    """How the S sets of a cut fall into waves of its U users.

    Parameters
    ----------
    users : (U,) rows, those with most sets first, equal counts by row
    order : (S,) indices of the sets, wave after wave
    sizes : number of sets in each wave, not rising
    slot : (S,) place of a set's user in `users`
    last : (U,) index of the user's last set in the cut
    """

    users: Ints
    order: Ints
    sizes: tuple[int, ...]
    slot: Ints
    last: Ints


def pack(row: Ints) -> Waves:
    """Sort the sets of a cut into waves.

    Examples
    --------
    >>> waves = pack(np.array([7, 8, 7, 9, 7, 8]))
    >>> waves.users.tolist(), waves.order.tolist(), waves.sizes
    ([7, 8, 9], [0, 1, 3, 2, 5, 4], (3, 2, 1))
    """
    rows, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    by_user = np.argsort(inverse, kind="stable")
    begin = np.cumsum(counts) - counts
    rank = np.empty(len(row), np.int64)
    rank[by_user] = np.arange(len(row)) - np.repeat(begin, counts)
    by_count = np.argsort(-counts, kind="stable")
    place = np.empty(len(rows), np.int64)
    place[by_count] = np.arange(len(rows))
    slot = place[inverse]
    order = np.lexsort((slot, rank))
    sizes = tuple(np.bincount(rank, minlength=0).tolist())
    return Waves(rows[by_count], order, sizes, slot, by_user[begin + counts - 1][by_count])


def set_of_mark(start: Ints) -> Ints:
    """Index of the set that each mark belongs to, (M,)."""
    return np.repeat(np.arange(len(start) - 1), np.diff(start))


def known_after(batch: Batch) -> Ints:
    """Marks known once each set has happened, (S,)."""
    if batch.n_sets == 0:
        return batch.n_known
    return np.maximum(batch.n_known, np.maximum.reduceat(batch.mark, batch.start[:-1]).astype(np.int64) + 1)


def set_inputs(start: Ints, mark: Ints32, hashes: Hashes, most: int) -> Ints32:
    """Up to `most` marks that stand for each set, (S, most), -1 where there are fewer.

    A set with more marks is represented by those of smallest hash: a sample that neither the order
    inside the set nor the order of interning touches.

    Examples
    --------
    >>> hashes = np.array([5, 1, 9], np.uint64)
    >>> set_inputs(np.array([0, 1, 4]), np.array([2, 0, 1, 2], np.int32), hashes, 2).tolist()
    [[2, -1], [1, 0]]
    """
    count = np.diff(start)
    column = np.arange(most)
    inside = column < count[:, None]
    place = np.where(inside, start[:-1, None] + column, 0)
    ids = np.where(inside, mark[place] if len(mark) else -1, -1).astype(np.int32)
    for s in np.flatnonzero(count > most):
        marks = mark[start[s] : start[s + 1]]
        ids[s] = marks[np.argsort(hashes[marks], kind="stable")[:most]]
    return ids


def running_clock(partition: Ints32, time: Floats, clock: Floats) -> Floats:
    """Latest time that a set's partition has seen, the set included, (S,); `clock` is what it was before.

    Examples
    --------
    >>> running_clock(np.array([0, 0, 1], np.int32), np.array([4.0, 3.0, 1.0]), np.array([2.0, 5.0]))
    array([4., 4., 5.])
    """
    seen = np.empty(len(time))
    for p in np.unique(partition):
        mine = partition == p
        seen[mine] = np.maximum(np.maximum.accumulate(time[mine]), clock[p])
    return seen


def grown(array: Array, n: int, fill: float) -> Array:
    """`array` with at least n entries along the first axis."""
    more = n - len(array)
    if more <= 0:
        return array
    return np.concatenate([array, np.full((more, *array.shape[1:]), fill, array.dtype)])
