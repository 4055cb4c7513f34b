"""The table of metrics keeps the conventions, and the page is made from it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from streamrec.meters import Meters
from streamrec.metric_table import METRICS, Metric, reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics-reference.md"
ABBREVIATED = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"}
NOT_BASE = {
    *("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "months", "years"),
    *("bits", "kilobytes", "megabytes", "gigabytes", "kibibytes", "mebibytes", "percent", "fahrenheit"),
}
TYPES = {"gauge", "counter", "histogram", "summary", "untyped"}
SERIES = {"count", "sum", "bucket", "created"}
UNBOUNDED = {"user", "item", "mark", "user_id", "id", "offset"}


def faults(metric: Metric) -> list[str]:
    """What `promtool check metrics` would say, and our own rule on labels."""
    parts = metric.name.split("_")
    rules = {
        "no help": not metric.help,
        "no healthy value": not metric.healthy,
        "name is not snake case with one prefix": not re.fullmatch(r"streamrec(_[a-z0-9]+)+", metric.name),
        "counter without _total": metric.kind is Counter and parts[-1] != "total",
        "_total on what is no counter": metric.kind is not Counter and parts[-1] == "total",
        "suffix of a series": parts[-1] in SERIES,
        "type in the name": bool(TYPES & set(parts)),
        "abbreviated unit": bool(ABBREVIATED & set(parts)),
        "unit that is not a base unit": bool(NOT_BASE & set(parts)),
        "label in the name": any(f"_by_{label}" in metric.name for label in metric.labels),
        "label is not snake case": any(not re.fullmatch(r"[a-z]+(_[a-z]+)*", n) for n in metric.labels),
        "reserved label": bool({"le", "quantile", "job", "instance"} & set(metric.labels)),
        "label without bound": bool(UNBOUNDED & set(metric.labels)),
        "buckets do not rise": list(metric.buckets) != sorted(set(metric.buckets)),
        "buckets on the wrong type": (metric.kind is Histogram) != bool(metric.buckets),
    }
    return [rule for rule, broken in rules.items() if broken]


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_keeps_the_conventions(metric: Metric) -> None:
    assert faults(metric) == []


def planted(name: str, labels: tuple[str, ...] = ()) -> Metric:
    return METRICS["streamrec_tracked_users"]._replace(name=name, labels=labels)


@pytest.mark.parametrize(
    ("metric", "fault"),
    [
        (planted("streamrec_events_total"), "_total on what is no counter"),
        (planted("streamrec_latency_ms"), "abbreviated unit"),
        (planted("streamrec_age_minutes"), "unit that is not a base unit"),
        (planted("streamrec_users_gauge"), "type in the name"),
        (planted("streamrec_nll_sum"), "suffix of a series"),
        (planted("streamrec_trackedUsers"), "name is not snake case with one prefix"),
        (planted("tracked_users"), "name is not snake case with one prefix"),
        (planted("streamrec_seen", ("user",)), "label without bound"),
        (METRICS["streamrec_events_total"]._replace(name="streamrec_events"), "counter without _total"),
    ],
)
def test_the_rules_find_planted_faults(metric: Metric, fault: str) -> None:
    assert fault in faults(metric)


def test_the_page_is_what_the_table_says() -> None:
    made = reference()
    assert PAGE.read_text(encoding="utf-8") == made, "run: python -m streamrec.metric_table > " + str(PAGE)


def test_the_page_has_a_line_for_every_metric() -> None:
    named = re.findall(r"^\| `(streamrec_\w+)` \| (\w+) \|", reference(), flags=re.MULTILINE)
    assert named == [(name, metric.kind.__name__.lower()) for name, metric in METRICS.items()]


def test_every_line_of_the_table_can_be_registered_and_is_scraped_under_its_name() -> None:
    meters = Meters(CollectorRegistry())
    for name, metric in METRICS.items():
        labels = tuple("x" for _ in metric.labels)
        short = name.removeprefix("streamrec_")
        if metric.kind is Counter:
            meters.reach(short, 1, *labels)
        elif metric.kind is Histogram:
            meters.observe(short, [1.0], *labels)
        else:
            meters.put(short, 1, *labels)
    found = dict(re.findall(r"^# TYPE (\w+) (\w+)$", meters.text().decode(), flags=re.MULTILINE))
    assert found == {name: metric.kind.__name__.lower() for name, metric in METRICS.items()}


def test_promtool_has_no_complaint() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; the rules above are its rules")
    text = "".join(
        f"# HELP {m.name} {m.help}\n# TYPE {m.name} {m.kind.__name__.lower()}\n" for m in METRICS.values()
    )
    command = [promtool, "check", "metrics"]
    said = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    assert said.returncode == 0, said.stderr
