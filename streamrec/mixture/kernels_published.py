"""The published list: the 20 likeliest marks as printed, and what is left for all others.

    score of a listed mark: its p                            of any other: (p_rest + p_new) / (n_rest + n_new)
    rank  of a listed mark: 1 + #greater + #equal others/2   of any other: the mean of the ranks left

Probabilities are rounded to six significant digits, so that the record alone scores a mark as the program
does; ranks are by printed p.
Marks of equal p stand in the order of the hash of their raw bytes, which does not depend on interning.
"""

from typing import NamedTuple

import numpy as np

from streamrec.arrays import Bytes8, Floats, Hashes, Ints32
from streamrec.jit import kernel

LISTED = 20
SET_MASS = 0.9
POWERS = 10.0 ** np.arange(23)


class Published(NamedTuple):
    """Published lists of R users (or sets).

    Parameters
    ----------
    n : (R,) marks listed; -1 where there is no forecast
    mark, p : (R, 20) marks, likeliest first, and their printed probabilities; -1 and 0 beyond n
    p_new, p_rest : (R,) mass of unknown marks, and of known marks that are not listed
    n_new, n_rest : (R,) placeholders that share p_new, known marks that are not listed
    set_size, set_p : (R,) the smallest set that holds 90 %: how many known marks, and the least p among
        them; all known marks and 0 where even these hold less
    """

    n: Ints32
    mark: Ints32
    p: Floats
    p_new: Floats
    p_rest: Floats
    n_new: Floats
    n_rest: Floats
    set_size: Floats
    set_p: Floats


def new_published(n: int) -> Published:
    """n users without a forecast."""
    return Published(
        np.full(n, -1, np.int32),
        np.full((n, LISTED), -1, np.int32),
        np.zeros((n, LISTED)),
        *(np.zeros(n) for _ in range(6)),
    )


@kernel
def six_digits(p: float) -> float:
    """The double nearest to p written with six significant digits, for 1e-17 <= p <= 1.

    Examples
    --------
    >>> six_digits(0.123456789), six_digits(1 / 3e5)
    (0.123457, 3.33333e-06)
    """
    if p <= 0.0:
        return 0.0
    digits = min(22, max(0, 5 - int(np.floor(np.log10(p)))))
    scaled = np.rint(p * POWERS[digits])
    if scaled >= 1e6 and digits > 0:  # rounded up to the next power of ten
        digits -= 1
        scaled = np.rint(scaled / 10.0)
    rounded: float = scaled / POWERS[digits]
    return rounded


@kernel
def comes_before(p: float, tie: np.uint64, other_p: float, other_tie: np.uint64) -> bool:
    """Order of the list: p falls, then the hash rises."""
    return bool(p > other_p or (p == other_p and tie < other_tie))


@kernel
def top_marks(y: Floats, n_known: int, hashes: Hashes, marks: Ints32) -> int:
    """Write the likeliest marks of y into `marks`, best first; answers how many."""
    n = 0
    for i in range(n_known):
        if n == LISTED and y[i] < y[marks[n - 1]]:
            continue
        if n == LISTED and not comes_before(y[i], hashes[i], y[marks[n - 1]], hashes[marks[n - 1]]):
            continue
        at = n if n < LISTED else LISTED - 1
        while at > 0 and comes_before(y[i], hashes[i], y[marks[at - 1]], hashes[marks[at - 1]]):
            if at < LISTED:
                marks[at] = marks[at - 1]
            at -= 1
        marks[at] = i
        n = min(n + 1, LISTED)
    return n


@kernel
def sum_of(y: Floats, n: int) -> float:
    """Σ of the first n, in four fixed lanes."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4
    for i in range(0, whole, 4):
        a += y[i]
        b += y[i + 1]
        c += y[i + 2]
        d += y[i + 3]
    for i in range(whole, n):
        a += y[i]
    return (a + b) + (c + d)


@kernel
def mass_above(y: Floats, n: int, least: float) -> float:
    """Σ of the first n that are `least` or more, in four fixed lanes."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4
    for i in range(0, whole, 4):
        a += y[i] if y[i] >= least else 0.0
        b += y[i + 1] if y[i + 1] >= least else 0.0
        c += y[i + 2] if y[i + 2] >= least else 0.0
        d += y[i + 3] if y[i + 3] >= least else 0.0
    for i in range(whole, n):
        a += y[i] if y[i] >= least else 0.0
    return (a + b) + (c + d)


