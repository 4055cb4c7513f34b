"""What the waiting mixture answers for a cut, and what it hands from step to step."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamrec.arrays import Floats, Floats32, Ints
from streamrec.mixture.waiting_table import Published


@dataclass(frozen=True, slots=True)
class WaitScores:
    """Scores of the S sets of a cut by the mixture (first), the experts and the naive rules.

    NaN where the set is not timed or the expert had issued nothing.

    Parameters
    ----------
    names : E names, "mixture" and "soft_bayes" (the team) first
    log_issued : (E, S) cell score of what was issued
    log_point : (E, S) point density of what was issued, at the gap on the grid
    log_arrival : (E, S) cell score of the forecast asked for at arrival, with the same weights
    pit : (E, S) cdf of what was issued in the middle of the cell, given no event in its first δ/2
    median, mean : (E, S) s, of what was issued, given an event within the horizon
    log_density_issued : (S,) point density of the published table, by its numbers as printed
    delta : (S,) s, the clock's step that the set was scored with; 0 without a grid
    log_weights : (S, K+1) log-weights of the row after the set, the team's last; at a user's first set ln w0
    published : what was published after each set
    """

    names: tuple[str, ...]
    log_issued: Floats
    log_point: Floats
    log_arrival: Floats
    pit: Floats
    median: Floats
    mean: Floats
    log_density_issued: Floats
    delta: Floats
    log_weights: Floats
    published: Published


class Scored(NamedTuple):
    """What the n timed sets of a cut are scored with."""

    at: Ints
    params: Floats32
    middles: Floats32
    tables: Floats
    delta: Floats


class Walked(NamedTuple):
    """What walking the weights gave.

    Parameters
    ----------
    leading : (4, 2, n) scores of the mixture and of the team
    after : (S, K+1) log-weights of the row after each set
    served, team : (S, K) ln u and ln v as issued after each set
    """

    leading: Floats
    after: Floats
    served: Floats
    team: Floats


def among_sets(n_sets: int, at: Ints, values: Floats) -> Floats:
    """Values of the timed sets among all sets, NaN elsewhere; (n,) -> (S,) or (E, n) -> (E, S)."""
    out = np.full((*values.shape[:-1], n_sets), np.nan)
    out[..., at] = values
    return out
