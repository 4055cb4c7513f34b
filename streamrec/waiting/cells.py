"""Scores of waiting times on the grid of the recorded clock.

    cell   ln { [S(Δ - δ/2) - S(Δ + δ/2)] / S(δ/2) } - ln δ
    open   ln { S(s) / S(δ/2) },  0 for s < δ/2
    point  ln h(Δ) + ln S(Δ), which takes the place of the cell where δ = 0
    pit    1 - S(Δ) / S(δ/2): the cdf in the middle of the cell, given no event in the first δ/2

Symbols: Δ the gap as a multiple of δ, δ the clock's step in seconds, S and h survival and hazard of what
was issued. The cells of Δ = δ, 2δ, ... and the defect share all probability among them: Σ_k δ e^{cell(kδ)}
+ d / S(δ/2) = 1. A density has no such bound on a grid: a spike at Δ = 60 s would score without limit.

A cell whose Λ underflows (below e^-700, far out in a thin tail before a defect) scores ln Λ = ln h(Δ) + ln δ:
finite, and for a density that is convex there, as all tails are, not above the cell's own.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from streamrec.arrays import Floats
from streamrec.models.base import Law

TINY = 1e-304
"""Λ of a cell below which its digits are lost."""


class AtGap(NamedTuple):
    """What a law says around N gaps, each (N,): ln S at δ/2, Δ - δ/2 and Δ, Λ of the cell, ln h at Δ."""

    log_half: Floats
    log_a: Floats
    log_mid: Floats
    inside: Floats
    log_hazard: Floats


@runtime_checkable
class Cellular(Protocol):
    """A law that gives all of it at less than the price of the parts."""

    def at_gap(self, params: Floats, dt: Floats, half: Floats) -> tuple[Floats, ...]:
        """The columns of `AtGap`, with the bits of the law's other methods."""
        ...


class Scores(NamedTuple):
    """Scores of N gaps by one law, each (N,): natural logs; `pit` a probability."""

    cell: Floats
    point: Floats
    pit: Floats


def log_cell(law: Law, params: Floats, dt: Floats, delta: Floats) -> Floats:
    """Log-probability of the cell around `dt` per second of its width; the point density where δ = 0.

    Parameters
    ----------
    law : family that was issued
    params : (N, law.width)
    dt : (N,) s, gaps on the grid (see `resolution.to_grid`)
    delta : (N,) s, the clock's step for each gap, 0 for no grid

    Examples
    --------
    >>> from streamrec.waiting.exponential import Exponential
    >>> log_cell(Exponential(), np.array([[0.1, 0.0]]), np.array([5.0]), np.array([1.0])).round(4).tolist()
    [-2.7522]
    """
    return score(law, params, dt, delta).cell


def score(law: Law, params: Floats, dt: Floats, delta: Floats) -> Scores:
    """Cell, point density and pit of each gap (arguments as for `log_cell`)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_half, log_a, log_mid, inside, log_hazard = _at_gap(law, params, dt, 0.5 * delta)
        point = log_hazard + log_mid
        log_inside = np.where(inside < TINY, log_hazard + np.log(delta), np.log(-np.expm1(-inside)))
        cell = log_a + log_inside - log_half - np.log(delta)
        # where S has vanished the cell has too; inf - inf is no answer
        cell = np.where(log_a == -np.inf, -np.inf, cell)
        point = np.where(log_mid == -np.inf, -np.inf, point)
        pit = -np.expm1(log_mid - log_half)
    return Scores(np.where(delta > 0, cell, point), point, pit)


def _at_gap(law: Law, params: Floats, dt: Floats, half: Floats) -> AtGap:
    if isinstance(law, Cellular):
        return AtGap(*law.at_gap(params, dt, half))
    log_s = law.log_survival(params, np.stack([half, dt - half, dt], axis=1))
    inside = law.compensator(params, dt - half, dt + half)
    return AtGap(log_s[:, 0], log_s[:, 1], log_s[:, 2], inside, law.log_hazard(params, dt))


def log_open(law: Law, params: Floats, s: Floats, delta: Floats) -> Floats:
    """Log-probability that a user has stayed silent for `s` seconds, 0 up to δ/2, (N,).

    Examples
    --------
    >>> from streamrec.waiting.exponential import Exponential
    >>> row = np.array([[0.1, 0.0]])
    >>> log_open(Exponential(), row, np.array([5.5]), np.array([1.0])).round(4).tolist()
    [-0.5]
    """
    half = np.broadcast_to(0.5 * delta, s.shape)
    log_s = law.log_survival(params, np.stack([half, np.maximum(s, half)], axis=1))
    return np.asarray(log_s[:, 1] - log_s[:, 0])
