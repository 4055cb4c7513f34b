"""Streams whose truth is known, and the judge who compares a whole engine with it.

    gain(n) = Σ over the first n events [ln f_model - ln f_truth] + open_model(n) - open_truth(n)

With open waits charged, e^gain is a supermartingale for every honest forecaster, in the whole and from any
event number to any later one: it passes 1000 with probability 1/1000. Marks: Σ ln p_model - ln p_truth alike.

Symbols: open(n) = Σ over users of ln P(nothing since their last event) at the time of event n.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from streamrec.arrays import Floats, Ints
from streamrec.batch import Batch
from streamrec.evaluate import N_WINDOWS, open_scores
from streamrec.event import TieSet
from streamrec.models.bank import DEFAULT_BANK
from streamrec.models.base import Walk
from streamrec.processor import CutResult, Engine
from streamrec.settings import ModelsSettings, Settings
from streamrec.simulate import GammaPoisson, Hawkes, Poisson, Process, Simulation, simulate

WHOLE, WINDOW = np.log(1000.0), np.log(20_000.0)
HOUR = 3600.0
COUNT = tuple(name for name in DEFAULT_BANK if name != "recurrent")
WAITING = ("gamma_poisson", "log_normal", "hawkes_1s", "hawkes_1m", "hawkes_1h", "hawkes_2d")


class PoissonTruth:
    """ln S = -r s."""

    def __init__(self, process: Poisson, users: int) -> None:
        self.rate = process.rate

    def see(self, user: int, dt: float, mark: int) -> None:
        """Nothing to remember."""

    def law(self, user: int) -> tuple[float, float, float]:
        return self.rate, 0.0, 1.0

    def log_survival(self, users: Ints, s: Floats) -> Floats:
        return -self.rate * s


class BayesTruth:
    """ln S = -(a + n) ln(1 + s / (b + T))."""

    def __init__(self, process: GammaPoisson, users: int) -> None:
        self.n, self.waited = np.full(users, process.shape), np.full(users, process.scale_s)

    def see(self, user: int, dt: float, mark: int) -> None:
        if not np.isnan(dt):
            self.n[user] += 1
            self.waited[user] += dt

    def law(self, user: int) -> tuple[float, float, float]:
        return self.n[user], self.waited[user], 0.0

    def log_survival(self, users: Ints, s: Floats) -> Floats:
        return np.asarray(-self.n[users] * np.log1p(s / self.waited[users]))


class HawkesTruth:
    """ln S = -μ s - (c/d)(1 - e^{-d s})."""

    def __init__(self, process: Hawkes, users: int) -> None:
        self.process, self.excess = process, np.zeros((users, len(process.base)))

    def see(self, user: int, dt: float, mark: int) -> None:
        faded = 0.0 if np.isnan(dt) else np.exp(-self.process.decay * dt)
        self.excess[user] = self.excess[user] * faded + self.process.jump[mark]

    def law(self, user: int) -> tuple[float, float, float]:
        return self.process.base.sum(), self.excess[user].sum(), self.process.decay

    def log_survival(self, users: Ints, s: Floats) -> Floats:
        d = self.process.decay
        faded = -np.expm1(-d * s) / d
        return np.asarray(-self.process.base.sum() * s - self.excess[users].sum(axis=1) * faded)


Truth = PoissonTruth | BayesTruth | HawkesTruth


@dataclass(frozen=True)
class Canary:
    """A stream as sets, the truth's figures for every event, and its open waits after any number of them."""

    sets: list[TieSet]
    run: Simulation
    truth: Callable[[], Truth]

    def laws(self) -> Floats:
        """What the truth issues after every event: parameters of a Lomax or an exponential decay, (N, 3)."""
        truth, last = self.truth(), np.full(int(self.run.user.max()) + 1, np.nan)
        found = np.empty((len(self.sets), 3))
        for i, (user, time, mark) in enumerate(zip(self.run.user, self.run.time, self.run.mark, strict=True)):
            truth.see(user, time - last[user], mark)
            last[user] = time
            found[i] = truth.law(user)
        return found

    def open_at(self, numbers: Iterable[int]) -> Floats:
        """Σ ln S of the truth after each of these numbers of events, ascending."""
        truth, last = self.truth(), np.full(int(self.run.user.max()) + 1, np.nan)
        found, done = [], 0
        for n in numbers:
            for i in range(done, n):
                user, time = int(self.run.user[i]), float(self.run.time[i])
                truth.see(user, time - last[user], int(self.run.mark[i]))
                last[user] = time
            done = n
            users = np.flatnonzero(~np.isnan(last))
            found.append(truth.log_survival(users, self.run.time[max(n, 1) - 1] - last[users]).sum())
        return np.array(found)


def _canary(
    process: Process, truth: Callable[[int], Truth], events: int, users: int, entry_s: float
) -> Canary:
    run = simulate(process, events=events, users=users, seed=11, entry_s=entry_s)
    time = 1.7e9 + np.round(run.time, 6)
    sets = [
        TieSet(f"u{u}", float(t), (f"m{m}",), offset=i)
        for i, (u, t, m) in enumerate(zip(run.user.tolist(), time, run.mark.tolist(), strict=True))
    ]
    return Canary(sets, run, lambda: truth(users))


