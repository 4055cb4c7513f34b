"""One rate for everybody: events over exposure, a naive rule.

    rate(t) = (E + 1/2) / X(t)        X(t) = person-seconds at risk up to the clocks, open waits included

Symbols: E waits that ended with an event, X exposure of all users of all partitions. The half event is
Jeffreys' prior of a Poisson rate. Before there is any exposure the rate is once a day.

Source: Cox and Lewis (1966), The Statistical Analysis of Series of Events, chapter 2.
"""

from collections.abc import Mapping

import numpy as np
from numba import njit

from streamrec.arrays import Array, Bools, Floats, Ints, Ints32
from streamrec.batch import Batch
from streamrec.models.base import Context, Walk
from streamrec.state.columns import Columns
from streamrec.waiting.exponential import Exponential
from streamrec.waiting.exposure import enter, exposed, leave
from streamrec.waiting.risk import RiskOps, ops_for, queue_of

FIRST_RATE = 1.0 / 86400.0
"""Events per second that are expected before anybody was at risk."""


@njit(cache=True)
def _rate(events: float, n: Array, since: Floats, closed: Floats, clocks: Floats) -> float:
    exposure = exposed(n, since, closed, 1, 0, 0, clocks)
    return (events + 0.5) / exposure if exposure > 0.0 else FIRST_RATE


@njit(cache=True)
def _apply(
    i: int, part: Ints32, source: Array, target: Array, time: Floats, n: Array, since: Floats, closed: Floats
) -> None:
    """A user comes to be at risk, or stops; changes of the bin leave the pooled exposure as it is."""
    p = part[i]
    if source[i] >= 0 and target[i] < 0:
        leave(n, since, closed, p, 0, 0, time[i])
    elif source[i] < 0 and target[i] >= 0:
        enter(n, since, closed, p, 0, 0, time[i])


@njit(cache=True)
def _walk(
    timed: Bools, sets: Ints32, part: Ints32, source: Array, target: Array, time: Floats, clocks: Floats,
    events: Floats, n: Array, since: Floats, closed: Floats, arrival: Floats, issued: Floats,
) -> None:  # fmt: skip
    for i in range(len(sets)):
        s = sets[i]
        if s >= 0:
            clocks[part[i]] = max(clocks[part[i]], time[i])
            arrival[s, 0] = _rate(events[0], n, since, closed, clocks)
            events[0] += timed[s] and source[i] >= 0
        _apply(i, part, source, target, time, n, since, closed)
        if s >= 0:
            issued[s, 0] = _rate(events[0], n, since, closed, clocks)


class Poisson:
    """Pooled Poisson process: every user, at every moment, has the rate of all users together.

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
    >>> model = Poisson(Context("poisson", arena, 0, 0, RiskQueue(arena)))
    >>> model.exposure()
    0.0
    """

    gives_marks = False

    def __init__(self, context: Context) -> None:
        self.name = context.name
        self.law = Exponential()
        self.risk = queue_of(context, context.name)
        self.events: Floats = np.zeros(1)
        self.closed: Floats = np.zeros((1, 1))
        self.n: Ints = np.zeros((0, 1), np.int64)
        self.since: Floats = np.zeros((0, 1))
        self.risk.watch(self._drop)

    def exposure(self) -> float:
        """Person-seconds at risk up to the clocks."""
        clocks = self.risk.clocks[: len(self.n)]
        return float(exposed(self.n, self.since, self.closed, 1, 0, 0, clocks))

    def walk(self, batch: Batch) -> Walk:
        """The pooled rate before and after every set."""
        ops = ops_for(self.risk, batch, self.name)
        self._fit()
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
        """Events, person-time, and per partition users at risk and the time of the last change."""
        state = {"events": self.events, "closed": self.closed, "n": self.n, "since": self.since}
        return {name: array.copy() for name, array in state.items()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take them back."""
        self.events, self.closed = np.array(arrays["events"]), np.array(arrays["closed"])
        self.n, self.since = np.array(arrays["n"]), np.array(arrays["since"])

    def _fit(self) -> None:
        """Room for partitions that are new."""
        more = len(self.risk.clocks) - len(self.n)
        self.n = np.concatenate([self.n, np.zeros((more, 1), np.int64)])
        self.since = np.concatenate([self.since, np.zeros((more, 1))])

    def _drop(self, ops: RiskOps) -> None:
        for i in range(len(ops.set)):
            _apply(i, ops.partition, ops.source, ops.target, ops.time, self.n, self.since, self.closed)
