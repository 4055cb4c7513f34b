"""Simulated event streams whose truth is known, with the score that the truth would get.

Users enter at times that are uniform on [0, entry_s] with an event that nobody has to forecast; from
then on each follows a process of its own:

    poisson        rate r for everybody, marks independent
    gamma-poisson  rate of user u drawn from Gamma(a, b); the oracle is the exact Bayes predictive,
                   f(τ) = (a+n) (b+T)^(a+n) / (b+T+τ)^(a+n+1) after n gaps in T seconds
    renewal        log-normal gaps whose centre depends on the last mark, a share of users leaves for
                   good after every event; marks are a Markov chain
    sessions       a gap is short (exponential) with probability p, else long (log-normal); inside a
                   session the mark follows a Markov chain, after a long gap it is drawn afresh
    hawkes         λ_m(t) = μ_m + Σ_i A[m_i, m] d exp(-d (t - t_i)), one decay d for all pairs

Every event carries the oracle's ln f(gap), ln p(mark | it happens now) and its cumulative hazard since
the user's last event, which is Exp(1) under the truth (time rescaling). The run ends with event N; the
log-survival of the intervals that are open then belongs to the oracle's score too.
"""

import heapq
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from scipy.special import log_ndtr

from streamrec.arrays import Floats, Ints
from streamrec.errors import ConfigError

DAY = 86_400.0


class Draw(NamedTuple):
    """A user's next event: gap in s (inf: never), mark, and the oracle's three figures."""

    dt: float
    mark: int
    log_density: float
    log_p_mark: float
    cumulative_hazard: float


class Process(Protocol):
    """The process of one user after another; states are kept by user number."""

    def enter(self, user: int, rng: np.random.Generator) -> int:
        """A user's first event; the mark of it."""
        ...

    def draw(self, user: int, rng: np.random.Generator) -> Draw:
        """The user's next event, given its past; the state goes on to it."""
        ...

    def log_survival(self, user: int, s: float) -> float:
        """ln P(the event that was drawn last takes longer than s), before the state went on."""
        ...


@dataclass(frozen=True)
class Simulation:
    """N events in order of time and the oracle's view of them.

    Parameters
    ----------
    user, mark, time : (N,) user and mark numbers, seconds
    log_density, log_p_mark, cumulative_hazard : (N,) the oracle's figures; NaN for entries
    open_log_survival : Σ ln P(nothing yet) over the users' intervals that are open at the end
    """

    user: Ints
    mark: Ints
    time: Floats
    log_density: Floats
    log_p_mark: Floats
    cumulative_hazard: Floats
    open_log_survival: float


