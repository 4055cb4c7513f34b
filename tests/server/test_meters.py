"""The text is that of prometheus-client; what is not ours any more is gone from it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families
from served_lane import of_name, samples

from streamrec.meters import Meters
from streamrec.metric_table import METRICS

VALUES = st.floats(0, 1e18) | st.integers(0, 10**15) | st.just(math.inf)
LABEL = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
disable_created_metrics()


@given(st.lists(st.tuples(LABEL, st.integers(0, 9), VALUES), max_size=20), st.lists(VALUES, max_size=20))
def test_the_text_is_what_prometheus_client_would_write(
    given_: list[tuple[str, int, float]], waited: list[float]
) -> None:
    registry = CollectorRegistry()
    meters = Meters(CollectorRegistry())
    lag, events, wait = (
        METRICS["streamrec_" + name] for name in ("consumer_lag_records", "events_total", "rebalance_seconds")
    )
    theirs_lag = Gauge(lag.name, lag.help, lag.labels, registry=registry)
    theirs_events = Counter(events.name, events.help, events.labels, registry=registry)
    theirs_wait = Histogram(wait.name, wait.help, registry=registry, buckets=wait.buckets)
    for topic, partition, value in given_:
        meters.put("consumer_lag_records", value, topic, str(partition))
        theirs_lag.labels(topic, partition).set(value)
        meters.rise("events_total", value, topic, str(partition), "ok")
        theirs_events.labels(topic, partition, "ok").inc(value)
    meters.observe("rebalance_seconds", [value for value in waited if value < math.inf])
    for value in waited:
        if value < math.inf:
            theirs_wait.observe(value)
    ours, theirs = samples(meters.text()), samples(generate_latest(registry))
    assert ours == theirs


def test_help_and_types_come_once_before_their_samples() -> None:
    meters = Meters(CollectorRegistry())
    meters.put("consumer_lag_records", 1, "a", "0")
    meters.put("consumer_lag_records", 2, "b", "0")
    meters.observe("poll_records", [3.0])
    text = meters.text().decode()
    families = list(text_string_to_metric_families(text))
    assert [(f.name, f.type) for f in families] == [
        ("streamrec_consumer_lag_records", "gauge"),
        ("streamrec_poll_records", "histogram"),
    ]
    assert text.count("# TYPE streamrec_consumer_lag_records gauge") == 1
    assert families[0].documentation == METRICS["streamrec_consumer_lag_records"].help


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_an_array_counts_as_its_values_one_by_one(values: list[float]) -> None:
    one, whole = Meters(CollectorRegistry()), Meters(CollectorRegistry())
    one.observe("end_to_end_seconds", values)
    whole.observe_array("end_to_end_seconds", np.array(values))
    ours, theirs = samples(one.text()), samples(whole.text())
    assert {k: v for k, v in ours.items() if "_sum" not in k[0]} == {
        k: v for k, v in theirs.items() if "_sum" not in k[0]
    }
    assert of_name(whole.text(), "end_to_end_seconds_sum")[()] == pytest.approx(sum(values))


def test_an_infinite_value_counts_in_the_last_bucket_and_not_in_the_sum() -> None:
    meters = Meters(CollectorRegistry())
    meters.observe_array("end_to_end_seconds", np.array([0.5, np.inf]))
    assert of_name(meters.text(), "end_to_end_seconds_count")[()] == 2
    assert of_name(meters.text(), "end_to_end_seconds_sum")[()] == 0.5


def test_a_counter_never_falls_and_a_gauge_keeps_its_value_for_nan() -> None:
    meters = Meters(CollectorRegistry())
    for total in (3, 4, 1):
        meters.reach("predictions_total", total)
    meters.rise("predictions_total", -2)
    meters.put("tracked_users", 7, "0")
    meters.put("tracked_users", math.nan, "0")
    assert of_name(meters.text(), "predictions_total") == {(): 4}
    assert of_name(meters.text(), "tracked_users") == {(): 7}


def test_dropping_a_place_or_a_lane_leaves_all_others() -> None:
    meters = Meters(CollectorRegistry())
    for partition in ("0", "1"):
        meters.put("consumer_lag_records", 5, "clicks", partition)
        meters.rise("events_total", 5, "clicks", partition, "ok")
    meters.put("assigned_partitions", 2, "clicks")
    for lane in ("0", "1"):
        meters.put("tracked_users", 1, lane)
        meters.observe("time_abs_error_seconds", [1.0], lane, "mixture")
    meters.drop(topic="clicks", partition="1")
    meters.drop(lane="0")
    found = {(name, tuple(sorted(labels))) for name, labels in samples(meters.text()) if "bucket" not in name}
    assert found == {
        ("streamrec_consumer_lag_records", (("partition", "0"), ("topic", "clicks"))),
        ("streamrec_events_total", (("outcome", "ok"), ("partition", "0"), ("topic", "clicks"))),
        ("streamrec_assigned_partitions", (("topic", "clicks"),)),
        ("streamrec_tracked_users", (("lane", "1"),)),
        ("streamrec_time_abs_error_seconds_count", (("lane", "1"), ("model", "mixture"))),
        ("streamrec_time_abs_error_seconds_sum", (("lane", "1"), ("model", "mixture"))),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        lambda meters: meters.put("predictions_total", 1),
        lambda meters: meters.rise("held_events", 1, "0"),
        lambda meters: meters.observe("held_events", [1.0], "0"),
        lambda meters: (meters.put("held_events", 1), meters.text()),
    ],
)
def test_a_metric_used_as_another_kind_or_with_other_labels_is_a_bug(wrong) -> None:
    with pytest.raises(AssertionError, match=r"is no|wanted values of"):
        wrong(Meters(CollectorRegistry()))


def test_what_is_not_in_the_table_cannot_be_set() -> None:
    with pytest.raises(KeyError):
        Meters(CollectorRegistry()).put("made_up", 1)
