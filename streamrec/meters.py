"""The metrics of the table in a registry: children are kept, counters only rise, errors come by the cut."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily

from streamrec.arrays import Floats, Ints
from streamrec.metric_table import METRICS, PREFIX, Metric

Child = Counter | Gauge | Histogram
_leave_out_created = cast(Callable[[], None], disable_created_metrics)


class Meters:
    """The metrics of the table in a registry, with their children kept.

    Parameters
    ----------
    registry : where the metrics are registered

    Examples
    --------
    >>> meters = Meters(CollectorRegistry())
    >>> meters.put("tracked_users", 3)
    >>> meters.reach("dead_letter_total", 2, "not_json")
    >>> [line for line in meters.text().decode().splitlines() if line.startswith("streamrec_")]
    ['streamrec_tracked_users 3.0', 'streamrec_dead_letter_total{reason="not_json"} 2.0']
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        _leave_out_created()  # prometheus-client has no other way to leave them out
        self.registry = registry
        self._parents: dict[str, Child] = {}
        self._children: dict[tuple[str, ...], Child] = {}
        self._reached: dict[tuple[str, ...], float] = {}

    def put(self, name: str, value: float, *labels: str) -> None:
        """A gauge has this value; NaN, which says that there is none yet, leaves it as it is."""
        if math.isnan(value):
            return
        child = self._child(name, labels)
        assert isinstance(child, Gauge)
        child.set(value)

    def reach(self, name: str, total: float, *labels: str) -> None:
        """A counter has risen to `total`; it does not fall."""
        child, key = self._child(name, labels), (name, *labels)
        assert isinstance(child, Counter)
        child.inc(max(0.0, total - self._reached.get(key, 0.0)))
        self._reached[key] = max(total, self._reached.get(key, 0.0))

    def observe(self, name: str, seconds: Iterable[float], *labels: str) -> None:
        """A histogram gets these durations."""
        child = self._child(name, labels)
        assert isinstance(child, Histogram)
        for value in seconds:
            child.observe(value)

    def text(self) -> bytes:
        """Everything in the Prometheus text format."""
        return generate_latest(self.registry)

    def _child(self, name: str, labels: tuple[str, ...]) -> Child:
        child = self._children.get((name, *labels))
        if child is None:
            parent = self._parents.get(name)
            if parent is None:
                parent = self._parents[name] = _made(METRICS[PREFIX + name], self.registry)
            child = self._children[name, *labels] = parent.labels(*labels) if labels else parent
        return child


def _made(metric: Metric, registry: CollectorRegistry) -> Child:
    if metric.kind is Histogram:
        return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    return metric.kind(metric.name, metric.help, metric.labels, registry=registry)


class ErrorHistogram:
    """A histogram that takes in the values of a whole cut at once; registers itself.

    Parameters
    ----------
    metric : its line of the table, with one label
    label : value of that label
    registry : where it is collected
    """

    def __init__(self, metric: Metric, label: str, registry: CollectorRegistry) -> None:
        self.metric, self.label = metric, label
        self.counts: Ints = np.zeros(len(metric.buckets) + 1, np.int64)
        self.total = 0.0
        registry.register(self)

    def add(self, values: Floats) -> None:
        """Take values in; infinite ones count in the last bucket and not in the sum."""
        at = np.searchsorted(self.metric.buckets, values, side="left")
        self.counts += np.bincount(at, minlength=len(self.counts))
        self.total += float(values[np.isfinite(values)].sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """For the registry."""
        family = HistogramMetricFamily(self.metric.name, self.metric.help, labels=self.metric.labels)
        bounds = [*(str(float(bound)) for bound in self.metric.buckets), "+Inf"]
        sums = np.cumsum(self.counts).astype(float).tolist()
        family.add_metric([self.label], list(zip(bounds, sums, strict=True)), self.total)
        yield family
