"""The loop over a historical log with scores at its end: every forecast is made before its event is learned.

    overall     events after the warm-up
    windows     20 stretches of equally many events after the warm-up, each up to the end of a cut
    open(t)     Σ over users of ln S(nothing since the last event) at the clock, for every forecaster

The waiting-time likelihood of a window is Σ scores of the gaps that ended in it + open(end) - open(begin), so
that the windows add up to the whole. `open` is taken at the ends of cuts, which is where windows meet.
"""

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamrec.arrays import Array, Floats
from streamrec.errors import ConfigError
from streamrec.lane import Lane
from streamrec.metrics.boards import Boards
from streamrec.metrics.marks import SLICES, means
from streamrec.metrics.times import time_means
from streamrec.models.bank import NAIVE
from streamrec.processor import CutResult, Engine
from streamrec.state.columns import Columns
from streamrec.stream import Events, drive

N_WINDOWS = 20
UNKNOWN = 1 << 53
"""Events expected of a log that does not say how many it holds: all of it falls into the first window."""
HEADLINE = "seen"


class Ledger:
    """Boards per window, and the open intervals at the windows' ends.

    Parameters
    ----------
    engine : whose results are scored
    n_events : events that will come
    warmup : events before the first window
    """

    def __init__(self, engine: Engine, n_events: int, warmup: int) -> None:
        self.engine = engine
        self.edges = np.linspace(min(warmup, n_events), n_events, N_WINDOWS + 1).astype(np.int64)
        names = engine.marks.names, engine.waits.names
        self.boards = [Boards(*names) for _ in range(N_WINDOWS)]
        self.open_at: Floats = np.zeros((N_WINDOWS + 1, len(names[1])))
        self.done = np.zeros(2, np.int64)  # events, edges passed

    def add(self, result: CutResult) -> None:
        """Give the scores of a cut to the window that is open when it begins.

        A cut is not shared out among windows: gaps and open waits then change hands at one moment.
        """
        self._pass_edges()
        window = int(self.done[1]) - 1
        if 0 <= window < N_WINDOWS:
            counts = self.engine.vocabulary.counts
            self.boards[window].add(result.batch, result.marks, result.waits, counts)
        self.done[0] += len(result.batch.mark)
        self._pass_edges()

    def close(self) -> None:
        """The log has ended: the last window ends here, wherever its edge was expected."""
        self.open_at[self.done[1] :] = open_scores(self.engine)
        self.done[1] = N_WINDOWS + 1

    def _pass_edges(self) -> None:
        passed = int(np.searchsorted(self.edges, self.done[0], side="right"))
        if self.done[1] < passed <= N_WINDOWS:
            self.open_at[self.done[1] : passed] = open_scores(self.engine) if self.done[0] else 0.0
            self.done[1] = passed

    def tables(self) -> Mapping[str, Columns]:
        """No tables."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """The boards of all windows, open scores and progress."""
        own: dict[str, Array] = {"open_at": self.open_at, "done": self.done, "edges": self.edges}
        return own | {f"{w}.{n}": a for w, b in enumerate(self.boards) for n, a in b.scalars().items()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        self.open_at, self.done, self.edges = arrays["open_at"], arrays["done"], arrays["edges"]
        for w, board in enumerate(self.boards):
            mine = {n.partition(".")[2]: a for n, a in arrays.items() if n.partition(".")[0] == str(w)}
            board.load_scalars(mine)

    def report(self) -> dict[str, Any]:
        """Figures of the whole and of each window."""
        whole = _figures(self.boards, self.open_at[-1] - self.open_at[0])
        gains = np.diff(self.open_at, axis=0)
        return {**whole, "windows": [_figures([b], gains[w]) for w, b in enumerate(self.boards)]}


def open_scores(engine: Engine) -> Floats:
    """Σ ln S of all users' outstanding forecasts at the clocks of their partitions, per forecaster."""
    arena = engine.arena
    rows = np.flatnonzero(~np.isnan(arena["last_time"]))
    if not len(rows):
        return np.zeros(len(engine.waits.names))
    order = np.argsort(engine.risk.partitions)
    at = order[np.searchsorted(engine.risk.partitions[order], arena["history.partition"][rows])]
    elapsed = np.maximum(engine.risk.clocks[at] - arena["last_time"][rows], 0.0)
    return engine.waits.open_score(rows, elapsed)


