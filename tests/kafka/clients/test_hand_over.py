"""Messages on their way to kafka-python's producer: where keys go, and how often its thread is woken."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner import DefaultPartitioner

from streamrec.eventlog.kafka_outlet import Bell, ByKey


class Topic:
    """What the library knows of a topic, as far as a partitioner asks."""

    def __init__(self, partitions):
        self.partitions = partitions

    def topics(self):
        return {"t"}

    def partitions_for_topic(self, topic):
        return set(self.partitions)

    available_partitions_for_topic = partitions_for_topic


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.integers(1, 9))
def test_a_key_goes_where_the_librarys_own_partitioner_places_it_however_often_it_comes(keys, n):
    topic, ours, theirs = Topic(range(n)), ByKey(), DefaultPartitioner()
    for key in keys + keys:
        args = "t", key, key, b"", b"", topic
        assert ours.partition(*args) == theirs.partition(*args)


def test_a_key_is_placed_anew_when_the_topic_has_grown():
    ours, theirs = ByKey(), DefaultPartitioner()
    for n in (2, 16):
        args = "t", b"user-7", b"user-7", b"", b"", Topic(range(n))
        assert ours.partition(*args) == theirs.partition(*args)


def test_without_a_key_any_partition_will_do():
    assert ByKey().partition("t", None, None, b"", b"", Topic([3])) == 3


@pytest.fixture
def rung():
    calls = []
    producer = SimpleNamespace(_sender=SimpleNamespace(wakeup=lambda: calls.append(1)))
    return producer, Bell(producer), calls


def test_many_wishes_within_a_block_ring_once_at_its_end(rung):
    producer, bell, calls = rung
    with bell.held():
        for _ in range(5):
            producer._sender.wakeup()
        assert not calls
    assert len(calls) == 1
    with bell.held():
        pass
    assert len(calls) == 1


def test_outside_of_a_block_every_wish_rings(rung):
    producer, _, calls = rung
    producer._sender.wakeup()
    producer._sender.wakeup()
    assert len(calls) == 2


def test_a_block_that_fails_rings_all_the_same(rung):
    producer, bell, calls = rung
    with pytest.raises(ValueError, match="too large"), bell.held():
        producer._sender.wakeup()
        raise ValueError("too large")
    assert len(calls) == 1
