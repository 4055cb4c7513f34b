"""The metrics of the table: values by labels, counters that only rise, and their text.

    put, reach, rise, observe ──► plain numbers ──► text, with the head of every line made once

The library's own text takes ten times as long, and the loop waits for it; a test holds the two side by side.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.utils import floatToGoString

from streamrec.arrays import Floats
from streamrec.metric_table import METRICS, PREFIX, Metric

Labels = tuple[str, ...]
_number = cast(Callable[[float], str], floatToGoString)


class Meters:
    """The values of all metrics of the table.

    Parameters
    ----------
    registry : of other collectors, whose text comes after ours

    Examples
    --------
    >>> meters = Meters(CollectorRegistry())
    >>> meters.put("tracked_users", 3, "0")
    >>> meters.reach("dead_letter_total", 2, "not_json")
    >>> [line for line in meters.text().decode().splitlines() if line.startswith("streamrec_")]
    ['streamrec_dead_letter_total{reason="not_json"} 2.0', 'streamrec_tracked_users{lane="0"} 3.0']
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._values: dict[str, dict[Labels, float]] = {name: {} for name in METRICS}
        self._buckets: dict[str, dict[Labels, _Buckets]] = {name: {} for name in METRICS}
        self._heads: dict[tuple[str, Labels], str] = {}

    def put(self, name: str, value: float, *labels: str) -> None:
        """A gauge has this value; NaN, which says that there is none yet, leaves it as it is."""
        if not math.isnan(value):
            self._of(name, Gauge)[labels] = value

    def reach(self, name: str, total: float, *labels: str) -> None:
        """A counter has risen to `total`; it does not fall."""
        values = self._of(name, Counter)
        values[labels] = max(total, values.get(labels, 0.0))

    def rise(self, name: str, by: float, *labels: str) -> None:
        """A counter rises."""
        values = self._of(name, Counter)
        values[labels] = values.get(labels, 0.0) + max(by, 0.0)

    def observe(self, name: str, values: Iterable[float], *labels: str) -> None:
        """A histogram gets these values."""
        buckets = self._buckets_of(name, labels)
        for value in values:
            buckets.add(value)

    def observe_array(self, name: str, values: Floats, *labels: str) -> None:
        """A histogram gets a whole array."""
        self._buckets_of(name, labels).add_array(values)

    def drop(self, **labels: str) -> None:
        """Forget all values that have these labels: what they told of is not ours any more."""
        for name, metric in METRICS.items():
            at = [metric.labels.index(label) for label in labels if label in metric.labels]
            if len(at) == len(labels):
                wanted = list(labels.values())
                held: dict[Labels, Any]
                for held in (self._values[name], self._buckets[name]):
                    for key in [key for key in held if [key[i] for i in at] == wanted]:
                        del held[key]

    def drop_one(self, name: str, *labels: str) -> None:
        """Forget one gauge or counter."""
        self._values[PREFIX + name].pop(labels, None)

    def text(self) -> bytes:
        """Everything in the Prometheus text format."""
        lines: list[str] = []
        for name, metric in METRICS.items():
            held = self._values[name] or self._buckets[name]
            if held:
                lines.append(f"# HELP {name} {_escaped_help(metric.help)}\n")
                lines.append(f"# TYPE {name} {metric.kind.__name__.lower()}\n")
                lines += self._lines(name)
        return "".join(lines).encode() + generate_latest(self.registry)

    def _lines(self, name: str) -> Iterator[str]:
        for labels, value in self._values[name].items():
            yield f"{self._head(name, labels)} {_number(value)}\n"
        for labels, buckets in self._buckets[name].items():
            yield from buckets.lines(name, labels)

    def _head(self, name: str, labels: Labels) -> str:
        head = self._heads.get((name, labels))
        if head is None:
            head = self._heads[name, labels] = name + _written(METRICS[name].labels, labels)
        return head

    def _of(self, name: str, kind: type[Counter] | type[Gauge]) -> dict[Labels, float]:
        metric = METRICS[PREFIX + name]
        assert metric.kind is kind, f"{name} is no {kind.__name__.lower()}"
        return self._values[metric.name]

    def _buckets_of(self, name: str, labels: Labels) -> "_Buckets":
        metric = METRICS[PREFIX + name]
        assert metric.kind is Histogram, f"{name} is no histogram"
        held = self._buckets[metric.name]
        if labels not in held:
            held[labels] = _Buckets(metric)
        return held[labels]


class _Buckets:
    """Values counted by the bucket they fall into."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.counts = [0] * (len(metric.buckets) + 1)
        self.total = 0.0
        self._heads: list[str] = []

    def add(self, value: float) -> None:
        """Take one value in."""
        self.counts[bisect_left(self.metric.buckets, value)] += 1
        self.total += value if math.isfinite(value) else 0.0

    def add_array(self, values: Floats) -> None:
        """Take values in; infinite ones count in the last bucket and not in the sum."""
        at = np.searchsorted(self.metric.buckets, values, side="left")
        for i, n in enumerate(np.bincount(at, minlength=len(self.counts)).tolist()):
            self.counts[i] += n
        self.total += float(values[np.isfinite(values)].sum())

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """As text."""
        names = self.metric.labels
        if not self._heads:
            bounds = [_number(bound) for bound in (*self.metric.buckets, math.inf)]
            self._heads = [f"{name}_bucket" + _written((*names, "le"), (*labels, b)) for b in bounds]
            self._heads += [f"{name}_{part}" + _written(names, labels) for part in ("count", "sum")]
        n = 0
        for head, count in zip(self._heads, self.counts, strict=False):
            n += count
            yield f"{head} {float(n)}\n"
        yield f"{self._heads[-2]} {float(n)}\n"
        yield f"{self._heads[-1]} {_number(self.total)}\n"


def _written(names: Labels, values: Labels) -> str:
    assert len(names) == len(values), f"wanted values of {names}, got {values}"
    pairs = [f'{name}="{_escaped(value)}"' for name, value in sorted(zip(names, values, strict=True))]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
