"""What a member and a reader promise, of both clients, on a broker."""

import threading
import time

import pytest
from ears import Ears, poll_until, polling, settings_for, wait_until

from streamrec.errors import BrokerError, InvariantError, NotMemberError, OutOfRangeError, UnavailableError
from streamrec.eventlog.clients import Bounds, Cluster, Commit, Member, Message, Reader
from streamrec.eventlog.topics import connect

VALUES = [b"%d" % i for i in range(40)]


def filled(broker, topics, partitions=1):
    topic = topics(partitions=partitions)
    for partition in range(partitions):
        broker.send(topic, VALUES, key=b"k", partition=partition, timestamp_ms=1234)
    return topic


@pytest.mark.needs("offsets")
def test_clients_keep_the_protocols(clients, opened):
    member, reader = opened(clients.member()), opened(clients.reader())
    assert isinstance(member, Member) and isinstance(member, Cluster) and isinstance(reader, Reader)


@pytest.mark.needs("offsets")
def test_a_reader_reads_from_where_it_is_told(broker, topics, clients, opened):
    topic = filled(broker, topics, 2)
    reader = opened(clients.reader())
    assert reader.places([topic]) == [(topic, 0), (topic, 1)]
    assert reader.bounds([(topic, 0)]) == {(topic, 0): Bounds(0, 40)}
    reader.assign({(topic, 1): 30})
    records = poll_until(reader, lambda records: len(records) == 10)
    assert [record.value for record in records] == VALUES[30:]
    assert {(one.topic, one.partition, one.key, one.timestamp_ms) for one in records} == {
        (topic, 1, b"k", 1234)
    }
    assert reader.positions([(topic, 1), (topic, 0)])[topic, 1] == 40
    reader.assign({(topic, 0): 38})
    assert [one.offset for one in poll_until(reader, lambda records: len(records) == 2)] == [38, 39]


@pytest.mark.needs("offsets")
def test_a_poll_gives_no_more_than_it_was_asked_for(broker, topics, clients, opened):
    topic = filled(broker, topics)
    reader = opened(clients.reader())
    reader.assign({(topic, 0): 0})
    sizes = []
    while sum(sizes) < 40:
        sizes.append(len(reader.poll(7, 1.0)))
    assert max(sizes) <= 7


@pytest.mark.needs("offsets")
def test_a_topic_that_does_not_exist_is_named(clients, opened):
    with pytest.raises(BrokerError, match="no-such-topic"):
        opened(clients.reader()).places(["no-such-topic"])


@pytest.mark.needs("offsets", "admin")
def test_an_offset_that_is_gone_is_said_and_not_reset(broker, topics, clients, opened):
    from kafka import TopicPartition  # noqa: PLC0415

    topic = filled(broker, topics)
    admin = broker.admin()
    admin.delete_records({TopicPartition(topic, 0): 10})
    admin.close()
    reader = opened(clients.reader())
    assert reader.bounds([(topic, 0)]) == {(topic, 0): Bounds(10, 40)}
    for wanted in (3, 45):
        reader.assign({(topic, 0): wanted})
        with pytest.raises(OutOfRangeError) as caught:
            poll_until(reader, lambda records: records)
        assert caught.value.places == {(topic, 0): wanted}
    reader.assign({(topic, 0): 10})
    assert poll_until(reader, lambda records: records)[0].offset == 10


@pytest.mark.needs("admin")
def test_a_topic_made_anew_has_another_id(broker, topics, clients, opened):
    topic = topics()
    reader = opened(clients.reader())
    before = reader.topic_ids([topic])
    broker.drop([topic])
    admin = broker.admin()
    layout = {topic: {"num_partitions": 1, "replication_factor": 1}}
    wait_until(lambda: admin.create_topics(layout, raise_errors=False)["topics"][0]["error_code"] == 0)
    admin.wait_for_topics([topic])
    admin.close()
    after = opened(clients.reader()).topic_ids([topic])
    assert before[topic] != after[topic] and len(after[topic]) == 36


