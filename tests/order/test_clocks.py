"""Whose course of time an event moves: its topic's, or that of all files of a log."""

import pytest

from streamrec.event import Event
from streamrec.order import Order


def test_partitions_of_two_topics_do_not_mix() -> None:
    order = Order()
    order.push(Event("u", "a", 1.0), topic="x")
    order.push(Event("v", "a", 2.0), topic="y")
    assert order.released == []
    order.flush()
    assert [(s.user, s.topic) for s in order.take()] == [("u", "x"), ("v", "y")]


def test_topics_on_one_clock_close_each_others_sets_and_a_set_keeps_the_topic_of_its_first_event() -> None:
    order = Order()
    for user, time, topic in [("u", 1.0, "x"), ("u", 1.0, "y"), ("v", 2.0, "y")]:
        order.push(Event(user, "a", time), topic=topic, clock_name="files")
    assert [(s.user, s.topic, len(s.marks)) for s in order.take()] == [("u", "x", 2)]
    order.tick(0, 3.0, "files")
    assert [(s.user, s.topic) for s in order.take()] == [("v", "y")]


@pytest.mark.parametrize("lateness_s", [0.0, 2.0])
def test_the_topics_of_open_and_held_events_survive_a_dump(lateness_s: float) -> None:
    order = Order(lateness_s)
    for user, time, topic in [("u", 5.0, "x"), ("v", 5.0, "y"), ("w", 6.0, "x")]:
        order.push(Event(user, "a", time), topic=topic, clock_name="files")
    loaded = Order(lateness_s)
    loaded.load(order.dump())
    assert loaded.dump() == order.dump()
    for each in (order, loaded):
        each.flush()
    assert [(s.user, s.topic) for s in loaded.released] == [("u", "x"), ("v", "y"), ("w", "x")]
    assert loaded.released == order.released


def test_a_tick_before_the_first_event_of_a_partition_survives_a_dump() -> None:
    order = Order(lateness_s=1.0)
    order.tick(0, 5.0)
    resumed = Order(lateness_s=1.0)
    resumed.load(order.dump())
    assert [o.push(Event("u", "a", 4.0)) for o in (order, resumed)] == ["late", "late"]
