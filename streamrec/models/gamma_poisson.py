"""Every user has a rate of their own, drawn from a Gamma; after any event a user may be gone for good.

    λ_u ~ Gamma(a, b)                              the prior of rates, b in seconds
    wait | λ_u  =  never with probability π, else Exponential(λ_u)
    wait | past ~  π at infinity, else Lomax(a + n_u, b + T_u)

Symbols: n_u waits of the user that ended with an event, T_u seconds of them (a wait that was given
up counts up to `max_idle_s`), s_u seconds of the wait that is open now. (n, T, s) are sufficient, for

    L_u = (1-π)^n Γ(a+n)/Γ(a) b^a (b+T)^{-(a+n)} · [π + (1-π) (1 + s/(b+T))^{-(a+n)}]

a, b, π are found by online EM on this likelihood, completed and open waits alike. Now and then (after
every set at first, after every 64 in the end) 256 users are drawn. With w_u = P(still there | s_u),

    E ln λ = ψ(a+n) - w ln(b+T+s) - (1-w) ln(b+T)      gone_u = 1 - w_u
    E λ    = (a+n) [w / (b+T+s) + (1-w) / (b+T)]

are averaged, the averages run into the kept ones by weight ρ = max(1/10, k^-0.7) at the k-th time, and
a, b, π solve  ln a - ψ(a) = ln mean(E λ) - mean(E ln λ),  b = a / mean(E λ),  π = Σ gone / Σ (n+1), with
one pseudo-user of shape 1 among all users on the left and half a departure in one chance on the right:
two users of like rates prove neither that all are alike nor that nobody leaves.
This is done eight times in a row: with most waits still open, one step moves π by little. Each of the
first 16 times starts over at a = 1, b = exposure / events of the drawn users, so nothing
depends on the unit of time. Every step is an EM step: nothing can diverge, no step size is tuned.

Source: gamma-Poisson with dropout: Fader, Hardie, Lee (2005), Marketing Science 24, 275-284 (BG/NBD;
here π is common to all users); online EM: Cappé, Moulines (2009), J. R. Stat. Soc. B 71, 593-613.
Departure: expectations are taken over drawn users, each with the whole past up to that moment.
"""

import math
from collections.abc import Mapping

import numpy as np
from numba import njit

from streamrec.arrays import Array, Bools, Bytes8, Floats, Ints, Ints32
from streamrec.batch import Batch
from streamrec.models.base import Context, Walk
from streamrec.state.columns import Column, Columns
from streamrec.waiting.lomax import Lomax
from streamrec.waiting.risk import RiskOps, ops_for, queue_of

DRAWN = 256
"""Users drawn for an EM step."""
FIRST = 16
"""EM steps that start over from the pooled rate."""
PSEUDO_SPREAD = 0.5772156649015329
"""ln a - ψ(a) at a = 1: how far the rate of the pseudo-user is spread."""
FIRST_SCALE = 86400.0
"""b before anybody was at risk, s."""

A, B, GONE, MEAN_RATE, MEAN_LOG_RATE, DEATHS, CHANCES = range(7)
SETS, STEPS, ROWS, NEXT = range(4)


@njit(cache=True)
def _digamma(x: float) -> float:
    """ψ(x) for x > 0: recurrence up to 6, then the asymptotic series (error below 1e-9)."""
    result = 0.0
    while x < 6.0:
        result -= 1.0 / x
        x += 1.0
    y = 1.0 / (x * x)
    series = y * (1.0 / 12.0 - y * (1.0 / 120.0 - y * (1.0 / 252.0 - y * (1.0 / 240.0 - y / 132.0))))
    return result + math.log(x) - 0.5 / x - series


@njit(cache=True)
def _trigamma(x: float) -> float:
    """ψ'(x) for x > 0, likewise."""
    result = 0.0
    while x < 6.0:
        result += 1.0 / (x * x)
        x += 1.0
    y = 1.0 / (x * x)
    return result + 1.0 / x + y * (0.5 + (1.0 / 6.0 - y * (1.0 / 30.0 - y * (1.0 / 42.0 - y / 30.0))) / x)