@kernel
def wide_set(y: Floats, n_known: int, missing: float) -> tuple[int, float]:
    """How many marks, largest first, hold `missing`, and the least of them; y has the listed ones at 0."""
    low, high = 0.0, 0.0
    for i in range(n_known):
        high = max(high, y[i])
    if high == 0.0 or mass_above(y, n_known, 0.0) < missing:
        return 0, 0.0
    low = high * 2.0**-50
    for _ in range(32):
        middle = np.sqrt(low * high)
        if mass_above(y, n_known, middle) >= missing:
            low = middle
        else:
            high = middle
    size, least = 0, 1.0
    for i in range(n_known):
        if y[i] >= low:
            size += 1
            least = min(least, y[i])
    return size, least


@kernel
def publish_set(to: Published, r: int, y: Floats, n_known: int, escape: float) -> None:
    """The smallest set that holds 90 %, behind the list that is written already; y lacks the listed marks."""
    listed, held = to.p[r], 0.0
    for i in range(to.n[r]):
        held += listed[i]
        if held >= SET_MASS:
            to.set_size[r], to.set_p[r] = i + 1, listed[i]
            return
    more, least = wide_set(y, n_known, (SET_MASS - held) / (1.0 - escape)) if escape < 1.0 else (0, 0.0)
    to.set_size[r] = to.n[r] + more if more > 0 else n_known
    to.set_p[r] = six_digits((1.0 - escape) * least)


@kernel
def publish(
    to: Published, r: int, y: Floats, n_known: int, escape: float, n_new: float, hashes: Hashes
) -> None:
    """Write the list made of y (given a known mark) and the escape mass; y is used up."""
    marks, p = to.mark[r], to.p[r]
    marks[:], p[:] = -1, 0.0
    n = top_marks(y, n_known, hashes, marks)
    to.n[r] = n
    for i in range(n):
        p[i] = six_digits((1.0 - escape) * y[marks[i]])
        y[marks[i]] = 0.0
    to.p_new[r] = six_digits(escape)
    to.p_rest[r] = six_digits((1.0 - escape) * sum_of(y, n_known))
    to.n_new[r] = n_new
    to.n_rest[r] = n_known - n
    publish_set(to, r, y, n_known, escape)


@kernel
def score_published(of: Published, r: int, mark: int) -> tuple[float, float]:
    """ln p and rank that the published list r gives to a mark."""
    marks, printed, n = of.mark[r], of.p[r], of.n[r]
    for i in range(n):
        if marks[i] == mark:
            p = printed[i]
            rank = 0.5
            for j in range(n):
                rank += 1.0 if printed[j] > p else (0.5 if printed[j] == p else 0.0)
            return np.log(p), rank
    others = of.n_rest[r] + of.n_new[r]
    p = (of.p_rest[r] + of.p_new[r]) / others if others > 0 else 0.0
    return np.log(p), n + 0.5 * (others + 1.0)


@kernel
def copy_published(of: Published, r: int, to: Published, s: int, touched: Bytes8) -> None:
    """Copy list r of one to list s of the other, and flag the row."""
    to.n[s] = of.n[r]
    for i in range(LISTED):
        to.mark[s, i], to.p[s, i] = of.mark[r, i], of.p[r, i]
    to.p_new[s], to.p_rest[s] = of.p_new[r], of.p_rest[r]
    to.n_new[s], to.n_rest[s] = of.n_new[r], of.n_rest[r]
    to.set_size[s], to.set_p[s] = of.set_size[r], of.set_p[r]
    touched[s] = 1