def simulate(process: Process, events: int, users: int, seed: int, entry_s: float) -> Simulation:
    """Run a process until `events` events have happened.

    Parameters
    ----------
    entry_s : users enter uniformly over this many seconds

    Raises
    ------
    ConfigError
        If every user left for good before that many events had happened.

    Examples
    --------
    >>> run = simulate(Poisson(rate=1.0, marks=3), events=200, users=5, seed=1, entry_s=1.0)
    >>> bool((np.diff(run.time) >= 0).all()), int(np.isnan(run.log_density).sum())
    (True, 5)
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    entries = np.sort(rng.uniform(0.0, entry_s, users))
    never = Draw(0.0, 0, np.nan, np.nan, np.nan)
    queue: list[tuple[float, int, Draw]] = [(float(t), u, never) for u, t in enumerate(entries)]
    last: dict[int, float] = {}
    rows: list[tuple[int, int, float, float, float, float]] = []
    while queue and len(rows) < events:
        time, user, draw = heapq.heappop(queue)
        mark = process.enter(user, rng) if user not in last else draw.mark
        rows.append((user, mark, time, draw.log_density, draw.log_p_mark, draw.cumulative_hazard))
        last[user] = time
        following = process.draw(user, rng)
        heapq.heappush(queue, (time + following.dt, user, following))
        if queue[0][0] == np.inf:
            raise ConfigError(
                f"simulate: all users left after {len(rows)} of {events} events; take more users"
            )
    user, mark, times, log_density, log_p_mark, hazard = np.array(rows).T
    still_open = sum(process.log_survival(u, times[-1] - t) for u, t in last.items() if t < times[-1])
    return Simulation(
        user=user.astype(np.int64),
        mark=mark.astype(np.int64),
        time=times,
        log_density=log_density,
        log_p_mark=log_p_mark,
        cumulative_hazard=hazard,
        open_log_survival=float(still_open),
    )


def zipf(marks: int, exponent: float = 1.0) -> Floats:
    """Popularity that falls with rank, (marks,)."""
    weight = np.arange(1, marks + 1, dtype=np.float64) ** -exponent
    shares: Floats = weight / weight.sum()
    return shares


def chain(marks: int, seed: int, focus: float = 0.7) -> Floats:
    """Transition matrix (marks, marks): most mass on four successors of each mark."""
    rng = np.random.Generator(np.random.Philox(key=seed + 1))
    matrix = np.tile((1 - focus) * zipf(marks), (marks, 1))
    for row in matrix:
        chosen = rng.choice(marks, size=min(4, marks), replace=False)
        row[chosen] += focus / len(chosen)
    return matrix


def _log_normal(s: float, mu: float, sigma: float) -> tuple[float, float]:
    """ln density and ln survival of a log-normal at s."""
    z = (np.log(s) - mu) / sigma
    return float(-0.5 * z * z - np.log(s * sigma) - 0.5 * np.log(2 * np.pi)), float(log_ndtr(-z))


class Poisson:
    """One rate for all users."""

    def __init__(self, rate: float, marks: int) -> None:
        self.rate, self.p = rate, zipf(marks)

    def enter(self, user: int, rng: np.random.Generator) -> int:
        """First mark by popularity."""
        return int(rng.choice(len(self.p), p=self.p))

    def draw(self, user: int, rng: np.random.Generator) -> Draw:
        """Exponential gap, independent mark."""
        hazard = float(rng.exponential())
        mark = self.enter(user, rng)
        return Draw(hazard / self.rate, mark, np.log(self.rate) - hazard, float(np.log(self.p[mark])), hazard)

    def log_survival(self, user: int, s: float) -> float:
        """-r s."""
        return -self.rate * s


class GammaPoisson:
    """A rate for each user, drawn from Gamma(shape, scale_s); the oracle knows only the prior."""

    def __init__(self, shape: float, scale_s: float, marks: int) -> None:
        self.shape, self.scale_s, self.p = shape, scale_s, zipf(marks)
        self.rate: dict[int, float] = {}
        self.gaps: dict[int, tuple[int, float]] = {}
        self.before: dict[int, tuple[int, float]] = {}

    def enter(self, user: int, rng: np.random.Generator) -> int:
        """The user's rate is drawn with its first mark."""
        self.rate[user] = float(rng.gamma(self.shape) / self.scale_s)
        self.gaps[user] = (0, 0.0)
        return int(rng.choice(len(self.p), p=self.p))

    def draw(self, user: int, rng: np.random.Generator) -> Draw:
        """Exponential gap at the user's own rate; figures of the Bayes predictive."""
        n, waited = self.before[user] = self.gaps[user]
        dt = float(rng.exponential() / self.rate[user])
        a, b = self.shape + n, self.scale_s + waited
        hazard = a * np.log1p(dt / b)
        self.gaps[user] = (n + 1, waited + dt)
        mark = int(rng.choice(len(self.p), p=self.p))
        return Draw(
            dt, mark, float(np.log(a / (b + dt)) - hazard), float(np.log(self.p[mark])), float(hazard)
        )

    def log_survival(self, user: int, s: float) -> float:
        """-(a+n) ln(1 + s/(b+T))."""
        n, waited = self.before[user]
        return float(-(self.shape + n) * np.log1p(s / (self.scale_s + waited)))


class Renewal:
    """Log-normal gaps by last mark, users who leave for good, marks from a Markov chain."""

    def __init__(self, median_s: float, sigma: float, leave: float, marks: int, seed: int) -> None:
        self.mu = np.log(median_s) + np.linspace(-1.0, 1.0, marks)
        self.sigma, self.leave, self.p, self.chain = sigma, leave, zipf(marks), chain(marks, seed)
        self.last: dict[int, int] = {}
        self.before: dict[int, int] = {}

    def enter(self, user: int, rng: np.random.Generator) -> int:
        """First mark by popularity."""
        self.last[user] = int(rng.choice(len(self.p), p=self.p))
        return self.last[user]

    def draw(self, user: int, rng: np.random.Generator) -> Draw:
        """Leaves with probability `leave`, else a log-normal gap and a step of the chain."""
        last = self.before[user] = self.last[user]
        if rng.random() < self.leave:
            return Draw(np.inf, 0, np.nan, np.nan, np.nan)
        dt = float(np.exp(self.mu[last] + self.sigma * rng.standard_normal()))
        log_f, _ = _log_normal(dt, self.mu[last], self.sigma)
        mark = self.last[user] = int(rng.choice(len(self.p), p=self.chain[last]))
        hazard = -self.log_survival(user, dt)
        return Draw(
            dt, mark, float(np.log1p(-self.leave) + log_f), float(np.log(self.chain[last, mark])), hazard
        )

    def log_survival(self, user: int, s: float) -> float:
        """ln(π + (1-π) S(s))."""
        _, log_s = _log_normal(s, self.mu[self.before[user]], self.sigma)
        return float(np.log(self.leave + (1 - self.leave) * np.exp(log_s)))


