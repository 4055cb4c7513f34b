"""The popularity bank: how often every mark came, forgotten at many speeds at once.

    c_j(i)  = Σ_{events of mark i} 2^{−age/h_j}          age in events of the lane, or in seconds
    b_0(i)  = (c_0(i) + ½) / (C_0 + ½ n)                 all time, h = ∞
    b_j(i)  = (c_j(i) + m b_0(i)) / (C_j + m)            leans on all time where the member has forgotten
    b_B(i)  = Σ_j v_j b_j(i)                             the bank's own mixture, v by Soft-Bayes

Symbols: B members, n known marks, C_j = Σ_i c_j(i), h half-life, m pseudo-events of the all-time member.
Counts are kept by the multiply-up trick: x_j(i) = c_j(i)·2^{e_j}, so that forgetting raises one exponent e_j
and an event adds 2^{e_j}; when e_j passes 400 everything is multiplied by 2^{−400}, which is exact.
Between two events the bank stands still. All marks of a tie set get the same increment.

Every distribution that the mark mixture knows is linear in B + 2 *features* of a mark: x_0(i) ... x_{B−1}(i),
b_B(i) and the constant 1; `members` holds the coefficients of the b_j.

Source: the multiply-up trick: Cormode, Shkapenyuk, Srivastava, Xu (2009), "Forward decay", ICDE.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streamrec.arrays import Array, Bytes8, Floats, Ints, Ints32
from streamrec.errors import ConfigError
from streamrec.jit import kernel
from streamrec.state.columns import Column, Columns

SHIFT = 400.0
"""Exponent at which counts are scaled down."""

PRIOR_EVENTS = 1.0
"""m: pseudo-events that every forgetting member takes from the all-time member."""


class Member(NamedTuple):
    """One speed of forgetting: half-life in events, in seconds, or never (both infinite)."""

    name: str
    events: float = np.inf
    seconds: float = np.inf


MEMBERS: tuple[Member, ...] = (
    Member("pop_all"),
    Member("pop_500e", events=500),
    Member("pop_30e", events=30),
    Member("pop_100e", events=100),
    Member("pop_1000e", events=1_000),
    Member("pop_3000e", events=3_000),
    Member("pop_10000e", events=10_000),
    Member("pop_30000e", events=30_000),
    Member("pop_10m", seconds=600),
    Member("pop_1h", seconds=3_600),
    Member("pop_6h", seconds=6 * 3_600),
    Member("pop_1d", seconds=86_400),
    Member("pop_7d", seconds=7 * 86_400),
    Member("pop_30d", seconds=30 * 86_400),
    Member("pop_90d", seconds=90 * 86_400),
)
"""The default grid. Column 0 is all time, column 1 half-life 500 events: the naive rules read these two."""

N_BACKGROUNDS = len(MEMBERS) + 1
"""Columns of `MarkLists.background` with the default grid: the members and their mixture."""


class BankArrays(NamedTuple):
    """The bank as a kernel sees it.

    Parameters
    ----------
    x, touched : (K, B), (K,) scaled counts by mark, and their touched flags
    xt, pop : (B, K), (K,) scratch: the counts by member, and b_B
    per_event, per_second : (B,) 1/half-life, 0 where the member does not forget that way
    total, exponent, weight : (B,) Σ_i x_j(i), e_j and v_j
    clock : (2,) time of the last event (s), events learned
    members, mixed : (B, B+2), (B+2,) scratch: coefficients of b_j and of b_B over the features
    """

    x: Floats
    touched: Bytes8
    xt: Floats
    pop: Floats
    per_event: Floats
    per_second: Floats
    total: Floats
    exponent: Floats
    weight: Floats
    clock: Floats
    members: Floats
    mixed: Floats


@kernel
def transpose_counts(bank: BankArrays, n: int) -> None:
    """Copy the counts of the first n marks into the scratch by member."""
    x, xt = bank.x, bank.xt
    for i in range(n):
        for j in range(x.shape[1]):
            xt[j, i] = x[i, j]


@kernel
def refresh_members(bank: BankArrays, n: int) -> None:
    """Coefficients of b_j over the features, for n known marks (n > 0)."""
    members, total, exponent = bank.members, bank.total, bank.exponent
    const = len(total) + 1
    members[:] = 0.0
    den = total[0] + 0.5 * n
    members[0, 0] = 1.0 / den
    members[0, const] = 0.5 / den
    for j in range(1, len(total)):
        prior = PRIOR_EVENTS * 2.0 ** exponent[j]
        den = total[j] + prior
        members[j, j] = 1.0 / den
        members[j, 0] = members[0, 0] * (prior / den)
        members[j, const] = members[0, const] * (prior / den)


@kernel
def refresh_mixed(bank: BankArrays, n: int) -> None:
    """Coefficients of b_B, and b_B itself for the first n marks."""
    mixed, members, weight, xt, pop = bank.mixed, bank.members, bank.weight, bank.xt, bank.pop
    n_members = len(weight)
    mixed[:] = 0.0
    for j in range(n_members):
        for f in range(len(mixed)):
            mixed[f] += weight[j] * members[j, f]
    pop[:n] = mixed[n_members + 1]
    for j in range(n_members):
        for i in range(n):
            pop[i] += mixed[j] * xt[j, i]


@kernel
def member_p(bank: BankArrays, j: int, mark: int) -> float:
    """b_j of one known mark."""
    members, x = bank.members, bank.x
    p: float = members[j, len(members) + 1] + members[j, 0] * x[mark, 0]
    if j > 0:
        p += members[j, j] * x[mark, j]
    return p


@kernel
def scale_down(bank: BankArrays, j: int, n: int) -> None:
    """Bring the exponent of member j below `SHIFT`; all its counts are multiplied by a power of two."""
    steps = np.floor(bank.exponent[j] / SHIFT)
    bank.exponent[j] -= steps * SHIFT
    factor, x, xt, touched = 2.0 ** (-SHIFT * steps), bank.x, bank.xt, bank.touched
    bank.total[j] *= factor
    for i in range(n):
        x[i, j] *= factor
        xt[j, i] *= factor
        touched[i] = 1


@kernel
def learn_counts(bank: BankArrays, marks: Ints32, time: float, n: int) -> None:
    """Let `len(marks)` events at `time` pass and count their marks; n marks are known by then."""
    dt = max(0.0, time - bank.clock[0]) if bank.clock[1] > 0 else 0.0
    bank.clock[0] = max(time, bank.clock[0]) if bank.clock[1] > 0 else time
    bank.clock[1] += len(marks)
    x, xt, total, exponent, touched = bank.x, bank.xt, bank.total, bank.exponent, bank.touched
    per_event, per_second = bank.per_event, bank.per_second
    for j in range(len(total)):
        exponent[j] += len(marks) * per_event[j] + dt * per_second[j]
        if exponent[j] > SHIFT:
            scale_down(bank, j, n)
        unit = 2.0 ** exponent[j]
        total[j] += unit * len(marks)
        for mark in marks:
            x[mark, j] += unit
            xt[j, mark] += unit
    for mark in marks:
        touched[mark] = 1


class PopularityBank:
    """State of the bank; the mark mixture owns it and its kernels walk it.

    Raises
    ------
    ConfigError
        If the first member forgets, or names are not distinct.

    Examples
    --------
    >>> bank = PopularityBank()
    >>> bank.names[:3], bank.n_backgrounds
    (('pop_all', 'pop_500e', 'pop_30e'), 16)
    """

    def __init__(self, members: Sequence[Member] = MEMBERS) -> None:
        self.names = tuple(m.name for m in members)
        if not members or np.isfinite(min(members[0].events, members[0].seconds)):
            raise ConfigError("members: the first one must never forget (both half-lives infinite)")
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"members: names must be distinct, got {self.names}")
        b = len(members)
        self.per_event = 1.0 / np.array([m.events for m in members])
        self.per_second = 1.0 / np.array([m.seconds for m in members])
        self.marks = Columns(64, {"count": Column(np.float64, (b,))})
        self.total, self.exponent = np.zeros(b), np.zeros(b)
        self.weight, self.clock = np.full(b, 1.0 / b), np.zeros(2)
        self._members, self._mixed = np.zeros((b, b + 2)), np.zeros(b + 2)
        self._xt, self._pop = np.zeros((b, 0)), np.zeros(0)

    @property
    def n_backgrounds(self) -> int:
        """Members plus one: the last column is their mixture."""
        return len(self.names) + 1

    def arrays(self, n_marks: int) -> BankArrays:
        """The bank for a kernel, with room for `n_marks` marks."""
        if n_marks > self.marks.capacity:
            self.marks.grow(max(n_marks, 2 * self.marks.capacity))
        if len(self._pop) < self.marks.capacity:
            self._xt = np.zeros((len(self.names), self.marks.capacity))
            self._pop = np.zeros(self.marks.capacity)
        return BankArrays(
            self.marks["count"],
            self.marks.touched,
            self._xt,
            self._pop,
            self.per_event,
            self.per_second,
            self.total,
            self.exponent,
            self.weight,
            self.clock,
            self._members,
            self._mixed,
        )

    def remap_marks(self, new_id: Ints) -> None:
        """Marks were evicted: mark i is now `new_id[i]`, or gone where that is -1, with its counts."""
        old, kept = self.marks["count"].copy(), new_id >= 0
        self.marks.reset(np.arange(self.marks.capacity))
        self.marks["count"][new_id[kept]] = old[: len(new_id)][kept]
        self.total[:] = self.marks["count"].sum(axis=0)

    def tables(self) -> Mapping[str, Columns]:
        """Counts by mark."""
        return {"popularity": self.marks}

    def scalars(self) -> Mapping[str, Array]:
        """Totals, exponents, weights and the clock."""
        state = {"total": self.total, "exponent": self.exponent, "weight": self.weight, "clock": self.clock}
        return {f"popularity.{name}": array for name, array in state.items()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        for name, array in self.scalars().items():
            array[...] = arrays[name]
