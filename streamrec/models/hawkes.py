"""Hawkes process with one exponential decay and low-rank excitation, learned by counting.

    λ_m(t) = μ b_B(m) + Σ_i w_i U[m_i, c(m)] V[m] d e^{-d (t - t_i)}      over a user's last L marks i

    responsibility of the base for an event, and of source i:   μ b_B(m) / λ_m(t),   its term / λ_m(t)
    μ       = (Σ base responsibilities + ½) / (user-seconds at risk + 1/d)
    U[k, r] = (Σ responsibilities of k for class r + g U[r]) / (Σ of k's kernels so far + g)
    V[m]    = (Σ responsibilities for m + ½) / (the same over the class of m)

Symbols: m mark, c(m) its class (one of R; branching matrix U V of rank R, exact when K <= R), d decay (1/s),
w_i = 1/n for the n marks of a tie set, g pseudo-kernels taken from all marks together, b_B the popularity
bank's mixture. "Kernels so far" is Σ_i (1 - e^{-d (T - t_i)}) over all marks of that kind, T the lane's clock
(its largest time) or the time at which i left its user's last L: so open intervals are charged exactly and in
O(1), because all open kernels of a mark fade at one rate.

Source: Hawkes (1971), Biometrika 58, 83-90; EM for its branching structure: Veen and Schoenberg (2008),
J. Am. Stat. Assoc. 103, 614-624. Departures: expectations are counted once, online; only the last L marks of
a user excite; the base mark law is the bank's; classes are given out in the order of appearance.
"""

from collections.abc import Mapping

import numpy as np

from streamrec.arrays import Array, Floats, Ints
from streamrec.batch import Batch, MarkLists
from streamrec.errors import ConfigError
from streamrec.models.base import Context, Walk
from streamrec.models.hawkes_kernels import (
    CLOSED,
    EVENTS,
    N_CLASSES,
    N_TOP,
    OPEN_AT,
    OPEN_G,
    OPEN_N,
    RING,
    Counts,
    Out,
    Rings,
    drop,
    walk,
)
from streamrec.state.columns import Column, Columns
from streamrec.waiting.hawkes import ExponentialDecay
from streamrec.waiting.risk import RiskOps

_MARK_SPEC = {
    "credit": Column(np.float64, (N_CLASSES,)),
    "kernels": Column(np.float64),
    "open_n": Column(np.float64),
    "open_g": Column(np.float64),
    "open_at": Column(np.float64),
    "within": Column(np.float64),
    "events": Column(np.float64),
}