@cache
def canary(kind: str, events: int = 12_000, users: int = 1500) -> Canary:
    """One of `poisson`, `gamma-poisson`, `hawkes`; users enter over three hours."""
    if kind == "poisson":
        poisson = Poisson(1 / HOUR, marks=5)
        return _canary(poisson, lambda n: PoissonTruth(poisson, n), events, users, 3 * HOUR)
    if kind == "gamma-poisson":
        gamma = GammaPoisson(1.5, 1.5 * HOUR, marks=5)
        return _canary(gamma, lambda n: BayesTruth(gamma, n), events, users, 3 * HOUR)
    hawkes = Hawkes(1 / HOUR, branching=0.7, decay=1 / 300, marks=6, seed=2)
    return _canary(hawkes, lambda n: HawkesTruth(hawkes, n), events, users, 3 * HOUR)


@dataclass
class Verdict:
    """What a judge found; gains over the truth are (scorers,) in the whole and (scorers, windows).

    `apart` is the mean of at-arrival minus issued, `arrival_late` the gain of at-arrival scores without open
    waits, both over the second half; `cell_minus_point` the largest difference of the two scores of a gap.
    """

    names: tuple[str, ...]
    mark_names: tuple[str, ...]
    whole: Floats
    windows: Floats
    mark_whole: Floats
    mark_windows: Floats
    apart: Floats
    cell_minus_point: float
    resolution: float
    arrival_late: Floats

    def offenders(self) -> dict[str, float]:
        """Waiting forecasters that beat the truth, with the gain in question."""
        return _offenders(self.names, self.whole, self.windows)

    def mark_offenders(self) -> dict[str, float]:
        """Mark forecasters that do."""
        return _offenders(self.mark_names, self.mark_whole, self.mark_windows)


def _offenders(names: tuple[str, ...], whole: Floats, windows: Floats) -> dict[str, float]:
    found = {n: float(g) for n, g in zip(names, whole, strict=True) if not g <= WHOLE}
    found |= {
        f"{n} in a window": float(g.max())
        for n, g in zip(names, windows, strict=True)
        if not g.max() <= WINDOW
    }
    return found


def engine_of(enabled: tuple[str, ...], make: type[Engine] = Engine) -> Engine:
    return make(Settings(models=ModelsSettings(enabled=enabled)))


def plant(engine: Engine, name: str, change: Callable[[Batch, Walk], Walk]) -> Engine:
    """Let a model of an engine answer otherwise than it does."""
    model = engine.models[name]
    walk = model.walk
    model.walk = lambda batch: change(batch, walk(batch))  # type: ignore[method-assign]
    return engine


def judge(engine: Engine, stream: Canary, cut: int, events: int | None = None) -> Verdict:
    """Drive an engine over the first events of a canary in cuts, and compare it with the truth."""
    n_events = len(stream.sets) if events is None else events
    ends = np.append(np.arange(cut, n_events, cut), n_events)
    at = ends[np.searchsorted(ends, np.linspace(0, n_events, N_WINDOWS + 1)[1:].round())]
    truth_open = dict(zip(np.unique(at).tolist(), stream.open_at(np.unique(at).tolist()), strict=True))
    times, marks = np.zeros(len(engine.waits.names)), np.zeros(len(engine.marks.names))
    arrival, apart, late = times.copy(), times.copy(), 0
    worst = 0.0
    reached, mark_reached = {0: times.copy()}, {0: marks.copy()}
    for a, b in zip([0, *ends[:-1]], ends, strict=True):
        result = engine.process(stream.sets[a:b])
        log_f, log_p = stream.run.log_density[a:b], stream.run.log_p_mark[a:b]
        times += _gain(result.waits.log_issued, log_f)
        marks += _gain(result.marks.log_score, log_p)
        worst = max(worst, _cell_minus_point(result))
        if a >= n_events // 2:
            late += int(result.batch.timed.sum())
            arrival += _gain(result.waits.log_arrival, log_f)
            apart += np.nansum(result.waits.log_arrival - result.waits.log_issued, axis=1)
        if b in truth_open:
            reached[b] = times + open_scores(engine) - truth_open[b]
            mark_reached[b] = marks.copy()
    by_window = np.diff([reached[0], *(reached[n] for n in at)], axis=0).T
    marks_by_window = np.diff([mark_reached[0], *(mark_reached[n] for n in at)], axis=0).T
    return Verdict(
        engine.waits.names, engine.marks.names, reached[n_events], by_window, marks, marks_by_window,
        apart / late, worst, engine.waits.resolution.delta_s, arrival,
    )  # fmt: skip


def _gain(score: Floats, truth: Floats) -> Floats:
    """Σ of score - truth over the sets that both have scored; NaN of a sleeper counts nothing."""
    return np.asarray(np.nansum(score - truth, axis=1))


def _cell_minus_point(result: CutResult) -> float:
    cell, point = result.waits.log_issued[1:], result.waits.log_point[1:]
    both = np.isfinite(cell) & np.isfinite(point)
    return float(np.abs(cell - point)[both].max(initial=0.0))
