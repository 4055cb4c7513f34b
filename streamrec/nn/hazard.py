"""Which pieces of whose waiting a cut is charged for, so that every instant at risk is charged once.

The score of a window is Σ ln h(events) − Σ over users of ∫ h over the time at risk in it. A cut moves
the clock of partition p (its latest time) from T, where the last charge ended, to R. Then

    a user of the cut, interval (last, t] ended by a set at t     (max(c, T), t]       exactly
    the same user's wait opened by its last set in the cut        (c', R]              exactly
    every other open user                                         (T, R]               by a sample

with c = `since`, the partition's clock just after the set that opened the wait; in a stream whose
times never step back c is that set's own time. A set behind its partition's clock opens a wait whose
stretch (last, c] the clock has passed already: that stretch is charged when the wait ends, up to t,
because only then is it known how far this user lags. Thus the pieces of one user, in whatever cuts they
fall, never overlap, and cover every completed wait of a stream in order. What the sweep has charged past
t for a user who lags is not given back: a reward for events would teach the network to read their age.

The sample has two phases: up to 2,048 rows are drawn and sorted into users idle for less than their
issued 95 % quantile and the rest; half of M comes from each stratum, and a term weighs (users in the
stratum) / (drawn from it), where the first phase estimates the size. With at most 2,048 rows the first
phase is all of them, and the sizes are exact; with at most M open users so is the charge.

Source: notes on performance, section 0; double sampling: Neyman (1938), JASA 33, 101-116.
"""

from typing import NamedTuple

import numpy as np

from streamrec.arrays import Bools, Floats, Ints, Ints32

FIRST_PHASE = 2048


class Pieces(NamedTuple):
    """Pieces of waiting: which wait, from and to (seconds since it began), and the weight of the term."""

    wait: Ints
    a: Floats
    b: Floats
    weight: Floats

    @staticmethod
    def of(wait: Ints, a: Floats, b: Floats, weight: Floats | None = None) -> "Pieces":
        """Those pieces that have a length."""
        long = b > a
        weights = np.ones(len(wait)) if weight is None else weight
        return Pieces(wait[long], a[long], b[long], weights[long])


def join(parts: list[Pieces]) -> Pieces:
    """All pieces in one."""
    return Pieces(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Opened(NamedTuple):
    """Waits of N rows: when they began, since when the clock sweeps them, and in which partition."""

    last: Floats
    since: Floats
    partition: Ints32


def completed(wait: Ints, opened: Opened, time: Floats, charged: Floats, longest: float) -> Pieces:
    """Pieces of the waits that sets of the cut ended.

    Parameters
    ----------
    wait : (N,) the number that stands for the wait
    opened : (N,) the waits
    time : (N,) when they ended
    charged : (P,) time up to which each partition's clock was charged before the cut
    longest : seconds after which a user is no longer at risk

    Examples
    --------
    >>> opened = Opened(np.array([2.0]), np.array([2.0]), np.array([0], np.int32))
    >>> completed(np.array([0]), opened, np.array([9.0]), np.array([5.0]), np.inf).a
    array([3.])
    """
    end = np.minimum(time - opened.last, longest)
    lag = Pieces.of(wait, np.zeros(len(wait)), np.minimum(opened.since - opened.last, end))
    swept = np.maximum(opened.since, charged[opened.partition]) - opened.last
    return join([lag, Pieces.of(wait, swept, end)])


def still_open(
    wait: Ints, opened: Opened, charged: Floats, clock: Floats, longest: float, weight: Floats | None = None
) -> Pieces:
    """Pieces of waits that are open when the cut ends, at `clock` (P,) of their partition."""
    a = np.maximum(opened.since, charged[opened.partition]) - opened.last
    b = np.minimum(clock[opened.partition] - opened.last, longest)
    return Pieces.of(wait, a, b, weight)


def select(opened: Opened, index: Ints) -> Opened:
    """Those waits."""
    return Opened(opened.last[index], opened.since[index], opened.partition[index])


class Sample(NamedTuple):
    """Open rows drawn for a cut, and how many users each stands for."""

    rows: Ints
    weight: Floats


def generator(seed: int, serial: int) -> np.random.Generator:
    """The random numbers of one cut: a function of (seed, serial) and nothing else."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, serial], np.uint64)))


def candidates(n_rows: int, random: np.random.Generator) -> tuple[Ints, float]:
    """Rows of the first phase and how many rows each of them stands for."""
    if n_rows <= FIRST_PHASE:
        return random.permutation(n_rows), 1.0
    return random.integers(0, n_rows, FIRST_PHASE), n_rows / FIRST_PHASE


def stratified(rows: Ints, scale: float, fresh: Bools, most: int) -> Sample:
    """At most `most` of the rows, half of them fresh ones, weighted to stand for `scale` times all rows.

    Examples
    --------
    >>> rows = np.arange(10)
    >>> sample = stratified(rows, 1.0, rows < 8, 4)
    >>> sample.rows.tolist(), sample.weight.tolist()
    ([0, 1, 8, 9], [4.0, 4.0, 1.0, 1.0])
    """
    strata = rows[fresh], rows[~fresh]
    n_fresh = min(len(strata[0]), max(most // 2, most - len(strata[1])))
    n_rest = min(len(strata[1]), most - n_fresh)
    taken = strata[0][:n_fresh], strata[1][:n_rest]
    weights = [np.full(len(t), scale * len(s) / max(len(t), 1)) for s, t in zip(strata, taken, strict=True)]
    return Sample(np.concatenate(taken), np.concatenate(weights))


def sample_open(
    opened: Opened,
    edge: Floats,
    taken: Ints,
    clocks: tuple[Floats, Floats],
    most: int,
    random: np.random.Generator,
) -> Sample:
    """Draw open users whose waiting the clock has moved, none of them in the cut.

    Parameters
    ----------
    opened : waits by row; `last` is NaN for rows without a wait
    edge : idle time in seconds that parts the strata, by row
    taken : rows of the cut, which are charged exactly
    clocks : charged and reached time of every partition
    most : terms to draw
    random : the cut's own generator
    """
    charged, clock = clocks
    rows, scale = candidates(len(opened.last), random)
    partition = np.maximum(opened.partition[rows], 0)
    last = opened.last[rows]
    moved = clock[partition] > np.maximum(charged[partition], opened.since[rows])
    keep = moved & ~np.isnan(last) & ~np.isin(rows, taken)
    rows, last = rows[keep], last[keep]
    fresh = charged[partition[keep]] - last < edge[rows]
    return stratified(rows, scale, fresh, most)
