"""The mass kept for marks that nobody has ever had: the same for every model.

    e_h,c = (new_h,c + a e_h) / (n_h,c + a),   e_h = (new_h + ½) / (n_h + 1),   e = Σ_h w_h e_h,c

Symbols: c bucket of the user's history length; h half-life in events of the counts (100, 1,000, never);
a = 4 pseudo-events; w Bayes weights of the half-lives. An unknown mark pays e / max(1000, marks ever seen),
known marks share 1 − e. While no mark is known, e = 1.

In a closed universe the placeholders are the marks of the universe that have not come yet; when none is
left, e = 0.

Source: the estimator of Krichevsky and Trofimov (1981), IEEE Trans. Inf. Theory 27, shrunk and discounted.
"""

from typing import NamedTuple

import numpy as np

from streamrec.arrays import Floats
from streamrec.jit import kernel
from streamrec.mixture.gate import HISTORY_BUCKETS

HALF_LIVES = (100.0, 1_000.0, np.inf)
PLACEHOLDERS = 1000.0
SHRINK = 4.0


class EscapeArrays(NamedTuple):
    """What the escape mass is made of.

    Parameters
    ----------
    counts : (3, buckets + 1, 2) new marks and all marks by half-life and bucket; last bucket = all
    log_weight : (3,) of the half-lives
    ever : (1,) distinct marks ever seen, evicted ones included
    keep : (3,) what one event leaves of older counts
    universe : (1,) marks of a closed universe, 0 for an open one
    """

    counts: Floats
    log_weight: Floats
    ever: Floats
    keep: Floats
    universe: Floats


def new_escape(n_universe: int) -> EscapeArrays:
    """Escape counts that have learned nothing; `n_universe` is 0 in an open universe."""
    n = len(HALF_LIVES)
    return EscapeArrays(
        np.zeros((n, HISTORY_BUCKETS + 1, 2)),
        np.full(n, -np.log(n)),
        np.zeros(1),
        0.5 ** (1.0 / np.array(HALF_LIVES)),
        np.array([float(n_universe)]),
    )


@kernel
def escape_of(escape: EscapeArrays, h: int, bucket: int) -> float:
    """e_h,c of one half-life."""
    count = escape.counts[h]
    everywhere = (count[-1, 0] + 0.5) / (count[-1, 1] + 1.0)
    p: float = (count[bucket, 0] + SHRINK * everywhere) / (count[bucket, 1] + SHRINK)
    return p


@kernel
def placeholders(escape: EscapeArrays, n_known: int) -> float:
    """How many marks share the escape mass."""
    if escape.universe[0] > 0:
        left: float = max(0.0, escape.universe[0] - n_known)
        return left
    n: float = max(PLACEHOLDERS, escape.ever[0])
    return n


@kernel
def p_escape(escape: EscapeArrays, bucket: int, n_known: int) -> float:
    """Probability that the next mark is an unknown one."""
    if n_known == 0:
        return 1.0
    if placeholders(escape, n_known) == 0:
        return 0.0
    p = 0.0
    for h in range(len(escape.keep)):
        p += np.exp(escape.log_weight[h]) * escape_of(escape, h, bucket)
    return min(p, 1.0)


@kernel
def learn_escape(escape: EscapeArrays, bucket: int, new: bool) -> None:
    """Re-weight the half-lives and count one mark."""
    top, counts = -np.inf, escape.counts
    for h in range(len(escape.keep)):
        e = escape_of(escape, h, bucket)
        escape.log_weight[h] += np.log(e if new else 1.0 - e)
        top = max(top, escape.log_weight[h])
    mass = 0.0
    for h in range(len(escape.keep)):
        mass += np.exp(escape.log_weight[h] - top)
    for h in range(len(escape.keep)):
        escape.log_weight[h] -= top + np.log(mass)
    for h in range(len(escape.keep)):
        for c in (bucket, HISTORY_BUCKETS):
            counts[h, c, 0] = counts[h, c, 0] * escape.keep[h] + new
            counts[h, c, 1] = counts[h, c, 1] * escape.keep[h] + 1.0
