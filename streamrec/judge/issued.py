"""A forecast as it was published, read back to be judged: what scores a mark and a gap, and nothing else.

    ln p of a listed mark: that of its p          of any other: ln (p_rest + p_new_mark) / (n_rest + n_new)
    rank of a listed mark: 1 + #greater + #equal others / 2   of any other: the mean of the ranks left
    ln f(s) = ln r(s) - Σ_j r_j · (part of bin j before s)    r_j rates of the hazard table, then the tail

These are the formulas of `mixture/kernels_published.py` and `waiting/piecewise_exponential.py` on the numbers
as printed, in the same order of operations, so that judging a record gives what scoring it gave.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import msgspec

VERSION = 1
LATEST_S = 1e15
"""Times of issue beyond this are no times (thirty million years)."""
MOST = 1 << 53
"""Offsets and numbers of marks from here on are no numbers of anything."""
MODEL = "mixture"


class Key(NamedTuple):
    """The first event of the set after which a forecast was issued."""

    topic: str
    partition: int
    offset: int


class Issued(msgspec.Struct, array_like=True, frozen=True):
    """What is kept of a forecast until its user's next set.

    Parameters
    ----------
    marks, p : listed marks, likeliest first, and their probabilities
    p_other, n_other : mass of all marks that are not listed, and how many share it
    edges_s : edges of the hazard table, from 0 s; none without a table
    rates : rate of every bin, then the tail, 1/s
    interval : `interval90`; inf where it has no end; none if there was none
    set90 : its marks by name, or the least p of a set that is too large for that; none if there was none
    """

    marks: list[str]
    p: list[float]
    p_other: float
    n_other: int
    edges_s: list[float]
    rates: list[float]
    interval: tuple[float, float] | None
    set90: list[str] | float | None

    def mark_score(self, mark: str) -> tuple[float, float, bool]:
        """Log-probability and rank of a mark, and whether it is listed.

        Examples
        --------
        >>> issued = Issued(["a", "b", "c"], [0.5, 0.2, 0.2], 0.1, 1000, [], [], None, None)
        >>> [issued.mark_score(mark)[1:] for mark in "abz"]
        [(1.0, True), (2.5, True), (503.5, False)]
        """
        if mark not in self.marks:
            each = self.p_other / self.n_other if self.n_other > 0 else 0.0
            return _log(each), len(self.marks) + 0.5 * (self.n_other + 1.0), False
        p = self.p[self.marks.index(mark)]
        rank = 0.5
        for other in self.p:
            rank += 1.0 if other > p else (0.5 if other == p else 0.0)
        return _log(p), rank, True

    def log_density(self, dt: float) -> float:
        """ln f(dt) of the hazard table, per second; NaN without one.

        Examples
        --------
        >>> issued = Issued([], [], 1.0, 1, [0.0, 1.0, 10.0], [0.5, 0.1, 0.2], None, None)
        >>> round(issued.log_density(11.0) - math.log(0.2), 12)
        -1.6
        """
        edges, rates = self.edges_s, self.rates
        if not edges:
            return math.nan
        at = bisect_right(edges, dt) - 1
        total = 0.0
        for j in range(at):
            total += rates[j] * (edges[j + 1] - edges[j])
        return _log(rates[at]) - (total + rates[at] * (dt - edges[at]))

    def horizon_s(self, otherwise: float) -> float:
        """The last edge of the table, or `otherwise`."""
        return self.edges_s[-1] if self.edges_s else otherwise

    def inside(self, dt: float) -> bool | None:
        """Whether a gap lies in `interval90`; None if there was none."""
        return None if self.interval is None else self.interval[0] <= dt <= self.interval[1]

    def in_set(self, mark: str) -> bool | None:
        """Whether a mark is in `set90`; None where the record does not say it."""
        if self.set90 is None or isinstance(self.set90, list):
            return None if self.set90 is None else mark in self.set90
        if mark not in self.marks:
            return None
        return self.p[self.marks.index(mark)] >= self.set90


class Published(NamedTuple):
    """A forecast as it came out of its log."""

    key: Key
    model: str
    user: str
    issued_at: float
    issued: Issued


class _Mark(msgspec.Struct):
    mark: str
    p: float


class _Hazard(msgspec.Struct):
    edges_s: list[float]
    rate: list[float | None]
    tail: float | None


class _Wait(msgspec.Struct):
    hazard: _Hazard | None = None


class _LargeSet(msgspec.Struct):
    size: int
    p_threshold: float


class _Line(msgspec.Struct):
    id: str
    user: str
    issued_at: float
    marks: list[_Mark]
    p_new_mark: float
    p_rest: float
    n_rest: int
    n_new: int
    wait: _Wait | None = None
    set90: list[str] | _LargeSet | None = None
    interval90: list[float | None] | None = None
    v: int = VERSION


_DECODER = msgspec.json.Decoder(_Line)


def read_forecast(line: bytes | None) -> Published | str:
    """Read a published forecast; what is wrong with it, in one line, if it is none.

    Examples
    --------
    >>> read_forecast(b'{"id":"log.csv:0:7:0"}')
    'no forecast: Object missing required field `user`'
    """
    try:
        read = _DECODER.decode(line or b"")
        key, model = key_of(read.id)
        return Published(key, model, read.user, read.issued_at, _issued(read))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return f"no forecast: {error}"


def key_of(text: str) -> tuple[Key, str]:
    """The first event that a forecast's id names, and its model; ValueError if it is no id.

    Examples
    --------
    >>> key_of("a:b.csv:0:7:0:mixture")
    (Key(topic='a:b.csv', partition=0, offset=7), 'mixture')
    """
    parts = text.rsplit(":", 4)
    if len(parts) < 5 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        raise ValueError(f"id {text!r}: wanted topic:partition:offset:lane:model")
    key = Key(parts[0], int(parts[1]), int(parts[2]))
    if max(key.partition, key.offset) >= MOST:
        raise ValueError(f"id {text!r}: the partition or the offset is out of range")
    return key, parts[4]


def _issued(read: _Line) -> Issued:
    if read.v != VERSION:
        raise ValueError(f"version {read.v}: wanted {VERSION}")
    p = [m.p for m in read.marks]
    masses = [*p, read.p_rest, read.p_new_mark]
    counts = read.n_rest, read.n_new
    if not (min(masses) >= 0.0 and max(masses) <= 1.0 and min(counts) >= 0 and max(counts) < MOST):
        raise ValueError("a probability is not within 0 and 1, or a number of marks is out of range")
    if not abs(read.issued_at) <= LATEST_S:
        raise ValueError(f"issued_at {read.issued_at}: out of range")
    edges, rates = _table(read.wait.hazard if read.wait is not None else None)
    large = read.set90.p_threshold if isinstance(read.set90, _LargeSet) else read.set90
    return Issued(
        marks=[m.mark for m in read.marks],
        p=p,
        p_other=read.p_rest + read.p_new_mark,
        n_other=read.n_rest + read.n_new,
        edges_s=edges,
        rates=rates,
        interval=_interval(read.interval90),
        set90=large,
    )


def _table(hazard: _Hazard | None) -> tuple[list[float], list[float]]:
    """Edges and rates; empty if there is no table, or the experts were asleep (null rates)."""
    if hazard is None:
        return [], []
    rates = [r for r in (*hazard.rate, hazard.tail) if r is not None]
    edges = hazard.edges_s
    if len(hazard.rate) + 1 != len(edges) or not _ascends(tuple(edges)) or min(rates, default=0.0) < 0:
        raise ValueError("hazard: wanted edges that ascend from 0 and one rate for each bin")
    return (edges, rates) if len(rates) == len(edges) else ([], [])


@lru_cache(16)
def _ascends(edges: tuple[float, ...]) -> bool:
    """Whether edges ascend from 0; those of a program are always the same."""
    return edges[:1] == (0.0,) and all(a < b for a, b in pairwise(edges))


def _interval(ends: Sequence[float | None] | None) -> tuple[float, float] | None:
    if ends is None or len(ends) != 2 or ends[0] is None:
        return None
    return ends[0], math.inf if ends[1] is None else ends[1]


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf
