"""A cut as arrays: what every model gets to see, and the lists of marks that it answers with.

Symbols: S tie sets in the cut, M marks in all of them, F forecasts, L listed marks, J backgrounds.
"""

from dataclasses import dataclass

import numpy as np

from streamrec.arrays import Bools, Floats, Hashes, Ints, Ints32

N_LAST = 4
"""How many of a user's last marks a batch carries."""

GAP_BUCKETS = 24
"""Half decades of a gap, from 1e-4 s to 1e8 s."""


def gap_bucket(dt: Floats) -> Ints32:
    """Half decade in which a gap of `dt` seconds falls: 0 below 3.2e-4 s, 23 from 3.2e7 s; -1 for NaN.

    Examples
    --------
    >>> gap_bucket(np.array([0.0, 1.0, 3600.0, np.nan])).tolist()
    [0, 8, 15, -1]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        half_decades = np.floor(2.0 * np.log10(dt)) + 8.0
    bucket = np.clip(half_decades, 0, GAP_BUCKETS - 1)
    return np.where(np.isnan(dt), -1, np.nan_to_num(bucket, nan=0.0)).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Batch:
    """The tie sets of one cut, in the order in which they are processed.

    A user may have several sets in one cut; `previous` links them. All arrays are read-only by
    convention. Mark ids are interned in order of first appearance, so `id < n_known[s]` says
    that a mark had been seen before set s.

    Parameters
    ----------
    serial : sets processed before this cut, by the lane, since its first event
    row : (S,) row of the user in the arena
    partition : (S,) partition the set came from
    time : (S,) s since the epoch
    dt : (S,) s since the user's last set; NaN for a user's first set, 0 for a further set
    timed : (S,) the waiting time of this set is scored (neither a first nor a further set)
    start : (S+1,) marks of set s are mark[start[s]:start[s+1]]
    mark : (M,) interned marks, inside a set in the order of their raw bytes
    n_known : (S,) marks known before the set
    previous : (S,) index of the same user's set before this one in the cut, or -1
    length : (S,) sets of the user before this one
    before, after : (S, N_LAST) the user's last marks before and after the set, newest first, -1 none
    gap : (S,) gap_bucket of dt
    gap_before : (S,) gap_bucket of the user's gap before this one, -1 none
    repeat_before : (S,) 0 no set before; of the last set: 1 it brought a mark that was not among the
        user's N_LAST last ones, 2 it did not
    repeat_after : (S,) the same after the set (1 or 2)
    hashes : (K,) 64-bit hash of the raw bytes of every interned mark
    """

    serial: int
    row: Ints
    partition: Ints32
    time: Floats
    dt: Floats
    timed: Bools
    start: Ints
    mark: Ints32
    n_known: Ints
    previous: Ints
    length: Ints
    before: Ints32
    after: Ints32
    gap: Ints32
    gap_before: Ints32
    repeat_before: Ints32
    repeat_after: Ints32
    hashes: Hashes

    @property
    def n_sets(self) -> int:
        """S, the number of tie sets."""
        return len(self.row)

    @property
    def n_marks(self) -> int:
        """K, the number of marks interned when the cut ends."""
        return len(self.hashes)


@dataclass(frozen=True, slots=True)
class MarkLists:
    """F sparse distributions over the known marks: listed corrections plus masses on backgrounds.

    p_f(i) = Σ_{l in f} p[l]·1[mark[l] = i] + Σ_j background[f, j]·b_j(i), and the masses of a forecast
    sum to one. The backgrounds b_j are the members of the popularity bank at that moment; the
    last column stands for the bank's own mixture of them. A mark is listed at most once, and only
    if it was known before the set.

    Parameters
    ----------
    start : (F+1,) marks of forecast f are mark[start[f]:start[f+1]]
    mark : (L,) interned marks
    p : (L,) masses, not negative
    background : (F, J+1) masses, not negative
    """

    start: Ints
    mark: Ints32
    p: Floats
    background: Floats
