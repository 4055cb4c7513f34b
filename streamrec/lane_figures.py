"""What one lane's state and forecasts are like at a moment, as metrics with the lane's number as a label.

Rolling windows are differences of the lane's own score boards: the sums now less the sums as they were
1,000 or 10,000 scored events ago. Nothing here is state: a restart begins with empty windows.
"""

import numpy as np

from streamrec.arrays import Floats
from streamrec.lane import Lane
from streamrec.meters import Meters
from streamrec.metrics.marks import SLICES
from streamrec.metrics.marks import STATS as MARK_STATS
from streamrec.metrics.times import STATS as TIME_STATS
from streamrec.metrics.times import pit_ks
from streamrec.mixture.marks import MarkMixture
from streamrec.mixture.waiting import WaitingMixture
from streamrec.models.recurrent import COUNTERS
from streamrec.processor import CutResult
from streamrec.rolling import Sums, Window

WINDOWS = {"1k": 1_000, "10k": 10_000}


class LaneFigures:
    """Figures of one lane, from when this process has it.

    Parameters
    ----------
    number : of the lane; its label
    lane : to look at; nothing of it is changed
    meters : that take the figures

    Attributes
    ----------
    saved_at : s since the epoch, when a checkpoint was last seen to be on the disk; None before the first
    """

    def __init__(self, number: int, lane: Lane, meters: Meters) -> None:
        self.lane, self.engine, self.meters, self.label = lane, lane.engine, meters, str(number)
        self.saved_at: float | None = None
        self._half: Floats = np.zeros(len(self.engine.waits.names))
        now = Sums.of(self.engine.boards, self._half)
        self._windows = {name: Window(size, now) for name, size in WINDOWS.items()}
        self._shown_marks = _shown(self.engine.marks)
        self._shown_times = range(len(self.engine.waits.names))
        self._evicted_before = self.engine.arena.n_evicted, self.engine.vocabulary.n_evicted
        self._updates_before = self._updates()
        self._n_saved = 0
        self._mark_weight = np.empty(0)
        self._said()

    def applied(self, result: CutResult) -> None:
        """A cut was applied."""
        self._mark_weight = result.marks.weight
        with np.errstate(invalid="ignore"):
            self._half += (np.abs(result.waits.pit - 0.5) <= 0.25).sum(axis=1)
            error = np.abs(result.waits.median[0] - result.batch.dt)
        self.meters.observe_array(
            "time_abs_error_seconds", error[~np.isnan(error)], self.label, self.engine.waits.names[0]
        )
        now = Sums.of(self.engine.boards, self._half)
        for window in self._windows.values():
            window.add(now)

    def show(self, wall: float) -> None:
        """Bring the metrics up to date; `wall` is s since the epoch."""
        order = self.lane.cutter.order
        self.meters.put("held_events", order.n_held + order.n_open_marks, self.label)
        self.meters.put("applied_events", self.lane.n_events, self.label)
        self._put_state()
        self._put_checkpoints(wall)
        self._put_quality()

    def gone(self) -> None:
        """The lane is not ours any more."""
        self.meters.drop(lane=self.label)

    def _said(self) -> None:
        """What is always there, also before it first happens."""
        for outcome in ("ok", "error", "skipped"):
            self.meters.reach("checkpoints_total", 0, self.label, outcome)
        self.meters.put("checkpoint_last_success_timestamp_seconds", 0, self.label)
        self.meters.observe("time_abs_error_seconds", (), self.label, self.engine.waits.names[0])

    def _put_state(self) -> None:
        meters, engine = self.meters, self.engine
        users, items = self._evicted_before
        meters.put("tracked_users", engine.arena.n_users, self.label)
        meters.put("tracked_items", engine.vocabulary.n_marks, self.label)
        meters.reach("evictions_total", engine.arena.n_evicted - users, self.label, "user")
        meters.reach("evictions_total", engine.vocabulary.n_evicted - items, self.label, "item")
        sizes = {"users": 0, "items": 0, "tables": 0}
        for name, part in engine.components().items():
            kind = {"arena": "users", "vocabulary": "items"}.get(name, "tables")
            sizes[kind] += sum(a.nbytes for table in part.tables().values() for a in table.arrays.values())
        for kind, n_bytes in sizes.items():
            meters.put("state_bytes", n_bytes, self.label, kind)

    def _put_checkpoints(self, wall: float) -> None:
        meters, writer = self.meters, self.lane.writer
        n_saved = getattr(writer, "n_saved", 0)
        meters.reach("checkpoints_total", n_saved, self.label, "ok")
        meters.reach("checkpoints_total", getattr(writer, "n_failed", 0), self.label, "error")
        meters.reach("checkpoints_total", getattr(writer, "n_skipped", 0), self.label, "skipped")
        meters.put("checkpoint_bytes", getattr(writer, "n_bytes", 0), self.label)
        if n_saved > self._n_saved:
            self._n_saved, self.saved_at = n_saved, wall
            meters.put("checkpoint_last_success_timestamp_seconds", wall, self.label)

    def _put_quality(self) -> None:
        now = Sums.of(self.engine.boards, self._half)
        recent = {name: window.gain(now) for name, window in self._windows.items()}
        for name, sums in {**recent, "all": now}.items():
            self._put_window(name, sums)
        self._put_calibration(recent["10k"])
        self._put_scored(now)
        self._put_updates()
        self._put_weights()

    def _put(self, name: str, value: float, *labels: str) -> None:
        self.meters.put(name, value, self.label, *labels)

    def _put_window(self, window: str, sums: Sums) -> None:
        put, names = self._put, self.engine.marks.names
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
            name = self.engine.waits.names[row]
            loss = -_means(sums.times[row])[TIME_STATS.index("log_issued")]
            put("prequential_nll", loss, name, "time", window)
            if name in nll:
                put("prequential_nll", nll[name] + loss, name, "total", window)

    def _put_calibration(self, recent: Sums) -> None:
        put, covered = self._put, TIME_STATS.index("covered")
        for row in self._shown_times:
            name, n = self.engine.waits.names[row], recent.times[row, 0]
            put("time_interval_coverage_ratio", _ratio(recent.half[row], n), name, "0.5")
            put("time_interval_coverage_ratio", _ratio(recent.times[row, covered], n), name, "0.9")
            put("calibration_error", pit_ks(recent.pit[row]), name, "pit_ks")

    def _put_scored(self, now: Sums) -> None:
        marks, times = self.engine.marks.names, self.engine.waits.names
        scored = {times[row]: now.times[row, 0] for row in self._shown_times}
        scored |= {marks[row]: now.marks[row, SLICES.index("seen"), 0] for row in self._shown_marks}
        for name, n in scored.items():
            self.meters.reach("prequential_events_total", n, self.label, name)

    def _updates(self) -> dict[str, dict[str, int]]:
        """Counters of the networks among the models."""
        found: dict[str, dict[str, int]] = {}
        for name, model in self.engine.models.items():
            counters = getattr(model, "counters", None)
            if counters is not None and len(counters) == len(COUNTERS):
                found[name] = dict(zip(COUNTERS, counters.tolist(), strict=True))
        return found

    def _put_updates(self) -> None:
        reach = self.meters.reach
        for name, counters in self._updates().items():
            new = {key: n - self._updates_before[name][key] for key, n in counters.items()}
            reach("updates_total", new["cuts"] - new["skipped"], self.label, name, "ok")
            reach("updates_total", new["skipped"], self.label, name, "skipped_nonfinite")
            reach("updates_total", new["rolled_back"], self.label, name, "rolled_back")

    def _put_weights(self) -> None:
        engine = self.engine
        if len(self._mark_weight):
            for name, weight in _mark_weights(engine.marks, self._mark_weight).items():
                self._put("mixture_weight", weight, name, "mark")
        prior, names = np.exp(engine.waits.log_prior()).tolist(), _waiting_names(engine.waits)
        for name, weight in zip(names[: len(prior)], prior, strict=True):
            self._put("mixture_weight", weight, name, "time")


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
