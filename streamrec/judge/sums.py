"""Sums of scores that come out the same in whatever order they are added.

    Σ x = 2⁻⁸⁰ Σ trunc(2⁸⁰ x)        whole numbers of any size: addition is exact

so that figures do not depend on how the two logs were interleaved, in how many goes they were read, or where
a judge was stopped. Figures are named as in `metrics/marks.py`.

    windows   stretches of `window_s` seconds of event time; of more than 100 the oldest become one
"""

import math
from collections.abc import Mapping

import msgspec

KEPT_WINDOWS = 100
_UNIT = 2.0**80
COUNTS = (
    "hit", "miss", "expired", "superseded", "marks", "impossible", "hit@1", "hit@5", "hit@10", "hit@20",
    "in_set", "perhaps", "times", "impossible_times", "intervals", "inside",
)  # fmt: skip
SUMS = ("nll", "mrr@10", "ndcg@10", "log_density")
CUTOFFS = (1, 5, 10, 20)


class Sums:
    """Counts and exact sums of one stretch of time.

    Examples
    --------
    >>> sums = Sums()
    >>> sums.add_mark(math.log(0.5), 1.0, True); sums.add_mark(math.log(0.125), 4.0, None)
    >>> figures = sums.report()["mark_issued"]
    >>> round(figures["nll"], 6), figures["hit@1"], figures["hit@5"], figures["mrr@10"]
    (1.386294, 0.5, 1.0, 0.625)
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTS, 0)
        self.sums = dict.fromkeys(SUMS, 0)

    def add_mark(self, log_score: float, rank: float, in_set: bool | None) -> None:
        """One mark: its score and rank, and whether the 90 % set held it (None: the record does not say)."""
        counts, sums = self.counts, self.sums
        counts["marks"] += 1
        if log_score == -math.inf:
            counts["impossible"] += 1
        else:
            sums["nll"] -= exact(log_score)
        if rank <= 20:
            for k in CUTOFFS:
                counts[f"hit@{k}"] += rank <= k
        if rank <= 10:
            sums["mrr@10"] += exact(1.0 / rank)
            sums["ndcg@10"] += exact(1.0 / math.log2(1.0 + rank))
        counts["in_set"] += in_set is True
        counts["perhaps"] += in_set is None

    def add_time(self, log_density: float, inside: bool | None) -> None:
        """One gap: its score, and whether it was in the 90 % interval."""
        counts = self.counts
        counts["times"] += not math.isnan(log_density)
        if log_density == -math.inf:
            counts["impossible_times"] += 1
        elif not math.isnan(log_density):
            self.sums["log_density"] += exact(log_density)
        counts["intervals"] += inside is not None
        counts["inside"] += inside is True

    def plus(self, other: "Sums") -> None:
        """Add all of another."""
        for name in COUNTS:
            self.counts[name] += other.counts[name]
        for name in SUMS:
            self.sums[name] += other.sums[name]

    def report(self) -> dict[str, dict[str, float]]:
        """Outcomes and means; NaN where nothing was judged."""
        counts, marks = self.counts, self.counts["marks"]
        nll = math.inf if counts["impossible"] else self.mean("nll", marks)
        density = -math.inf if counts["impossible_times"] else self.mean("log_density", counts["times"])
        return {
            "outcomes": {name: counts[name] for name in COUNTS[:4]},
            "mark_issued": {
                "events": marks,
                "nll": nll,
                **{f"hit@{k}": share(counts[f"hit@{k}"], marks) for k in CUTOFFS},
                "mrr@10": self.mean("mrr@10", marks),
                "ndcg@10": self.mean("ndcg@10", marks),
            },
            "set90": {
                "at_least": share(counts["in_set"], marks),
                "at_most": share(counts["in_set"] + counts["perhaps"], marks),
            },
            "time": {
                "events": counts["times"],
                "log_density_issued": density,
                "interval90": share(counts["inside"], counts["intervals"]),
            },
        }

    def mean(self, name: str, n: int) -> float:
        """A sum over n."""
        return self.sums[name] / n / _UNIT if n else math.nan

    def dump(self) -> tuple[list[int], list[str]]:
        """All numbers; sums as text, since they outgrow 64 bits."""
        return list(self.counts.values()), [f"{x:x}" for x in self.sums.values()]

    def load(self, counts: list[int], sums: list[str]) -> None:
        """Take back what `dump` gave."""
        self.counts = dict(zip(COUNTS, counts, strict=True))
        self.sums = {name: int(text, 16) for name, text in zip(SUMS, sums, strict=True)}


class WindowState(msgspec.Struct, array_like=True):
    """Sums as they are written down; `index` is -1 for what came before the oldest window kept."""

    index: int
    counts: list[int]
    sums: list[str]


class Windows:
    """Sums of everything, and of each window of event time.

    Parameters
    ----------
    window_s : length of a window in seconds

    Examples
    --------
    >>> windows = Windows(3600.0)
    >>> for part in windows.at(7300.0):
    ...     part.counts["hit"] += 1
    >>> windows.total.counts["hit"], [start for start, _ in windows.parts()]
    (1, [7200.0])
    """

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.total = Sums()
        self.earlier = Sums()
        self._parts: dict[int, Sums] = {}

    def at(self, time: float) -> tuple[Sums, Sums]:
        """Where something that happened at `time` is added: the total and its window."""
        index = math.floor(time / self.window_s)
        part = self._parts.get(index)
        if part is None:
            part = self._new(index)
        return self.total, part

    def parts(self) -> list[tuple[float, Sums]]:
        """Begin and sums of the windows kept, in order of time."""
        return [(index * self.window_s, self._parts[index]) for index in sorted(self._parts)]

    def dump(self) -> list[WindowState]:
        """The total, what is earlier than all windows, and the windows."""
        kept = [(-1, self.total), (-1, self.earlier), *sorted(self._parts.items(), key=lambda kv: kv[0])]
        return [WindowState(index, *sums.dump()) for index, sums in kept]

    def load(self, states: list[WindowState]) -> None:
        """Take back what `dump` gave."""
        for sums, state in zip((self.total, self.earlier), states, strict=False):
            sums.load(state.counts, state.sums)
        self._parts = {}
        for state in states[2:]:
            self._parts[state.index] = Sums()
            self._parts[state.index].load(state.counts, state.sums)

    def _new(self, index: int) -> Sums:
        """A new window, unless all that are kept are newer."""
        full = len(self._parts) >= KEPT_WINDOWS
        oldest = min(self._parts) if full else index
        if full and index < oldest:
            return self.earlier
        if full:
            self.earlier.plus(self._parts.pop(oldest))
        return self._parts.setdefault(index, Sums())


def exact(x: float) -> int:
    """A number in units of 2⁻⁸⁰."""
    return int(x * _UNIT)


def share(part: float, whole: float) -> float:
    """part / whole; NaN of nothing."""
    return part / whole if whole else math.nan


def named(report: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The numbers of a report by dotted name."""
    return {f"{part}.{name}": x for part, figures in report.items() for name, x in figures.items()}