class Sessions:
    """Short gaps inside a session, long ones between; marks that remember only inside a session."""

    def __init__(self, short_s: float, long_s: float, stay: float, marks: int, seed: int) -> None:
        self.short_s, self.mu, self.sigma, self.stay = short_s, float(np.log(long_s)), 1.0, stay
        self.p, self.chain = zipf(marks), chain(marks, seed)
        self.last: dict[int, int] = {}

    def enter(self, user: int, rng: np.random.Generator) -> int:
        """First mark by popularity."""
        self.last[user] = int(rng.choice(len(self.p), p=self.p))
        return self.last[user]

    def draw(self, user: int, rng: np.random.Generator) -> Draw:
        """A short gap and a step of the chain, or a long gap and a fresh mark."""
        stays = rng.random() < self.stay
        long_gap = np.exp(self.mu + self.sigma * rng.standard_normal())
        dt = float(rng.exponential(self.short_s) if stays else long_gap)
        last = self.last[user]
        law = self.chain[last] if stays else self.p
        mark = self.last[user] = int(rng.choice(len(self.p), p=law))
        short = np.log(self.stay / self.short_s) - dt / self.short_s
        log_f = np.logaddexp(short, np.log1p(-self.stay) + _log_normal(dt, self.mu, self.sigma)[0])
        inside = np.exp(short - log_f)
        p_mark = inside * self.chain[last, mark] + (1 - inside) * self.p[mark]
        return Draw(dt, mark, float(log_f), float(np.log(p_mark)), -self.log_survival(user, dt))

    def log_survival(self, user: int, s: float) -> float:
        """Both kinds of gap last longer than s."""
        _, log_s = _log_normal(s, self.mu, self.sigma)
        return float(np.logaddexp(np.log(self.stay) - s / self.short_s, np.log1p(-self.stay) + log_s))


class Hawkes:
    """Multivariate Hawkes process with one exponential decay; each user excites itself only."""

    def __init__(self, rate: float, branching: float, decay: float, marks: int, seed: int) -> None:
        self.base = rate * (1 - branching) * zipf(marks)
        self.jump = branching * decay * chain(marks, seed, focus=0.9)
        self.decay = decay
        self.excess: dict[int, Floats] = {}
        self.before: dict[int, float] = {}

    def enter(self, user: int, rng: np.random.Generator) -> int:
        """First mark by the base rates; it excites like any other."""
        mark = int(rng.choice(len(self.base), p=self.base / self.base.sum()))
        self.excess[user] = self.jump[mark].copy()
        return mark

    def draw(self, user: int, rng: np.random.Generator) -> Draw:
        """The earlier of a base event and one of the excitation; its mark by the intensities then."""
        excess, total = self.excess[user], self.base.sum()
        self.before[user] = float(excess.sum())
        dt = rng.exponential() / total
        reached = rng.exponential() * self.decay / self.before[user]
        if reached < 1:
            dt = min(dt, -np.log1p(-reached) / self.decay)
        faded = excess * np.exp(-self.decay * dt)
        intensity = self.base + faded
        rate = float(intensity.sum())
        mark = int(rng.choice(len(self.base), p=intensity / rate))
        hazard = -self.log_survival(user, dt)
        self.excess[user] = faded + self.jump[mark]
        log_p = float(np.log(intensity[mark] / rate))
        return Draw(float(dt), mark, float(np.log(rate)) - hazard, log_p, hazard)

    def log_survival(self, user: int, s: float) -> float:
        """-μ s - (excess/d)(1 - exp(-d s))."""
        faded = -np.expm1(-self.decay * s) / self.decay
        return float(-self.base.sum() * s - self.before[user] * faded)


def hour_scale_processes(marks: int, seed: int) -> dict[str, Process]:
    """The processes of `streamrec simulate`, with gaps of minutes to days."""
    return {
        "poisson": Poisson(rate=1 / 3600, marks=marks),
        "gamma-poisson": GammaPoisson(shape=1.5, scale_s=1.5 * 3600, marks=marks),
        "renewal": Renewal(median_s=1800, sigma=0.8, leave=0.005, marks=marks, seed=seed),
        "sessions": Sessions(short_s=60, long_s=8 * 3600, stay=0.85, marks=marks, seed=seed),
        "hawkes": Hawkes(rate=1 / 3600, branching=0.75, decay=1 / 300, marks=marks, seed=seed),
    }
