"""What the metrics are at a moment: gathered per cut, rendered at most once a second.

    cut ─► plain sums (no metric is touched) ─► when a second has passed ─► values set ─► text, as bytes

One process has any number of lanes, each with its own figures (`lane_figures`); what belongs to the process
is here. A text that takes long to make is made less often, so that the loop spends at most a twentieth of its
time on it.
"""

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, get_args

import numpy as np
from prometheus_client import CollectorRegistry

from streamrec import __version__
from streamrec.cut import Cut
from streamrec.daemon.observer import State
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject
from streamrec.lane import Lane
from streamrec.lane_figures import LaneFigures
from streamrec.logs import Lines
from streamrec.measured import Durations, MeasuredWriter, drained
from streamrec.meters import Meters
from streamrec.processor import CutResult
from streamrec.state.store import LaneStore
from streamrec.state.writer import Writer
from streamrec.tally import Tally

RENDER_EVERY_S = 1.0
SHARE = 0.05
"""Most of the loop's time that goes into texts."""

LoopState = State
STATES: tuple[State, ...] = get_args(State)
Clock = Callable[[], float]
Pairs = Sequence[tuple[Record, Event | Reject]]


class Counting(Protocol):
    """Counts a lane's records by place and bin (`tally.Tally`, `trail.Trail`)."""

    counts: Counter[tuple[Place, str]]
    reasons: Counter[str]

    def reading(self, pairs: Pairs) -> Iterable[tuple[Record, Event | Reject]]:
        """Decoded records on their way into the cutter."""
        ...

    def cut(self, cut: Cut) -> None:
        """A cut was applied."""
        ...


