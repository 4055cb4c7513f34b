"""Every metric of streamrec: name, type, labels, meaning, and what a healthy value is.

The registry (`telemetry.py`) and the page `docs/metrics-reference.md` are both made from this table:

    python -m streamrec.metric_table > docs/metrics-reference.md

Names follow the Prometheus conventions: one prefix, base units, `_total` on counters and nowhere else.
No user and no mark is ever a label; what tells of one lane's state or forecasts has its number as a label.
Windows are 1k, 10k (the last scored events of this process) and all (everything that the lane has scored,
over all its runs).
"""

from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

Kind = type[Counter] | type[Gauge] | type[Histogram]

PREFIX = "streamrec_"
SHORT = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Bounds of durations of the program, s."""

WAITS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Bounds of times that something waited, s."""

SIZES = (0.0, 1.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
"""Bounds of numbers of records."""

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
       "(starting, restoring, running, degraded, draining), 0 for the others.", "running"),
    _m("events_total", Counter, "topic partition outcome", "Records by the bin in which they ended "
       "(ok, late, duplicate, dead_letter, skipped), in this process.", "rises; mostly ok"),
    _m("dead_letter_total", Counter, "reason", "Records that could not become events, by reason code.",
       "below 1 % of events_total"),
    _m("predictions_total", Counter, "", "Forecasts issued, one per tie set.", "rises with events_total"),
    _m("applied_events", Gauge, "lane", "Events accepted by the lane over all its runs.", "rises"),
    _m("applied_offset", Gauge, "topic partition", "Next offset to read, as of the last cut.", "rises"),
    _m("held_events", Gauge, "lane", "Events that wait for late ones, or in a tie set that is still open.",
       "below order.held_events"),
    _m("last_event_timestamp_seconds", Gauge, "", "Largest event time that was applied by this process.",
       "close to now on a live log"),
    _m("stage_seconds", Histogram, "stage", "Time of one piece of work: decode (read and decode a poll) and "
       "cut (journal, forecast, learn and emit one cut).", "stable", SHORT),
    _m("telemetry_seconds_total", Counter, "", "Time the loop spent on these metrics.",
       "below 5 % of the loop's time"),
    _m("log_messages_total", Counter, "level", "Lines for the log, those that were suppressed included.",
       "no error; warnings stay"),
)  # fmt: skip

CONSUMER = (
    _m("assigned_partitions", Gauge, "topic", "Partitions of the topic that are ours.",
       "sum over the group: all of them"),
    _m("consumer_lag_records", Gauge, "topic partition", "Records in the log after the last applied one; "
       "with a transactional producer its markers count, so that 1 may stay.", "close to 0"),
    _m("consumer_lag_seconds", Gauge, "topic partition", "0 without a lag; else now less the later of two "
       "times: the broker's timestamp of the last applied record, and the last look that found no lag. "
       "Before either is known: time since the lane was opened. A replayed log is stamped with its own "
       "times.", "below 180; not rising"),
    _m("log_end_offset", Gauge, "topic partition", "Offset after the last record of the log.", "rises"),
    _m("committed_offset", Gauge, "topic partition", "Next offset as this process committed it for the "
       "group.", "follows applied_offset at the distance of a checkpoint"),
    _m("partition_last_progress_timestamp_seconds", Gauge, "topic partition", "When applied_offset was last "
       "seen to rise, or the lane was opened.", "within 5 min while there is a lag"),
    _m("offsets_skipped_total", Counter, "topic partition cause", "Records that were gone before they were "
       "read and were skipped (retention), and logs that are others now (truncated, recreated: 0 records, "
       "for nobody knows how many).", "no series at all"),
    _m("consumed_bytes_total", Counter, "topic", "Bytes of keys and values read.", "rises"),
    _m("poll_records", Histogram, "", "Records that a poll gave.", "far from cut.poll_events", SIZES),
    _m("last_poll_timestamp_seconds", Gauge, "", "When a poll last ended well.", "within a second"),
    _m("paused", Gauge, "reason", "1 while reading is held back: backpressure (cuts or forecasts under way), "
       "disk (the journal cannot be written), restoring (a lane is being opened).", "0"),
    _m("rebalances_total", Counter, "reason", "Times that partitions came (assigned) or went (revoked, lost: "
       "before we knew).", "rare; lost stays"),
    _m("rebalance_seconds", Histogram, "", "From partitions coming or going until the lanes of all "
       "partitions that are ours are open.", "below 10", WAITS),
    _m("kafka_errors_total", Counter, "api code", "Errors of brokers or of their absence that the loop lives "
       "with; code is the name of the client's error.", "stays"),
    _m("disk_errors_total", Counter, "api", "Writes that the disk refused; the loop tries again.", "stays"),
    _m("fenced_writes_total", Counter, "", "Writes that were given up because another owner has opened the "
       "lane since.", "stays"),
    _m("producer_queue_records", Gauge, "", "Messages under way to the broker.",
       "below kafka.max_pending / 2"),
    _m("producer_errors_total", Counter, "code", "Messages that the broker refused for good.", "no series"),
    _m("end_to_end_seconds", Histogram, "", "From the broker's timestamp of a tie set's first record to its "
       "forecast being handed to the outlet, by the wall clock; only records with such a timestamp. A "
       "replayed log is stamped with its own times: then this says nothing.", "p99 below 1", WAITS),
)  # fmt: skip