@njit(cache=True)
def _shape(c: float) -> float:
    """The a > 0 with ln a - ψ(a) = c; at most 5e4. Source: Minka (2002), Estimating a Gamma distribution."""
    c = max(c, 1e-5)
    a = (3.0 - c + math.sqrt((c - 3.0) ** 2 + 24.0 * c)) / (12.0 * c)
    for _ in range(4):
        a = 1.0 / (1.0 / a + (math.log(a) - _digamma(a) - c) / (a * a * (1.0 / a - _trigamma(a))))
    return a


@njit(cache=True, inline="always")
def _draw(seed: int, counter: int, rows: int) -> int:
    """Counter-based draw below `rows` (SplitMix64)."""
    z = np.uint64(seed) + np.uint64(counter + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(np.int64((z ^ (z >> np.uint64(31))) % np.uint64(rows)))


@njit(cache=True)
def _pick(
    seed: int, count: Ints, idle: float, users: tuple[Floats, Floats, Floats, Ints32], clocks: Floats
) -> Floats:
    """(n, T, s) of the drawn users, or of all if there are few, (m, 3)."""
    n, spent, since, part = users
    few = count[ROWS] <= DRAWN
    picked = np.zeros((DRAWN, 3))
    m = 0
    for i in range(count[ROWS] if few else DRAWN):
        r = i if few else _draw(seed, count[STEPS] * DRAWN + i, count[ROWS])
        if not np.isnan(since[r]):
            open_s = min(max(clocks[part[r]] - since[r], 0.0), idle)
            picked[m, 0], picked[m, 1], picked[m, 2] = n[r], spent[r], open_s
            m += 1
    return picked[:m]


@njit(cache=True)
def _start_over(picked: Floats, theta: Floats) -> None:
    exposure = picked[:, 1].sum() + picked[:, 2].sum()
    theta[A], theta[GONE] = 1.0, 0.1
    theta[B] = exposure / (picked[:, 0].sum() + 0.5) if exposure > 0.0 else FIRST_SCALE


@njit(cache=True)
def _expect(picked: Floats, theta: Floats, into: Floats, rho: float) -> None:
    """Run the expectations of the drawn users into the kept averages."""
    a, b, gone = theta[A], theta[B], theta[GONE]
    sums = np.zeros(4)
    for i in range(len(picked)):
        n, spent, open_s = picked[i]
        shape, scale = a + n, b + spent
        log_scale, log_waited = math.log(scale), math.log(scale + open_s)
        there = (1.0 - gone) * math.exp(-shape * math.log1p(open_s / scale))
        there /= gone + there
        sums[0] += shape * (there / (scale + open_s) + (1.0 - there) / scale)
        sums[1] += _digamma(shape) - there * log_waited - (1.0 - there) * log_scale
        sums[2] += 1.0 - there
        sums[3] += n + 1.0
    for k in range(4):
        into[MEAN_RATE + k] += rho * (sums[k] / len(picked) - into[MEAN_RATE + k])


@njit(cache=True)
def _maximise(theta: Floats, users: float) -> None:
    spread = math.log(theta[MEAN_RATE]) - theta[MEAN_LOG_RATE]
    theta[A] = _shape((users * spread + PSEUDO_SPREAD) / (users + 1.0))
    theta[B] = theta[A] / theta[MEAN_RATE]
    gone = (users * theta[DEATHS] + 0.5) / (users * theta[CHANCES] + 1.0)
    theta[GONE] = min(max(gone, 1e-6), 0.95)


@njit(cache=True)
def _fit(picked: Floats, count: Ints, theta: Floats) -> None:
    """Eight EM steps on the drawn users; while it is early, from a fresh start."""
    if len(picked) == 0:
        return
    early = count[STEPS] < FIRST
    if early:
        _start_over(picked, theta)
    for _ in range(8):
        _expect(picked, theta, theta, 1.0 if early else max(0.1, (count[STEPS] - FIRST + 1.0) ** -0.7))
        _maximise(theta, count[ROWS])
    count[STEPS] += 1


@njit(cache=True, inline="always")
def _answer(r: int, n: Floats, spent: Floats, theta: Floats, out: Floats) -> None:
    out[0], out[1], out[2] = theta[A] + n[r], theta[B] + spent[r], theta[GONE]


@njit(cache=True)
def _walk(
    timed: Bools, rows: Ints, event: Ints, part_of: Ints32, source: Array, time: Floats, elapsed: Floats,
    clocks: Floats, idle: float, seed: int, users: tuple[Floats, Floats, Floats, Ints32], touched: Bytes8,
    count: Ints, theta: Floats, arrival: Floats, issued: Floats,
) -> None:  # fmt: skip
    n, spent, since, part = users
    for s in range(len(rows)):
        r, i = rows[s], event[s]
        p = part_of[i]
        clocks[p] = max(clocks[p], time[i])
        _answer(r, n, spent, theta, arrival[s])
        if not np.isnan(since[r]):
            n[r] += timed[s] and source[i] >= 0
            spent[r] += min(elapsed[i], idle)
        since[r], part[r], touched[r] = time[i], p, 1
        count[SETS] += 1
        count[ROWS] = max(count[ROWS], r + 1)
        if count[SETS] >= count[NEXT]:
            _fit(_pick(seed, count, idle, users, clocks), count, theta)
            count[NEXT] = count[SETS] + min(64, max(1, count[SETS] // 4))
        _answer(r, n, spent, theta, issued[s])


class GammaPoisson:
    """Rates of users shrunk to a Gamma prior that is learned, with a share that never comes back.

    Costs O(1) per set beside an EM step over 256 users after every 64th. A naive rule and an expert.

    Parameters
    ----------
    context : name, arena (columns `<name>.*`), seed of the draws, risk queue

    Raises
    ------
    ConfigError
        If the context has no risk queue.

    Examples
    --------
    >>> from streamrec.waiting.risk import RiskQueue
    >>> arena = Columns(2, {})
    >>> model = GammaPoisson(Context("gamma_poisson", arena, 0, 0, RiskQueue(arena)))
    >>> model.prior()
    (1.0, 86400.0, 0.1)
    """

    gives_marks = False

    def __init__(self, context: Context) -> None:
        self.name = context.name
        self.law = Lomax()
        self.arena = context.arena
        self.seed = context.seed
        self.risk = queue_of(context, context.name)
        self.theta: Floats = np.array([1.0, FIRST_SCALE, 0.1, 0.0, 0.0, 0.0, 0.0])
        self.count: Ints = np.array([0, 0, 0, 1], np.int64)
        for column, spec in self._spec().items():
            self.arena.add(f"{self.name}.{column}", spec)
        self.risk.watch(self._drop)

    def prior(self) -> tuple[float, float, float]:
        """a, b (s) and π as they are now."""
        return float(self.theta[A]), float(self.theta[B]), float(self.theta[GONE])

    def walk(self, batch: Batch) -> Walk:
        """Every user's predictive before and after each set; the prior moves with the sets."""
        ops = ops_for(self.risk, batch, self.name)
        arrival, issued = np.zeros((batch.n_sets, 3)), np.zeros((batch.n_sets, 3))
        _walk(
            batch.timed, batch.row, ops.event, ops.partition, ops.source, ops.time, ops.elapsed,
            ops.clocks.copy(), self.risk.max_idle_s, self.seed, self._users(), self.arena.touched,
            self.count, self.theta, arrival, issued,
        )  # fmt: skip
        return Walk(wait_issued=issued, wait_arrival=arrival)

    def learn(self, batch: Batch) -> None:
        """Nothing is left to learn."""

    def remap_marks(self, new_id: Ints) -> None:
        """Marks play no part."""

    def tables(self) -> Mapping[str, Columns]:
        """None beside the arena's columns."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """The prior with its averages, and the counters that time and key the draws."""
        return {"theta": self.theta.copy(), "count": self.count.copy()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take them back."""
        self.theta = np.array(arrays["theta"], np.float64)
        self.count = np.array(arrays["count"], np.int64)

    def _users(self) -> tuple[Floats, Floats, Floats, Ints32]:
        n, spent, since, partition = (self.arena[f"{self.name}.{column}"] for column in self._spec())
        return n, spent, since, partition

    def _drop(self, ops: RiskOps) -> None:
        n, spent, since, _ = self._users()
        n[ops.row], spent[ops.row], since[ops.row] = 0.0, 0.0, np.nan
        self.arena.touched[ops.row] = 1

    @staticmethod
    def _spec() -> dict[str, Column]:
        return {
            "n": Column(np.float64),
            "spent": Column(np.float64),
            "since": Column(np.float64, (), np.nan),
            "partition": Column(np.int32, (), -1),
        }
