"""Every metric of streamrec: name, type, labels, meaning, and what a healthy value is.

The registry (`telemetry.py`) and the page `docs/metrics-reference.md` are both made from this table:

    python -m streamrec.metric_table > docs/metrics-reference.md

Names follow the Prometheus conventions: one prefix, base units, `_total` on counters and nowhere else.
No user and no mark is ever a label; windows are 1k, 10k (the last scored events of this process) and all
(everything that the lane has scored, over all its runs).
"""

from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

Kind = type[Counter] | type[Gauge] | type[Histogram]

PREFIX = "streamrec_"
SHORT = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Bounds of durations of the program, s."""

GAPS = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0)
"""Bounds of times between events, s."""


class Metric(NamedTuple):
    """One line of the table.

    Parameters
    ----------
    name : as it is scraped; a histogram's without `_bucket`, `_sum`, `_count`
    kind : Counter, Gauge or Histogram of prometheus-client
    labels : names of the labels, few values each
    help : one sentence
    healthy : what a person on duty wants to see
    buckets : upper bounds, of histograms only
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    healthy: str
    buckets: tuple[float, ...] = ()


def _m(
    name: str,
    kind: Kind,
    labels: str,
    text: str,
    healthy: str,
    buckets: tuple[float, ...] = (),
) -> Metric:
    return Metric(PREFIX + name, kind, tuple(labels.split()), text, healthy, buckets)


PIPELINE = (
    _m("build_info", Gauge, "version python torch", "1; what is running.", "the version you deployed"),
    _m("loop_state", Gauge, "state", "1 for the state that the loop is in "
       "(starting, restoring, running, draining), 0 for the others.", "running"),
    _m("events_total", Counter, "topic partition outcome", "Records by the bin in which they ended "
       "(ok, late, duplicate, dead_letter, skipped), in this process.", "rises; mostly ok"),
    _m("dead_letter_total", Counter, "reason", "Records that could not become events, by reason code.",
       "below 1 % of events_total"),
    _m("predictions_total", Counter, "", "Forecasts issued, one per tie set.", "rises with events_total"),
    _m("applied_events", Gauge, "", "Events accepted by the lane over all its runs.", "rises"),
    _m("applied_offset", Gauge, "topic partition", "Next offset to read, as of the last cut.", "rises"),
    _m("held_events", Gauge, "", "Events that wait for late ones, or in a tie set that is still open.",
       "below order.held_events"),
    _m("last_event_timestamp_seconds", Gauge, "", "Largest event time that was applied by this process.",
       "close to now on a live log"),
    _m("stage_seconds", Histogram, "stage", "Time of one piece of work: decode (read and decode a poll) and "
       "cut (journal, forecast, learn and emit one cut).", "stable", SHORT),
    _m("telemetry_seconds_total", Counter, "", "Time the loop spent on these metrics.",
       "below 5 % of the loop's time"),
)  # fmt: skip

STATE = (
    _m("checkpoints_total", Counter, "outcome", "Checkpoints: ok (on the disk), error (the disk refused), "
       "skipped (the writer was busy).", "ok rises; error stays"),
    _m("checkpoint_seconds", Histogram, "", "Time to write one checkpoint, in the writer's thread.",
       "far below the time between checkpoints", SHORT),
    _m("checkpoint_blocked_seconds", Histogram, "", "Time the loop stood still to copy one checkpoint.",
       "p99 below 0.01", SHORT),
    _m("checkpoint_bytes", Gauge, "", "Bytes that the last checkpoint wrote.", "stable"),
    _m("checkpoint_last_success_timestamp_seconds", Gauge, "", "When a checkpoint was last seen to be on "
       "the disk; 0 before the first of this process.", "within five intervals"),
    _m("restores_total", Counter, "outcome", "Openings of a state folder: ok, fallback (an older copy was "
       "used), empty (nothing to restore), rejected (refused with an error).", "no fallback, no rejected"),
    _m("restore_seconds", Histogram, "", "Time to open a state folder.", "below 1", SHORT),
    _m("tracked_users", Gauge, "", "Users with a row.", "below state.max_users"),
    _m("tracked_items", Gauge, "", "Marks interned.", "below state.max_marks"),
    _m("state_bytes", Gauge, "kind", "Memory of the large state: users (rows), items (vocabulary), tables.",
       "levels off"),
    _m("evictions_total", Counter, "kind", "Users and marks (item) that a cap made go, in this process.",
       "stays, unless the caps are meant to bind"),
)  # fmt: skip

