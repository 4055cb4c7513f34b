"""What a lane's metrics are at a moment: gathered per cut, rendered at most once a second.

    cut ─► plain sums (no metric is touched) ─► when a second has passed ─► children set ─► text, as bytes

Rolling windows are differences of the lane's own score boards: the sums now less the sums as they were
1,000 or 10,000 scored events ago. Nothing here is state: a restart begins with empty windows.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from prometheus_client import CollectorRegistry

from streamrec import __version__
from streamrec.arrays import Floats
from streamrec.cut import Cut
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.lane import Lane
from streamrec.measured import Durations, MeasuredWriter, drained
from streamrec.meters import ErrorHistogram, Meters
from streamrec.metric_table import METRICS, PREFIX
from streamrec.metrics.marks import SLICES
from streamrec.metrics.marks import STATS as MARK_STATS
from streamrec.metrics.times import STATS as TIME_STATS
from streamrec.metrics.times import pit_ks
from streamrec.mixture.marks import MarkMixture
from streamrec.mixture.waiting import WaitingMixture
from streamrec.models.recurrent import COUNTERS
from streamrec.processor import CutResult
from streamrec.rolling import Sums, Window
from streamrec.state.store import LaneStore
from streamrec.state.writer import Writer
from streamrec.tally import Tally

RENDER_EVERY_S = 1.0
WINDOWS = {"1k": 1_000, "10k": 10_000}
LoopState = Literal["starting", "restoring", "running", "draining"]
STATES: tuple[LoopState, ...] = get_args(LoopState)
Clock = Callable[[], float]


class Telemetry:
    """The metrics of one lane.

    Parameters
    ----------
    lane : to look at; nothing of it is changed
    registry : the metrics are registered there; other collectors may be there, too
    clock, wall : s, monotonic and since the epoch

    Examples
    --------
    >>> from streamrec.outputs import Outputs
    >>> from streamrec.settings import load_settings
    >>> lane = Lane(load_settings(None, {"models.enabled": ["gamma_poisson"]}, {}), Outputs())
    >>> telemetry = Telemetry(lane, CollectorRegistry())
    >>> "streamrec_tracked_users 0.0" in telemetry.render().decode()
    True
    """

    def __init__(
        self,
        lane: Lane,
        registry: CollectorRegistry,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        self.lane, self.clock, self.wall = lane, clock, wall
        self.meters = Meters(registry)
        self.durations = Durations()
        self.state: LoopState = "starting"
        self.seconds = 0.0
        self._errors = ErrorHistogram(METRICS[PREFIX + "time_abs_error_seconds"], "mixture", registry)
        self._stages: dict[str, list[float]] = {"decode": [], "cut": []}
        self._rendered = -np.inf
        self._silent = False
        self._n_forecasts, self._last_time, self._mark_weight = 0, -np.inf, np.empty(0)
        self._said()
        self.begin()

    def begin(self) -> None:
        """Count from here: the lane is as this process found it."""
        engine = self.lane.engine
        self.tally = Tally(self.lane.cutter)
        self._half: Floats = np.zeros(len(engine.waits.names))
        now = Sums.of(engine.boards, self._half)
        self._windows = {name: Window(size, now) for name, size in WINDOWS.items()}
        self._shown_marks, self._shown_times = _shown(engine.marks), range(len(engine.waits.names))
        self._evicted_before = engine.arena.n_evicted, engine.vocabulary.n_evicted
        self._updates_before = self._updates()
        self._stamp = self.clock()
        self._n_saved = 0

    def open(self, folder: Path) -> bool:
        """`Lane.open` with a measured writer, see there; counted with its duration and its outcome."""
        began, outcome = self.clock(), "rejected"
        try:
            found = self.lane.open(folder, self._writer)
            outcome = "ok" if found else "empty"
            if self.lane.store is not None and self.lane.store.notes:
                outcome = "fallback"
        finally:
            self.meters.observe("restore_seconds", [self.clock() - began])
            self.meters.reach("restores_total", 1, outcome)
        self.begin()
        return found

    def reading(
        self, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Iterator[tuple[Record, Event | Reject]]:
        """Decoded records on their way into the cutter; they pass as they are."""
        if pairs and not self._silent:  # after silence the loop had waited
            self._stages["decode"].append(self.clock() - self._stamp)
        self._silent = not pairs
        return self.tally.reading(pairs)

    def applying(self, cut: Cut) -> None:
        """A cut is about to be applied."""
        self._stamp = self.clock()

    def applied(self, cut: Cut, result: CutResult) -> None:
        """A cut was applied."""
        began = self.clock()
        self._stages["cut"].append(began - self._stamp)
        self.tally.cut(cut)
        self._n_forecasts += result.batch.n_sets
        self._last_time = max(self._last_time, float(result.batch.time.max(initial=-np.inf)))
        self._mark_weight = result.marks.weight
        with np.errstate(invalid="ignore"):
            self._half += (np.abs(result.waits.pit - 0.5) <= 0.25).sum(axis=1)
            error = np.abs(result.waits.median[0] - result.batch.dt)
        self._errors.add(error[~np.isnan(error)])
        now = Sums.of(self.lane.engine.boards, self._half)
        for window in self._windows.values():
            window.add(now)
        self.seconds += self.clock() - began

    def resume(self) -> None:
        """The loop goes on to read: the next stage begins."""
        self._stamp = self.clock()

    def due(self) -> bool:
        """A second has passed since the last text."""
        return self.clock() - self._rendered >= RENDER_EVERY_S

    def render(self) -> bytes:
        """All metrics as they stand, in the Prometheus text format."""
        began = self._rendered = self.clock()
        self._put_pipeline()
        self._put_state()
        self._put_checkpoints()
        self._put_quality()
        text = self.meters.text()
        self.seconds += self.clock() - began
        return text

    def _said(self) -> None:
        """What is always there, also before it first happens."""
        self.meters.put("build_info", 1, __version__, platform.python_version(), version("torch"))
        for outcome in ("ok", "error", "skipped"):
            self.meters.reach("checkpoints_total", 0, outcome)
        for outcome in ("ok", "fallback", "empty", "rejected"):
            self.meters.reach("restores_total", 0, outcome)
        self.meters.put("checkpoint_last_success_timestamp_seconds", 0)

    def _writer(self, store: LaneStore, sync: Callable[[], object]) -> Writer:
        return MeasuredWriter(store, sync, self.durations, self.clock)

    def _put_pipeline(self) -> None:
        meters, lane = self.meters, self.lane
        for state in STATES:
            meters.put("loop_state", float(state == self.state), state)
        for ((topic, partition), outcome), n in self.tally.counts.items():
            meters.reach("events_total", n, topic, str(partition), outcome)
        for reason, n in self.tally.reasons.items():
            meters.reach("dead_letter_total", n, reason)
        for (topic, partition), offset in lane.positions.items():
            meters.put("applied_offset", offset, topic, str(partition))
        for stage, seconds in self._stages.items():
            meters.observe("stage_seconds", seconds, stage)
            seconds.clear()
        if np.isfinite(self._last_time):
            meters.put("last_event_timestamp_seconds", self._last_time)
        meters.put("held_events", lane.cutter.order.n_held + lane.cutter.order.n_open_marks)
        meters.put("applied_events", lane.n_events)
        meters.reach("predictions_total", self._n_forecasts)
        meters.reach("telemetry_seconds_total", self.seconds)

    def _put_state(self) -> None:
        meters, engine = self.meters, self.lane.engine
        users, items = self._evicted_before
        meters.put("tracked_users", engine.arena.n_users)
        meters.put("tracked_items", engine.vocabulary.n_marks)
        meters.reach("evictions_total", engine.arena.n_evicted - users, "user")
        meters.reach("evictions_total", engine.vocabulary.n_evicted - items, "item")
        sizes = {"users": 0, "items": 0, "tables": 0}
        for name, part in engine.components().items():
            kind = {"arena": "users", "vocabulary": "items"}.get(name, "tables")
            sizes[kind] += sum(a.nbytes for table in part.tables().values() for a in table.arrays.values())
        for kind, n_bytes in sizes.items():
            meters.put("state_bytes", n_bytes, kind)

    def _put_checkpoints(self) -> None:
        meters, writer = self.meters, self.lane.writer
        n_saved = getattr(writer, "n_saved", 0)
        meters.reach("checkpoints_total", n_saved, "ok")
        meters.reach("checkpoints_total", getattr(writer, "n_failed", 0), "error")
        meters.reach("checkpoints_total", getattr(writer, "n_skipped", 0), "skipped")
        meters.put("checkpoint_bytes", getattr(writer, "n_bytes", 0))
        meters.observe("checkpoint_seconds", drained(self.durations.written))
        meters.observe("checkpoint_blocked_seconds", drained(self.durations.blocked))
        if n_saved > self._n_saved:
            self._n_saved = n_saved
            meters.put("checkpoint_last_success_timestamp_seconds", self.wall())

    def _put_quality(self) -> None:
        now = Sums.of(self.lane.engine.boards, self._half)
        recent = {name: window.gain(now) for name, window in self._windows.items()}
        for name, sums in {**recent, "all": now}.items():
            self._put_window(name, sums)
        self._put_calibration(recent["10k"])
        self._put_scored(now)
        self._put_updates()
        self._put_weights()

    def _put_window(self, window: str, sums: Sums) -> None:
        put, names = self.meters.put, self.lane.engine.marks.names
        every, seen = sums.marks[0, SLICES.index("all")], sums.marks[:, SLICES.index("seen")]
        put("unseen_item_ratio", _ratio(every[MARK_STATS.index("new")], every[0]), window)
        put("cold_user_ratio", _ratio(every[0] - seen[0, 0], every[0]), window)
        nll: dict[str, float] = {}
        for row in self._shown_marks:
            name, mean = names[row], _means(seen[row])
            nll[name] = mean[MARK_STATS.index("nll")]
            put("prequential_nll", nll[name], name, "mark", window)
            for k, stat in (("1", "accuracy"), ("5", "hit@5"), ("10", "hit@10"), ("20", "hit@20")):
                put("hit_ratio", mean[MARK_STATS.index(stat)], name, k, window)
            put("mrr", mean[MARK_STATS.index("mrr@10")], name, "10", window)
            put("ndcg", mean[MARK_STATS.index("ndcg@10")], name, "10", window)
        for row in self._shown_times:
            name = self.lane.engine.waits.names[row]
            loss = -_means(sums.times[row])[TIME_STATS.index("log_issued")]
            put("prequential_nll", loss, name, "time", window)
            if name in nll:
                put("prequential_nll", nll[name] + loss, name, "total", window)

    def _put_calibration(self, recent: Sums) -> None:
        put, covered = self.meters.put, TIME_STATS.index("covered")
        for row in self._shown_times:
            name, n = self.lane.engine.waits.names[row], recent.times[row, 0]
            put("time_interval_coverage_ratio", _ratio(recent.half[row], n), name, "0.5")
            put("time_interval_coverage_ratio", _ratio(recent.times[row, covered], n), name, "0.9")
            put("calibration_error", pit_ks(recent.pit[row]), name, "pit_ks")

    def _put_scored(self, now: Sums) -> None:
        marks, times = self.lane.engine.marks.names, self.lane.engine.waits.names
        scored = {times[row]: now.times[row, 0] for row in self._shown_times}
        scored |= {marks[row]: now.marks[row, SLICES.index("seen"), 0] for row in self._shown_marks}
        for name, n in scored.items():
            self.meters.reach("prequential_events_total", n, name)

    def _updates(self) -> dict[str, dict[str, int]]:
        """Counters of the networks among the models."""
        found: dict[str, dict[str, int]] = {}
        for name, model in self.lane.engine.models.items():
            counters = getattr(model, "counters", None)
            if counters is not None and len(counters) == len(COUNTERS):
                found[name] = dict(zip(COUNTERS, counters.tolist(), strict=True))
        return found

    def _put_updates(self) -> None:
        for name, counters in self._updates().items():
            new = {key: n - self._updates_before[name][key] for key, n in counters.items()}
            self.meters.reach("updates_total", new["cuts"] - new["skipped"], name, "ok")
            self.meters.reach("updates_total", new["skipped"], name, "skipped_nonfinite")
            self.meters.reach("updates_total", new["rolled_back"], name, "rolled_back")

    def _put_weights(self) -> None:
        engine = self.lane.engine
        if len(self._mark_weight):
            for name, weight in _mark_weights(engine.marks, self._mark_weight).items():
                self.meters.put("mixture_weight", weight, name, "mark")
        prior, names = np.exp(engine.waits.log_prior()).tolist(), _waiting_names(engine.waits)
        for name, weight in zip(names[: len(prior)], prior, strict=True):
            self.meters.put("mixture_weight", weight, name, "time")


def _waiting_names(mixture: WaitingMixture) -> list[str]:
    """Names in the order of the prior's weights: the experts, then their team."""
    experts = mixture.names[-len(mixture.laws) :][: mixture.n_experts]
    return [*experts, "soft_bayes"]


def _shown(mixture: MarkMixture) -> list[int]:
    """Rows of the mark board that are exported: all but the single members of the popularity bank."""
    return [row for row, name in enumerate(mixture.names) if name not in mixture.bank.names]


def _mark_weights(mixture: MarkMixture, weight: Floats) -> dict[str, float]:
    """Weights of the outermost mixture by name; members of the popularity bank count as popularity."""
    merged: dict[str, float] = {}
    for name, w in zip((*mixture.names[2 : 1 + len(weight)], "soft_bayes"), weight.tolist(), strict=True):
        shown = "popularity" if name in mixture.bank.names else name
        merged[shown] = merged.get(shown, 0.0) + w
    return merged


def _means(sums: Floats) -> Floats:
    return sums / sums[0] if sums[0] else np.full(len(sums), np.nan)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
