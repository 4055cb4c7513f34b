"""The same wait for everybody: the median gap of all users so far, a naive rule.

    median  m = inf{ s : Λ(s) >= ln 2 },   Λ(s) = ∫ h,   h = E_j / X_j in bin j of elapsed time
    law     Exponential(ln 2 / m), whose median is m, so that every score is defined

Symbols: E_j waits that ended in bin j, X_j person-seconds at risk there, open waits included up to the
clocks: users that stay silent make the median longer. While Λ does not reach ln 2 (fewer than half are
known to come back) the law has the pooled rate (E + 1/2) / X; before there is any exposure, once a day.

Source: the product-limit median, Brookmeyer and Crowley (1982), Biometrics 38, 29-41, here with hazards
constant in each bin, and so a plain function of counts that needs no memory of gaps.
"""

import math
from collections.abc import Mapping

import numpy as np
from numba import njit

from streamrec.arrays import Array, Bools, Floats, Ints, Ints32
from streamrec.batch import Batch
from streamrec.models.base import Context, Walk
from streamrec.models.poisson import FIRST_RATE
from streamrec.state.columns import Columns
from streamrec.waiting.exponential import Exponential
from streamrec.waiting.exposure import enter, exposed, leave
from streamrec.waiting.risk import EDGES, N_BINS, N_EDGES, RiskOps, ops_for, queue_of

LN2 = math.log(2.0)


@njit(cache=True)
def _rate(events: Floats, n: Array, since: Floats, closed: Floats, clocks: Floats) -> float:
    """ln 2 over the median wait; the pooled rate while there is no median."""
    cumulated, total, start, ended = 0.0, 0.0, 0.0, 0.5
    for j in range(N_BINS):
        x = exposed(n, since, closed, 1, 0, j, clocks)
        total += x
        ended += events[j]
        if x <= 0.0:
            continue
        hazard = events[j] / x
        end = EDGES[j] if j < N_EDGES else np.inf
        if hazard > 0.0 and cumulated + hazard * (end - start) >= LN2:
            return LN2 / float(start + (LN2 - cumulated) / hazard)
        cumulated += hazard * (end - start) if hazard > 0.0 else 0.0
        start = end
    return ended / total if total > 0.0 else FIRST_RATE


@njit(cache=True)
def _apply(
    i: int, part: Ints32, source: Array, target: Array, time: Floats, n: Array, since: Floats, closed: Floats
) -> None:
    if source[i] >= 0:
        leave(n, since, closed, part[i], 0, source[i], time[i])
    if target[i] >= 0:
        enter(n, since, closed, part[i], 0, target[i], time[i])


@njit(cache=True)
def _walk(
    timed: Bools, sets: Ints32, part: Ints32, source: Array, target: Array, time: Floats, clocks: Floats,
    events: Floats, n: Array, since: Floats, closed: Floats, arrival: Floats, issued: Floats,
) -> None:  # fmt: skip
    for i in range(len(sets)):
        s = sets[i]
        if s >= 0:
            clocks[part[i]] = max(clocks[part[i]], time[i])
            arrival[s, 0] = _rate(events, n, since, closed, clocks)
            if timed[s] and source[i] >= 0:
                events[source[i]] += 1.0
        _apply(i, part, source, target, time, n, since, closed)
        if s >= 0:
            issued[s, 0] = _rate(events, n, since, closed, clocks)


class ConstantGap:
    """The median wait of all users, for every user and at every moment.

    Not to be confused with `Poisson`, which has the mean: a few long silences move the mean far.

    Parameters
    ----------
    context : name, and the risk queue that counts who is waiting

    Raises
    ------
    ConfigError
        If the context has no risk queue.

    Examples
    --------
    >>> from streamrec.waiting.risk import RiskQueue
    >>> arena = Columns(2, {})
    >>> round(ConstantGap(Context("constant_gap", arena, 0, 0, RiskQueue(arena))).median())
    59888
    """

    gives_marks = False

    def __init__(self, context: Context) -> None:
        self.name = context.name
        self.law = Exponential()
        self.risk = queue_of(context, context.name)
        self.events: Floats = np.zeros(N_BINS)
        self.closed: Floats = np.zeros((1, N_BINS))
        self.n: Ints = np.zeros((0, N_BINS), np.int64)
        self.since: Floats = np.zeros((0, N_BINS))
        self.risk.watch(self._drop)

    def median(self) -> float:
        """The wait that is predicted now, s."""
        clocks = self.risk.clocks[: len(self.n)]
        return LN2 / float(_rate(self.events, self.n, self.since, self.closed, clocks))

    def walk(self, batch: Batch) -> Walk:
        """The rule before and after every set."""
        ops = ops_for(self.risk, batch, self.name)
        more = len(ops.clocks) - len(self.n)
        self.n = np.concatenate([self.n, np.zeros((more, N_BINS), np.int64)])
        self.since = np.concatenate([self.since, np.zeros((more, N_BINS))])
        arrival, issued = np.zeros((batch.n_sets, 2)), np.zeros((batch.n_sets, 2))
        _walk(
            batch.timed, ops.set, ops.partition, ops.source, ops.target, ops.time, ops.clocks.copy(),
            self.events, self.n, self.since, self.closed, arrival, issued,
        )  # fmt: skip
        return Walk(wait_issued=issued, wait_arrival=arrival)

    def learn(self, batch: Batch) -> None:
        """Nothing is left to learn."""

    def remap_marks(self, new_id: Ints) -> None:
        """Marks play no part."""

    def tables(self) -> Mapping[str, Columns]:
        """None."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """Events and person-time per bin; per partition users at risk and the times of the last changes."""
        state = {"events": self.events, "closed": self.closed, "n": self.n, "since": self.since}
        return {name: array.copy() for name, array in state.items()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take them back."""
        self.events, self.closed = np.array(arrays["events"]), np.array(arrays["closed"])
        self.n, self.since = np.array(arrays["n"]), np.array(arrays["since"])

    def _drop(self, ops: RiskOps) -> None:
        for i in range(len(ops.set)):
            _apply(i, ops.partition, ops.source, ops.target, ops.time, self.n, self.since, self.closed)