QUALITY = (
    _m("prequential_events_total", Counter, "model", "Events that a model was scored on, over all runs of "
       "the lane: marks of known users, or waiting times if it forecasts no marks.", "rises"),
    _m("prequential_nll", Gauge, "model component window", "Mean of -ln p per scored event, before learning "
       "it, in nats: mark (known users), time (density per second), total (their sum).",
       "mixture lowest; no jump between 1k and 10k"),
    _m("hit_ratio", Gauge, "model k window", "Share of marks of known users among the first k.",
       "mixture at or above every naive rule"),
    _m("mrr", Gauge, "model k window", "Mean reciprocal rank, 0 beyond k, marks of known users.",
       "as hit_ratio"),
    _m("ndcg", Gauge, "model k window", "Mean of 1/log2(1 + rank), 0 beyond k, marks of known users.",
       "as hit_ratio"),
    _m("time_abs_error_seconds", Histogram, "model", "Distance of the issued median from the gap that came.",
       "no shift to the right", GAPS),
    _m("time_interval_coverage_ratio", Gauge, "model level", "Share of gaps inside the central interval of "
       "that level, last 10k scored events.", "within 0.05 of the level"),
    _m("calibration_error", Gauge, "model kind", "pit_ks: largest distance of the waiting-time PIT from "
       "uniform, last 10k scored events.", "below 0.1"),
    _m("unseen_item_ratio", Gauge, "window", "Share of events whose mark had never been seen.", "falls"),
    _m("cold_user_ratio", Gauge, "window", "Share of events of users without an event before.", "falls"),
    _m("updates_total", Counter, "model outcome", "Updates of a network in this process: ok, "
       "skipped_nonfinite (its gradient was not finite), rolled_back (weights went back to a copy).",
       "ok rises; the others stay"),
    _m("mixture_weight", Gauge, "model component", "Weight in the outermost mixture of marks (mark), or "
       "where a new user's posterior over waiting times starts (time).", "no single model at 1 for long"),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*PIPELINE, *STATE, *QUALITY)}
"""All metrics by name."""


def reference() -> str:
    """The page `docs/metrics-reference.md`, as Markdown.

    Examples
    --------
    >>> reference().splitlines()[0]
    '# Metrics'
    """
    head = ["# Metrics", "", *_INTRODUCTION.strip().splitlines()]
    parts = (("Pipeline", PIPELINE), ("State and checkpoints", STATE), ("Quality", QUALITY))
    return "\n".join([*head, *(line for title, part in parts for line in _section(title, part)), ""])


def _section(title: str, metrics: tuple[Metric, ...]) -> list[str]:
    table = ["| name | type | labels | meaning | healthy |", "|---|---|---|---|---|"]
    return ["", f"## {title}", "", *table, *(_line(metric) for metric in metrics)]


def _line(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    kind = metric.kind.__name__.lower()
    return f"| `{metric.name}` | {kind} | {labels} | {metric.help} | {metric.healthy} |"


_INTRODUCTION = """
Served as text at `/metrics` by `streamrec run ... --metrics-port 9108` (bound to 127.0.0.1 unless
`http.host` says otherwise), and brought up to date between cuts, at most once a second. This page is made by
`python -m streamrec.metric_table` and compared with the code by a test.

Counters count from the start of the process, except `prequential_events_total`, which is kept with the
state; gauges with `window="all"` and `applied_events` are kept too. Windows `1k` and `10k` hold the last
scored events of this process. No user and no mark is ever a label.

The metrics `process_*` (memory, CPU, open files) of prometheus-client are served beside these.
"""

if __name__ == "__main__":
    print(reference(), end="")
