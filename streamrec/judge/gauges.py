"""The judge's figures for Prometheus: gauges, set from the report; `docs/rooms/judge.md` lists them.

`span` is "all", or "window" for the newest window of event time. No user or mark is a label.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

PREFIX = "streamrec_judge_"
TABLE = {
    "outcomes": ("Forecasts by what became of them.", ["span", "outcome"]),
    "marks": ("Marks that were scored.", ["span"]),
    "hit_ratio": ("Share of marks ranked k or better.", ["span", "k"]),
    "mrr10": ("Mean reciprocal rank, 0 beyond 10.", ["span"]),
    "ndcg10": ("Mean of 1 / log2(1 + rank), 0 beyond 10.", ["span"]),
    "mark_nll_nats": ("Mean of -ln p of the marks by the published lists.", ["span"]),
    "times": ("Waiting times that were scored.", ["span"]),
    "time_log_density": ("Mean log density of the waiting times by the published tables.", ["span"]),
    "interval90_ratio": ("Share of waiting times inside interval90; healthy: 0.9.", ["span"]),
    "set90_ratio": ("Share of marks that are certainly inside set90.", ["span"]),
    "forecasts": ("Lines of the log of forecasts: read, repeated, bad, other_models, let_go.", ["kind"]),
    "events": ("Records and marks of the log of events, by what became of them.", ["kind"]),
}
_CUTOFFS = ("hit@1", "hit@5", "hit@10", "hit@20")
_PLAIN = {
    "mrr10": ("mark_issued", "mrr@10"),
    "ndcg10": ("mark_issued", "ndcg@10"),
    "mark_nll_nats": ("mark_issued", "nll"),
    "marks": ("mark_issued", "events"),
    "times": ("time", "events"),
    "time_log_density": ("time", "log_density_issued"),
    "interval90_ratio": ("time", "interval90"),
    "set90_ratio": ("set90", "at_least"),
}


class Gauges:
    """All gauges of a judge.

    Parameters
    ----------
    registry : that serves them
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            name: Gauge(PREFIX + name, text, labels, registry=registry)
            for name, (text, labels) in TABLE.items()
        }

    def show(self, report: Mapping[str, Any]) -> None:
        """Set them from `Judge.report()`."""
        self._span("all", report)
        if report["windows"]:
            self._span("window", report["windows"][-1])
        for name in ("forecasts", "events"):
            for kind, n in report[name].items():
                self._gauges[name].labels(kind).set(n)

    def _span(self, span: str, figures: Mapping[str, Any]) -> None:
        for outcome, n in figures["outcomes"].items():
            self._gauges["outcomes"].labels(span, outcome).set(n)
        for name in _CUTOFFS:
            self._gauges["hit_ratio"].labels(span, name.removeprefix("hit@")).set(
                figures["mark_issued"][name]
            )
        for name, (part, key) in _PLAIN.items():
            self._gauges[name].labels(span).set(figures[part][key])
