"""What an outlet and a transactor promise, of both clients, on a broker."""

import time

import pytest
from ears import Ears, poll_until, settings_for, wait_until

from streamrec.errors import DeliveryError, FencedError, InvariantError, UnavailableError
from streamrec.eventlog.clients import Commit, Message, Outlet, Transactor
from streamrec.eventlog.topics import connect

VALUES = [b"%d" % i for i in range(50)]


def messages(topic, values=VALUES, **fields):
    return [Message(topic, value, **fields) for value in values]


def test_what_was_sent_arrives_in_order_with_all_it_had(broker, topics, clients, opened):
    topic = topics()
    outlet = opened(clients.outlet())
    assert isinstance(outlet, Outlet) and not isinstance(outlet, Transactor)
    headers = (("reason", b"not_json"), ("offset", b"7"))
    outlet.send(messages(topic, key=b"u1", headers=headers, timestamp_ms=1_700_000_000_123))
    outlet.send([Message(topic, None, b"gone")])
    outlet.flush(10)
    assert outlet.pending == 0
    records = broker.read(topic, 51)
    assert [one.value for one in records] == [*VALUES, None]
    assert {(one.key, tuple(one.headers), one.timestamp) for one in records[:-1]} == {
        (b"u1", headers, 1_700_000_000_123)
    }
    assert records[-1].timestamp > 1_700_000_000_123


def test_both_clients_put_a_key_into_the_same_partition(broker, topics, opened):
    topic = topics(partitions=5)
    keys = [b"user-%d" % i for i in range(40)]
    for client in ("kafka-python", "confluent"):
        outlet = opened(connect(settings_for(broker.bootstrap, client)).outlet())
        outlet.send([Message(topic, client.encode(), key) for key in keys])
        outlet.send([Message(topic, client.encode(), b"named", partition=3)])
        outlet.flush(10)
    found: dict[bytes, set[int]] = {}
    for one in broker.read(topic, 82):
        found.setdefault(one.key, set()).add(one.partition)
    assert {len(partitions) for partitions in found.values()} == {1} and found[b"named"] == {3}


def test_a_message_that_is_too_large_is_said_at_the_next_call(broker, topics, clients, opened):
    topic = topics(configs={"max.message.bytes": 1000})
    outlet = opened(clients.outlet())
    outlet.send([Message(topic, b"x" * 2000)])
    with pytest.raises(DeliveryError, match="too large"):
        outlet.flush(10)
    with pytest.raises(DeliveryError, match="too large"):
        outlet.send(messages(topic))
    assert outlet.pending == 0


def test_a_topic_that_does_not_exist_refuses_messages(broker, client, opened):
    outlet = opened(connect(settings_for(broker.bootstrap, client, request_timeout_s=2.0)).outlet())
    began = time.monotonic()
    outlet.send(messages("no-such-topic"))
    assert time.monotonic() - began < 0.5  # taken without waiting
    with pytest.raises(DeliveryError, match="no-such-topic"):
        outlet.flush(15)


def test_an_outage_delays_messages_and_loses_none(own_broker, client, opened):
    broker = own_broker()
    topic = broker.topic()
    outlet = opened(connect(settings_for(broker.bootstrap, client, request_timeout_s=2.0)).outlet())
    outlet.send(messages(topic, VALUES[:20]))
    outlet.flush(10)
    broker.pause()
    began = time.monotonic()
    outlet.send(messages(topic, VALUES[20:]))
    assert time.monotonic() - began < 0.5 and outlet.pending == 30
    with pytest.raises(UnavailableError, match="30 of"):
        outlet.flush(3.0)
    assert 2.5 < time.monotonic() - began < 4.5
    broker.resume()
    outlet.flush(30)
    assert outlet.pending == 0
    assert [one.value for one in broker.direct.read(topic, 50)] == VALUES