def _figures(boards: list[Boards], open_gain: Floats) -> dict[str, Any]:
    """Report of boards added up: mixture, experts and naive rules."""
    marks, times = boards[0].marks, boards[0].times
    mark_sums = np.sum([b.marks.sums for b in boards], axis=0)
    issued = np.sum([b.issued.sums for b in boards], axis=0)
    time_sums, pit = (
        np.sum([b.times.sums for b in boards], axis=0),
        np.sum([b.times.pit for b in boards], axis=0),
    )
    density = np.sum([b.times.density for b in boards], axis=0)
    every: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(marks.names):
        slices = {part: means(mark_sums[i, j]) for j, part in enumerate(SLICES)}
        every[name] = {"mark": slices[HEADLINE], "mark_all": slices["all"], "slices": slices}
    for i, name in enumerate(times.names):
        every.setdefault(name, {})["time"] = time_means(time_sums[i], pit[i], float(open_gain[i]))
    mixture = every.pop("mixture")
    mixture["mark_issued"] = means(issued[0, SLICES.index("all")])
    mixture["time"]["log_density_issued"] = float(density[1] / density[0]) if density[0] else float("nan")
    naive = {name: every[name] for name in NAIVE if name in every}
    layers = {"soft_bayes": every.pop("soft_bayes")}
    experts = {name: figures for name, figures in every.items() if name not in NAIVE[:-1]}
    return {"mixture": mixture, "layers": layers, "experts": experts, "naive": naive}


def evaluate(
    events: Events,
    lane: Lane,
    warmup: float = 0.0,
    folder: Path | None = None,
    on_cut: Callable[[CutResult], None] = lambda _: None,
) -> dict[str, Any]:
    """Drive a log through a lane and report.

    Parameters
    ----------
    lane : not opened yet
    warmup : events that are learned but not scored; below 1 a share of all events
    folder : where the state is kept; in memory only if None

    Returns
    -------
    dict
        Ready for JSON, with the keys named in `docs/metrics.md`.
    """
    n_events = events.count() or UNKNOWN
    if n_events == UNKNOWN and 0 < warmup < 1:
        raise ConfigError(f"--warmup {warmup}: a pipe does not say how long it is; give a number of events")
    ledger = Ledger(lane.engine, n_events, int(warmup * n_events) if warmup < 1 else int(warmup))
    lane.extra["windows"] = ledger
    if folder is not None:
        lane.open(folder)
    wall, cpu, before = time.perf_counter(), time.process_time(), lane.n_events
    for result in drive(events, lane):
        ledger.add(result)
        on_cut(result)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    ledger.close()
    figures = ledger.report()
    return {
        **_about(lane),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "events_per_second": (lane.n_events - before) / seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "scored_marks": int(figures["mixture"]["mark"]["events"]),
        "scored_times": int(figures["mixture"]["time"]["events"]),
        **figures,
    }


def _about(lane: Lane) -> dict[str, Any]:
    return {
        "events": lane.n_events,
        "users": lane.engine.arena.n_users,
        "marks": lane.engine.vocabulary.n_ever,
        "bins": lane.cutter.bins.counts._asdict(),
        "digest": lane.learned(),
        "clock_resolution_s": lane.engine.waits.resolution.delta_s,
    }


def cumulative(engine: Engine) -> dict[str, Any]:
    """Figures of everything that an engine has scored."""
    return _figures([engine.boards], open_scores(engine))


def flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a nested report with its dotted name."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield prefix + name, float(value)