class Telemetry:
    """The metrics of a process and its lanes.

    Parameters
    ----------
    registry : of other collectors
    clock, wall : s, monotonic and since the epoch
    lines : whose lines are counted

    Examples
    --------
    >>> from streamrec.outputs import Outputs
    >>> from streamrec.settings import load_settings
    >>> lane = Lane(load_settings(None, {"models.enabled": ["gamma_poisson"]}, {}), Outputs())
    >>> telemetry = Telemetry(CollectorRegistry())
    >>> telemetry.add(0, lane)
    >>> 'streamrec_tracked_users{lane="0"} 0.0' in telemetry.render().decode()
    True
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
        lines: Lines | None = None,
    ) -> None:
        self.clock, self.wall, self.lines = clock, wall, lines
        self.meters = Meters(registry)
        self.durations = Durations()
        self.state: State = "starting"
        self.seconds = 0.0
        self.figures: dict[int, LaneFigures] = {}
        self.tallies: dict[int, Counting] = {}
        self._stages: dict[str, list[float]] = {"decode": [], "cut": []}
        self._rendered, self._cost = -np.inf, 0.0
        self._silent = False
        self._last_time = -np.inf
        self._stamp = clock()
        self._said()

    def add(self, number: int, lane: Lane, tally: Counting | None = None) -> None:
        """A lane is ours, as it stands now; `tally` counts its records, by default one that reads along."""
        self.figures[number] = LaneFigures(number, lane, self.meters)
        self.tallies[number] = tally or Tally(lane.cutter)
        self._stamp = self.clock()

    def remove(self, number: int) -> None:
        """A lane is not ours any more."""
        self._put_tallies()
        del self.tallies[number]
        self.figures.pop(number).gone()

    def restored(self, seconds: float, outcome: str) -> None:
        """A state folder was opened: ok, fallback, empty, rejected."""
        self.meters.observe("restore_seconds", [seconds])
        self.meters.rise("restores_total", 1, outcome)

    def open(self, number: int, lane: Lane, folder: Path) -> bool:
        """`Lane.open` with a measured writer, see there; counted with its duration and its outcome."""
        began, outcome = self.clock(), "rejected"
        try:
            found = lane.open(folder, self.make_writer)
            outcome = outcome_of(lane, found)
        finally:
            self.restored(self.clock() - began, outcome)
        self.add(number, lane)
        return found

    def make_writer(self, store: LaneStore, sync: Callable[[], object]) -> Writer:
        """A checkpoint writer whose durations are measured."""
        return MeasuredWriter(store, sync, self.durations, self.clock)

    def reading(self, number: int, pairs: Pairs) -> Iterable[tuple[Record, Event | Reject]]:
        """Decoded records of a lane on their way into it; they pass as they are."""
        if pairs and not self._silent:  # after silence the loop had waited
            self._stages["decode"].append(self.clock() - self._stamp)
        self._silent = not pairs
        self._stamp = self.clock()
        return self.tallies[number].reading(pairs)

    def applying(self) -> None:
        """A cut is about to be applied."""
        self._stamp = self.clock()

    def applied(self, number: int, cut: Cut, result: CutResult) -> None:
        """A cut of a lane was applied."""
        began = self.clock()
        self._stages["cut"].append(began - self._stamp)
        self.tallies[number].cut(cut)
        self.figures[number].applied(result)
        self.meters.rise("predictions_total", result.batch.n_sets)
        self._last_time = max(self._last_time, float(result.batch.time.max(initial=-np.inf)))
        self.seconds += self.clock() - began

    def resume(self) -> None:
        """The loop goes on to read: the next stage begins."""
        self._stamp = self.clock()

    def due(self) -> bool:
        """A second has passed since the last text, or longer if texts are dear."""
        return self.clock() - self._rendered >= max(RENDER_EVERY_S, self._cost / SHARE)

    def render(self) -> bytes:
        """All metrics as they stand, in the Prometheus text format."""
        began = self._rendered = self.clock()
        self._put_process()
        self._put_tallies()
        wall = self.wall()
        for figures in self.figures.values():
            figures.show(wall)
        text = self.meters.text()
        self._cost = self.clock() - began
        self.seconds += self._cost
        return text

    def _said(self) -> None:
        """What is always there, also before it first happens."""
        self.meters.put("build_info", 1, __version__, platform.python_version(), version("torch"))
        self.meters.reach("predictions_total", 0)
        for outcome in ("ok", "fallback", "empty", "rejected"):
            self.meters.reach("restores_total", 0, outcome)
        for level in ("info", "warning", "error"):
            self.meters.reach("log_messages_total", 0, level)
        for name in ("restore_seconds", "checkpoint_seconds", "checkpoint_blocked_seconds"):
            self.meters.observe(name, ())

    def _put_process(self) -> None:
        meters = self.meters
        for state in STATES:
            meters.put("loop_state", float(state == self.state), state)
        for stage, seconds in self._stages.items():
            meters.observe("stage_seconds", seconds, stage)
            seconds.clear()
        if np.isfinite(self._last_time):
            meters.put("last_event_timestamp_seconds", self._last_time)
        meters.observe("checkpoint_seconds", drained(self.durations.written))
        meters.observe("checkpoint_blocked_seconds", drained(self.durations.blocked))
        meters.reach("telemetry_seconds_total", self.seconds)
        for level, n in list(self.lines.counts.items()) if self.lines is not None else ():
            meters.reach("log_messages_total", n, level)

    def _put_tallies(self) -> None:
        """What was counted by place and by reason since the last text."""
        for number, tally in self.tallies.items():
            for ((topic, partition), outcome), n in tally.counts.items():
                self.meters.rise("events_total", n, topic, str(partition), outcome)
            for reason, n in tally.reasons.items():
                self.meters.rise("dead_letter_total", n, reason)
            tally.counts.clear()
            tally.reasons.clear()
            for (topic, partition), offset in self.figures[number].lane.positions.items():
                self.meters.put("applied_offset", offset, topic, str(partition))


def outcome_of(lane: Lane, found: bool) -> str:
    """How the opening of a lane ended: whether there was a checkpoint, and the newest one."""
    if lane.store is not None and lane.store.notes:
        return "fallback"
    return "ok" if found else "empty"