class Hawkes:
    """Self-exciting marks and times with one decay; an expert for both.

    Parameters
    ----------
    decay_s : 1/d in s

    Raises
    ------
    ConfigError
        If `decay_s` is not positive.
    """

    gives_marks = True

    def __init__(self, context: Context, decay_s: float) -> None:
        if not decay_s > 0:
            raise ConfigError(f"{context.name}: decay_s: expected > 0, got {decay_s}")
        self.name, self.decay = context.name, 1.0 / decay_s
        self.law = ExponentialDecay()
        self.arena, self.n_columns = context.arena, context.n_backgrounds + 1
        self.arena.add(f"{self.name}.mark", Column(np.int32, (RING,), -1))
        self.arena.add(f"{self.name}.time", Column(np.float64, (RING,)))
        self.arena.add(f"{self.name}.weight", Column(np.float64, (RING,)))
        self.arena.add(f"{self.name}.head", Column(np.int32))
        self.counts = Columns(64, _MARK_SPEC)
        self.top = np.full((N_CLASSES, N_TOP), -1, np.int32)
        self.class_credit, self.class_within = np.zeros(N_CLASSES), np.zeros(N_CLASSES)
        self.total, self.clock = np.zeros(6), np.zeros(3)
        if context.risk is not None:
            context.risk.watch(self._forget_rows)

    def walk(self, batch: Batch) -> Walk:
        """Forecast, count and issue, set by set."""
        if batch.n_marks > self.counts.capacity:
            self.counts.grow(2 * batch.n_marks)
        arrival, issued = self._out(batch.n_sets), self._out(batch.n_sets)
        walk(batch.row, batch.time, batch.timed, batch.dt, batch.start, batch.mark, batch.n_known,
              self.decay, self._counts(), self._rings(), arrival, issued)  # fmt: skip
        return Walk(
            marks_arrival=_lists(arrival, np.ones(batch.n_sets)),
            marks_issued=_lists(issued, self._excited_next(issued.params)),
            wait_issued=issued.params,
            wait_arrival=arrival.params,
        )

    def learn(self, batch: Batch) -> None:
        """Nothing is left to learn: sets are counted while walking."""

    def remap_marks(self, new_id: Ints) -> None:
        """Rename the counted marks; the kernels of those that are gone are forgotten with them."""
        kept = new_id >= 0
        old = {name: self.counts[name][: len(new_id)].copy() for name in self.counts}
        self.counts.reset(np.arange(self.counts.capacity))
        for name, values in old.items():
            self.counts[name][new_id[kept]] = values[kept]
        ring = self.arena[f"{self.name}.mark"]
        renamed = np.where(ring >= 0, new_id[np.maximum(ring, 0)], -1).astype(np.int32)
        changed = np.flatnonzero((renamed != ring).any(axis=1))
        ring[changed] = renamed[changed]
        self.arena.touched[changed] = 1
        self._sum_classes()

    def tables(self) -> Mapping[str, Columns]:
        """Counts by mark."""
        return {"marks": self.counts}

    def scalars(self) -> Mapping[str, Array]:
        """Sums over the marks, the lists of top marks and the clock."""
        return {
            "top": self.top,
            "class_credit": self.class_credit,
            "class_within": self.class_within,
            "total": self.total,
            "clock": self.clock,
        }

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        for name, array in self.scalars().items():
            array[...] = arrays[name]

    def _sum_classes(self) -> None:
        """Sums over the marks and top lists from the counts, after marks were renumbered."""
        self.class_credit[:] = self.counts["credit"].sum(axis=0)
        class_of = np.arange(self.counts.capacity) % N_CLASSES
        self.class_within[:] = np.bincount(class_of, self.counts["within"], N_CLASSES)
        self.total[CLOSED] = self.counts["kernels"].sum()
        self.total[EVENTS] = self.counts["events"].sum()
        at = self.counts["open_at"].max()
        faded = self.counts["open_g"] * np.exp(-self.decay * (at - self.counts["open_at"]))
        self.total[[OPEN_N, OPEN_G, OPEN_AT]] = self.counts["open_n"].sum(), faded.sum(), at
        self.top[:] = -1
        for r in range(N_CLASSES):
            mine = np.arange(r, self.counts.capacity, N_CLASSES)
            best = mine[np.argsort(-self.counts["within"][mine], kind="stable")][:N_TOP]
            best = best[self.counts["within"][best] > 0]
            self.top[r, : len(best)] = best

    def _excited_next(self, params: Floats) -> Floats:
        """Probability that the next event comes from the excitation, whenever it comes, (S,)."""
        return np.clip(1.0 - params[:, 0] * self.law.mean(params), 0.0, 1.0)

    def _counts(self) -> Counts:
        c = self.counts
        return Counts(
            c["credit"], c["kernels"], c["open_n"], c["open_g"], c["open_at"], c["within"], c["events"],
            c.touched, self.top, self.class_credit, self.class_within, self.total, self.clock,
        )  # fmt: skip

    def _rings(self) -> Rings:
        a, name = self.arena, self.name
        return Rings(a[f"{name}.mark"], a[f"{name}.time"], a[f"{name}.weight"], a[f"{name}.head"], a.touched)

    def _out(self, n_sets: int) -> Out:
        room = n_sets * N_CLASSES * N_TOP
        return Out(
            np.zeros(n_sets + 1, np.int64),
            np.empty(room, np.int32),
            np.empty(room),
            np.zeros((n_sets, self.n_columns)),
            np.empty((n_sets, 3)),
        )

    def _forget_rows(self, ops: RiskOps) -> None:
        """Rows are about to be reset: close their kernels and end their time at risk."""
        drop(ops.row, self.decay, self._counts(), self._rings())


def _lists(out: Out, excited: Floats) -> MarkLists:
    """Lists whose listed part is weighted by `excited` (S,), the rest standing on the base."""
    n = out.start[-1]
    lengths = np.diff(out.start)
    background = out.background
    background[:, -1] = 1.0 - excited * (1.0 - background[:, -1])
    return MarkLists(out.start, out.mark[:n], out.p[:n] * np.repeat(excited, lengths), background)