@pytest.mark.needs("transactions")
def test_a_transaction_shows_messages_and_offsets_together_or_not_at_all(broker, topics, clients, opened):
    source, topic = topics(), topics("out")
    broker.send(source, VALUES)
    member = opened(clients.member())
    member.join([source], Ears(member))
    poll_until(member, lambda records: len(records) == 50)
    transactor = opened(clients.transactor(f"t-{topic}"))
    assert isinstance(transactor, Transactor)
    with pytest.raises(InvariantError, match="recover"):
        transactor.begin()
    transactor.recover()
    transactor.begin()
    transactor.send(messages(topic, [b"dropped"]))
    transactor.flush(10)
    transactor.abort()
    assert transactor.pending == 0 and member.committed([(source, 0)]) == {}
    transactor.begin()
    transactor.send(messages(topic, [b"kept"]))
    transactor.flush(10)
    assert not broker.read(topic, 1, timeout_s=1.0, isolation_level="read_committed")
    transactor.commit({(source, 0): Commit(50, "generation 4")}, member)
    assert member.committed([(source, 0)]) == {(source, 0): Commit(50, "generation 4")}
    seen = broker.read(topic, 1, isolation_level="read_committed")
    assert [one.value for one in seen] == [b"kept"]


@pytest.mark.needs("transactions")
def test_who_recovers_shuts_out_whoever_had_the_id_before(broker, topics, clients, opened):
    source, topic = topics(), topics("out")
    member = opened(clients.member())
    member.join([source], Ears(member))
    poll_until(member, lambda _: member._held)
    old, new = (opened(clients.transactor(f"t-{topic}")) for _ in range(2))
    old.recover()
    old.begin()
    old.send(messages(topic, [b"old"]))
    old.flush(10)
    new.recover()
    with pytest.raises(FencedError):
        old.commit({(source, 0): Commit(1)}, member)
    assert member.committed([(source, 0)]) == {}
    new.begin()
    new.send(messages(topic, [b"new"]))
    new.commit({(source, 0): Commit(2)}, member)
    seen = broker.read(topic, 1, isolation_level="read_committed")
    assert [one.value for one in seen] == [b"new"]
    assert member.committed([(source, 0)]) == {(source, 0): Commit(2)}


@pytest.mark.needs("transactions")
def test_who_was_shut_out_is_told_so_even_without_offsets(broker, topics, clients, opened):
    topic = topics()
    member = opened(clients.member())
    old, new = (opened(clients.transactor(f"t-{topic}")) for _ in range(2))
    old.recover()
    new.recover()
    old.begin()
    old.send(messages(topic, [b"old"]))
    with pytest.raises(FencedError):
        old.commit({}, member)


@pytest.mark.needs("transactions")
def test_offsets_of_a_place_that_is_not_ours_end_no_transaction(broker, topics, clients, opened):
    source, topic = topics(), topics("out")
    member = opened(clients.member())
    member.join([source], Ears(member))
    poll_until(member, lambda _: member._held)
    transactor = opened(clients.transactor(f"t-{topic}"))
    transactor.recover()
    transactor.begin()
    transactor.send(messages(topic, [b"x"]))
    with pytest.raises(FencedError, match="not ours"):
        transactor.commit({("another", 0): Commit(1)}, member)
    transactor.abort()
    assert not broker.read(topic, 1, timeout_s=1.0, isolation_level="read_committed")


@pytest.mark.needs("transactions")
def test_a_commit_without_answer_is_in_doubt_until_recovered(own_broker, client, opened):
    broker = own_broker()
    source, topic = broker.topic(), broker.topic("out")
    clients = connect(settings_for(broker.bootstrap, client, request_timeout_s=2.0))
    member = opened(clients.member())
    member.join([source], Ears(member))
    poll_until(member, lambda _: member._held)
    transactor = opened(clients.transactor("t"))
    transactor.recover()
    transactor.begin()
    transactor.send(messages(topic, [b"x"]))
    transactor.flush(10)
    broker.pause()
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        transactor.commit({(source, 0): Commit(1)}, member)
    assert time.monotonic() - began < 6
    with pytest.raises(InvariantError, match="recover"):
        transactor.send(messages(topic))
    broker.resume()
    wait_until(lambda: _recovers(transactor), timeout_s=40)
    decided = member.committed([(source, 0)])
    seen = broker.direct.read(topic, 1, timeout_s=2.0, isolation_level="read_committed")
    assert bool(seen) == bool(decided)  # both or none
    transactor.begin()
    transactor.send(messages(topic, [b"y"]))
    transactor.abort()


def _recovers(transactor):
    try:
        transactor.recover()
    except UnavailableError:
        return False
    return True