def test_both_clients_name_topics_by_the_same_id(broker, topics, opened):
    topic = topics()
    ids = [
        opened(connect(settings_for(broker.bootstrap, name)).reader()).topic_ids([topic])
        for name in ("kafka-python", "confluent")
    ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_a_new_group_starts_where_it_was_sought(broker, topics, client, rebalance, opened):
    topic = filled(broker, topics, 2)
    member = opened(connect(settings_for(broker.bootstrap, client, rebalance=rebalance)).member())
    ears = Ears(member, {(topic, 0): 35, (topic, 1): 38})
    member.join([topic], ears)
    records = poll_until(member, lambda records: len(records) >= 7)
    found = {p: [one.offset for one in records if one.partition == p] for p in (0, 1)}
    assert found == {0: [35, 36, 37, 38, 39], 1: [38, 39]}
    assert ears.threads == {threading.get_ident()}
    assert member.positions([(topic, 0)]) == {(topic, 0): 40}


def test_what_is_gained_stands_still_until_it_is_sought_and_resumed(broker, topics, clients, opened):
    topic = filled(broker, topics)
    member = opened(clients.member())
    ears = Ears(member)
    ears.gained = lambda places: ears.heard.append(("gained", list(places)))
    member.join([topic], ears)
    poll_until(member, lambda _: ears.heard)
    assert not [record for _ in range(10) for record in member.poll(100, 0.1)]
    with pytest.raises(InvariantError, match="sought"):
        member.resume([(topic, 0)])
    member.seek({(topic, 0): 12})
    assert not [record for _ in range(5) for record in member.poll(100, 0.1)]
    member.resume([(topic, 0)])
    assert poll_until(member, lambda records: records)[0].offset == 12


def test_pause_holds_back_and_resume_goes_on_without_a_gap(broker, topics, clients, opened):
    topic = filled(broker, topics, 2)
    member = opened(clients.member())
    member.join([topic], Ears(member))
    records = poll_until(member, lambda records: {one.partition for one in records} == {0, 1}, max_records=3)
    member.pause([(topic, 1), ("nobody's", 0)])
    broker.send(topic, VALUES, partition=0)
    broker.send(topic, VALUES, partition=1)
    at = member.positions([(topic, 1)])[topic, 1]
    more = poll_until(member, lambda more: sum(one.partition == 0 for one in records + more) == 80)
    assert {one.partition for one in more} == {0}
    member.resume([(topic, 1)])
    rest = poll_until(member, lambda rest: len(rest) == 80 - at)
    assert [one.offset for one in rest] == list(range(at, 80))


def test_a_seek_while_records_flow_goes_back_exactly(broker, topics, clients, opened):
    topic = filled(broker, topics)
    member = opened(clients.member())
    member.join([topic], Ears(member))
    poll_until(member, lambda records: len(records) >= 20, max_records=10)
    for wanted in (5, 33, 0):
        member.seek({(topic, 0): wanted})
        assert poll_until(member, lambda records: records, max_records=10)[0].offset == wanted


def test_a_commit_comes_back_with_what_was_written_beside_it(broker, topics, clients, opened):
    topic = filled(broker, topics, 2)
    member = opened(clients.member())
    member.join([topic], Ears(member))
    poll_until(member, lambda records: len(records) == 80)
    assert member.committed([(topic, 0), (topic, 1)]) == {}
    member.commit({(topic, 1): Commit(17, '{"generation":4}')})
    assert member.committed([(topic, 0), (topic, 1)]) == {(topic, 1): Commit(17, '{"generation":4}')}
    member.commit({})


def test_what_is_not_ours_is_neither_committed_nor_sought(broker, topics, clients, opened):
    topic = filled(broker, topics)
    member = opened(clients.member())
    with pytest.raises(NotMemberError, match="not ours"):
        member.commit({(topic, 0): Commit(1)})
    with pytest.raises(NotMemberError, match="not ours"):
        member.seek({(topic, 0): 1})
    assert member.committed([(topic, 0)]) == {}


@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_a_second_member_gets_what_the_first_gave_up_after_its_commit(
    broker, topics, client, rebalance, opened
):
    topic = filled(broker, topics, 2)
    clients = connect(settings_for(broker.bootstrap, client, rebalance=rebalance, lanes=2))
    first = opened(clients.member())
    one = Ears(first, commits=21)
    first.join([topic], one)
    poll_until(first, lambda records: len(records) >= 80)
    second = clients.member()
    two = Ears(second)
    second.join([topic], two)
    with polling(first):
        poll_until(second, lambda records: len(records) >= 40 and len(one.held) == 1)
        (moved,) = two.held
        assert one.held == {(topic, 0), (topic, 1)} - {moved}
        assert ("leaving", [moved]) in one.heard or rebalance == "eager"
        assert second.committed([moved]) == {moved: Commit(21, "on leaving")}
        second.close()
        wait_until(lambda: len(one.held) == 2)
    assert two.heard[-1] == ("leaving", [moved]) and not two.held
    assert "lost" not in {what for what, _ in one.heard + two.heard}
    with pytest.raises(NotMemberError):
        second.commit({moved: Commit(1)})


def test_who_was_given_up_is_told_so_at_the_next_commit(broker, topics, client, opened):
    topic = filled(broker, topics)
    fields = {"session_timeout_s": 6.0, "max_poll_interval_s": 6.0}
    clients = connect(settings_for(broker.bootstrap, client, **fields))
    stalled, other = opened(clients.member()), opened(clients.member())
    one, two = Ears(stalled), Ears(other)
    stalled.join([topic], one)
    poll_until(stalled, lambda records: len(records) == 40)
    other.join([topic], two)
    poll_until(other, lambda _: two.held, timeout_s=40)  # the first does not poll
    with pytest.raises(NotMemberError):
        stalled.commit({(topic, 0): Commit(40)})
    other.commit({(topic, 0): Commit(7)})
    with polling(other):
        poll_until(stalled, lambda _: ("lost", [(topic, 0)]) in one.heard)
        assert not one.held or two.held == set()
    assert other.committed([(topic, 0)]) == {(topic, 0): Commit(7)}


@pytest.mark.needs("offsets")
def test_a_static_member_starts_again_without_a_rebalance(broker, topics, client, opened):
    topic = filled(broker, topics, 2)
    settings = settings_for(broker.bootstrap, client, lanes=2, session_timeout_s=20.0)
    named = [connect(settings.model_copy(update={"group_instance_id": name})) for name in ("x", "y")]
    first, second = opened(named[0].member()), named[1].member()
    one, two = Ears(first), Ears(second)
    first.join([topic], one)
    second.join([topic], two)
    with polling(first):
        poll_until(second, lambda _: len(one.held) == len(two.held) == 1, timeout_s=40)
        had, heard = set(two.held), len(one.heard)
        second.close()
        again = opened(named[1].member())
        three = Ears(again)
        again.join([topic], three)
        poll_until(again, lambda _: three.held, timeout_s=15)
    assert three.held == had and len(one.heard) == heard


def test_two_with_one_name_are_told_apart(broker, topics, client, opened):
    topic = filled(broker, topics)
    clients = connect(settings_for(broker.bootstrap, client, group_instance_id="x"))
    first, second = opened(clients.member()), opened(clients.member())
    first.join([topic], Ears(first))
    poll_until(first, lambda records: len(records) == 40)
    ears = Ears(second)
    second.join([topic], ears)
    poll_until(second, lambda _: ears.held)
    with pytest.raises(BrokerError, match="group_instance_id"):
        poll_until(first, lambda _: False, timeout_s=10)


def test_what_the_assignee_raises_comes_out_of_poll_and_loses_no_record(broker, topics, clients, opened):
    topic = filled(broker, topics)
    member = opened(clients.member())
    ears = Ears(member)
    ears.raises = RuntimeError("no such lane")
    member.join([topic], ears)
    with pytest.raises(RuntimeError, match="no such lane"):
        poll_until(member, lambda _: False)
    ears.raises = None
    records = poll_until(member, lambda records: len(records) == 40)
    assert [one.offset for one in records] == list(range(40))


def test_a_cluster_that_goes_away_is_said_and_found_again(own_broker, client, opened):
    broker = own_broker()
    topic = broker.topic()
    broker.direct.send(topic, VALUES)
    member = opened(connect(settings_for(broker.bootstrap, client, request_timeout_s=2.0)).member())
    ears = Ears(member)
    member.join([topic], ears)
    poll_until(member, lambda records: len(records) == 40)
    ears.start = {(topic, 0): 40}  # if the group has given us up meanwhile
    broker.kill()
    with pytest.raises(UnavailableError):
        poll_until(member, lambda _: False, timeout_s=20)
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        member.commit({(topic, 0): Commit(40)})
    assert time.monotonic() - began < 15
    broker.start()
    broker.direct.send(topic, VALUES)
    records: list[bytes] = []
    wait_until(lambda: records.extend(_polled(member)) or len(records) == 40, timeout_s=40)
    assert records == VALUES


def _polled(member):
    try:
        return [record.value for record in member.poll(100, 0.1)]
    except UnavailableError:
        return []


def test_nobody_answers_and_that_is_said_in_time(client):
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        connect(settings_for("127.0.0.1:9", client, request_timeout_s=1.0)).reader()
    assert time.monotonic() - began < 4


@pytest.mark.needs("sasl")
def test_user_and_password_are_checked(broker, client, opened, tmp_path):
    import brokers  # noqa: PLC0415

    secret = tmp_path / "password"
    secret.write_text(brokers.PASSWORD + "\n", encoding="utf-8")
    fields = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": brokers.USER}
    good = settings_for(broker.sasl, client, sasl_password_file=secret, **fields)
    reader = opened(connect(good).reader())
    with pytest.raises(BrokerError, match=r"does not exist|no such topic"):
        reader.places(["no-such-topic"])
    bad = settings_for(broker.sasl, client, sasl_password="wrong", **fields)
    with pytest.raises(BrokerError, match="sasl_username") as caught:
        connect(bad).reader()
    assert "wrong" not in str(caught.value)


def test_closing_gives_everything_back(broker, topics, clients):
    import gc  # noqa: PLC0415
    import os  # noqa: PLC0415

    topic = filled(broker, topics)

    def used() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    def use_all() -> None:
        member, reader, outlet = clients.member(), clients.reader(), clients.outlet()
        member.join([topic], Ears(member))
        poll_until(member, lambda records: records)
        reader.places([topic])
        outlet.send([Message(topic, b"x")])
        outlet.flush(10)
        for one in (member, reader, outlet, member, reader, outlet):  # each twice
            one.close()

    use_all()
    before = used()
    use_all()
    wait_until(lambda: used() <= before)


@pytest.mark.needs("offsets")
def test_a_join_that_outlasts_polls_is_ended(broker, topics, opened):
    topic = filled(broker, topics, 2)
    member = opened(connect(settings_for(broker.bootstrap, "kafka-python", session_timeout_s=3.0)).member())
    ears = Ears(member)
    member.join([topic], ears)
    poll_until(member, lambda records: len(records) == 80)
    coordinator = member._consumer._coordinator
    first = coordinator._generation.generation_id
    coordinator._assignment_snapshot = {}  # as if the topics had become known during the join
    member.poll(500, 0.001)
    until = time.monotonic() + 5.0  # longer than a member without heartbeats is kept
    while time.monotonic() < until:
        member.poll(500, 0.02)
    member.commit({(topic, 0): Commit(40, ""), (topic, 1): Commit(40, "")})
    assert coordinator._generation.generation_id == first + 1
    assert [what for what, _ in ears.heard] == ["gained"]