STATE = (
    _m("checkpoints_total", Counter, "lane outcome", "Checkpoints: ok (on the disk), error (the disk "
       "refused), skipped (the writer was busy).", "ok rises; error stays"),
    _m("checkpoint_seconds", Histogram, "", "Time to write one checkpoint, in the writer's thread.",
       "far below the time between checkpoints", SHORT),
    _m("checkpoint_blocked_seconds", Histogram, "", "Time the loop stood still to copy one checkpoint.",
       "p99 below 0.01", SHORT),
    _m("checkpoint_bytes", Gauge, "lane", "Bytes that the last checkpoint wrote.", "stable"),
    _m("checkpoint_last_success_timestamp_seconds", Gauge, "lane", "When a checkpoint was last seen to be on "
       "the disk; 0 before the first of this process.", "within five intervals"),
    _m("restores_total", Counter, "outcome", "Openings of a state folder: ok, fallback (an older copy was "
       "used), empty (nothing to restore), rejected (refused with an error).", "no fallback, no rejected"),
    _m("restore_seconds", Histogram, "", "Time to open a state folder.", "below 1", SHORT),
    _m("tracked_users", Gauge, "lane", "Users with a row.", "below state.max_users"),
    _m("tracked_items", Gauge, "lane", "Marks interned.", "below state.max_marks"),
    _m("state_bytes", Gauge, "lane kind", "Memory of the large state: users (rows), items (vocabulary), "
       "tables.", "levels off"),
    _m("evictions_total", Counter, "lane kind", "Users and marks (item) that a cap made go, in this process.",
       "stays, unless the caps are meant to bind"),
)  # fmt: skip

QUALITY = (
    _m("prequential_events_total", Counter, "lane model", "Events that a model was scored on, over all runs "
       "of the lane: marks of known users, or waiting times if it forecasts no marks.", "rises"),
    _m("prequential_nll", Gauge, "lane model component window", "Mean of -ln p per scored event, before "
       "learning it, in nats: mark (known users), time (density per second), total (their sum).",
       "mixture lowest; no jump between 1k and 10k"),
    _m("hit_ratio", Gauge, "lane model k window", "Share of marks of known users among the first k.",
       "mixture at or above every naive rule"),
    _m("mrr", Gauge, "lane model k window", "Mean reciprocal rank, 0 beyond k, marks of known users.",
       "as hit_ratio"),
    _m("ndcg", Gauge, "lane model k window", "Mean of 1/log2(1 + rank), 0 beyond k, marks of known users.",
       "as hit_ratio"),
    _m("time_abs_error_seconds", Histogram, "lane model", "Distance of the issued median from the gap that "
       "came.", "no shift to the right", GAPS),
    _m("time_interval_coverage_ratio", Gauge, "lane model level", "Share of gaps inside the central interval "
       "of that level, last 10k scored events.", "within 0.05 of the level"),
    _m("calibration_error", Gauge, "lane model kind", "pit_ks: largest distance of the waiting-time PIT from "
       "uniform, last 10k scored events.", "below 0.1"),
    _m("unseen_item_ratio", Gauge, "lane window", "Share of events whose mark had never been seen.", "falls"),
    _m("cold_user_ratio", Gauge, "lane window", "Share of events of users without an event before.", "falls"),
    _m("updates_total", Counter, "lane model outcome", "Updates of a network in this process: ok, "
       "skipped_nonfinite (its gradient was not finite), rolled_back (weights went back to a copy).",
       "ok rises; the others stay"),
    _m("mixture_weight", Gauge, "lane model component", "Weight in the outermost mixture of marks (mark), or "
       "where a new user's posterior over waiting times starts (time).", "no single model at 1 for long"),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*PIPELINE, *CONSUMER, *STATE, *QUALITY)}
"""All metrics by name."""


def reference() -> str:
    """The page `docs/metrics-reference.md`, as Markdown.

    Examples
    --------
    >>> reference().splitlines()[0]
    '# Metrics'
    """
    head = ["# Metrics", "", *_INTRODUCTION.strip().splitlines()]
    parts = (
        ("Pipeline", PIPELINE),
        ("Kafka", CONSUMER),
        ("State and checkpoints", STATE),
        ("Quality", QUALITY),
    )
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

`lane` is the number of a lane: 0 for files and for a daemon with one lane. What tells of a partition or a
lane is there while it is ours and gone when it is not: no value is ever that of another owner's partition.
A counter of a partition or lane that came back begins at 0, as after a restart.

The metrics `process_*` (memory, CPU, open files) of prometheus-client are served beside these.
"""

if __name__ == "__main__":
    print(reference(), end="")
