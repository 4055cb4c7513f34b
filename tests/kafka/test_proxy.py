"""What the proxy of the fault tests says it does to clients, it does; kafka-python is the client."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import brokers
import pytest
import wire
from brokers import OwnBroker
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
    for_code,
)
from kafka.structs import OffsetAndMetadata
from proxy import Proxy
from wire import Api, class_of

NOT_LEADER, COORDINATOR_NOT_AVAILABLE, OFFSET_OUT_OF_RANGE, TOPIC_REFUSED = 6, 15, 1, 29
UNKNOWN_MEMBER, ILLEGAL_GENERATION, REBALANCING, TOO_LARGE = 25, 22, 27, 10

pytestmark = pytest.mark.needs("proxied", "offsets")


@pytest.fixture(scope="module")
def own(kafka_run: Any) -> Iterator[OwnBroker]:
    """One broker behind a proxy for this file; the proxy is healed between the tests."""
    try:
        started = brokers.own(brokers.choose(["proxied", "offsets"], own=True), kafka_run, proxied=True)
    except brokers.AbsentError as error:
        pytest.skip(str(error))
    yield started
    started.close()


@pytest.fixture
def proxy(own: OwnBroker) -> Iterator[Proxy]:
    """Its proxy; whatever went wrong in there fails the test."""
    assert own.proxy
    own.proxy.broken.clear()
    yield own.proxy
    own.proxy.heal()
    own.proxy.cut()
    assert own.proxy.broken == []


@pytest.fixture
def producer(own: OwnBroker, proxy: Proxy) -> Iterator[KafkaProducer]:
    """A producer that gives up after 3 s."""
    made = KafkaProducer(
        bootstrap_servers=own.bootstrap, delivery_timeout_ms=3000, request_timeout_ms=1000, max_block_ms=3000
    )
    yield made
    proxy.heal()
    made.close(timeout=2)


def consumer_of(own: OwnBroker, topic: str, group: str | None = None, **settings: Any) -> KafkaConsumer:
    """A consumer by way of the proxy, from the beginning."""
    fixed = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "retry_backoff_ms": 20}
    soon = {"session_timeout_ms": 2000, "heartbeat_interval_ms": 500}
    return KafkaConsumer(
        topic, bootstrap_servers=own.bootstrap, group_id=group, **{**fixed, **soon, **settings}
    )


def taken(consumer: KafkaConsumer, count: int, timeout_s: float = 10.0) -> list[Any]:
    """Records until there are `count`, or time is up."""
    records, deadline = list[Any](), time.monotonic() + timeout_s
    while len(records) < count and time.monotonic() < deadline:
        records += [record for batch in consumer.poll(50).values() for record in batch]
    return records


def joined(own: OwnBroker, topic: str, **settings: Any) -> KafkaConsumer:
    """A member of a group that has its partitions and the ten records of `topic`."""
    consumer = consumer_of(own, topic, group=topic, **settings)
    assert len(taken(consumer, 10)) == 10
    return consumer


@pytest.fixture
def topic(own: OwnBroker) -> str:
    """A topic of one partition with ten records."""
    name = own.topic()
    own.direct.send(name, [b"%d" % n for n in range(10)])
    return name


def commit_of(topic: str, offset: int) -> dict[TopicPartition, OffsetAndMetadata]:
    """The offset of partition 0."""
    return {TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)}


def test_clients_stay_on_the_proxy_and_all_passes(
    own: OwnBroker, proxy: Proxy, topic: str, producer: KafkaProducer
) -> None:
    consumer = joined(own, topic)
    producer.send(topic, b"10").get(5)
    assert [r.value for r in taken(consumer, 1)] == [b"10"]
    consumer.commit(commit_of(topic, 11))
    assert consumer.committed(TopicPartition(topic, 0)) == 11
    consumer.close()
    assert {Api.PRODUCE, Api.FETCH, Api.JOIN_GROUP, Api.OFFSET_COMMIT} <= set(proxy.seen)


def test_an_answer_is_held_back_by_the_delay_and_pipelined_ones_do_not_add_up(
    proxy: Proxy, topic: str, producer: KafkaProducer
) -> None:
    producer.send(topic, b"warm").get(5)
    slow = proxy.delay(0.4, Api.PRODUCE, times=1)
    began = time.monotonic()
    producer.send(topic, b"late").get(5)
    assert time.monotonic() - began >= 0.4
    assert slow.hits == 1
    began = time.monotonic()
    producer.send(topic, b"soon").get(5)
    assert time.monotonic() - began < 0.4


def test_a_cancelled_delay_gives_what_it_held(proxy: Proxy, topic: str, producer: KafkaProducer) -> None:
    slow = proxy.delay(60, Api.PRODUCE)
    sent = producer.send(topic, b"late")
    brokers.wait_until(lambda: slow.hits, 5, "the request")
    slow.cancel()
    sent.get(1)


def test_swallowed_requests_never_reach_the_broker(
    own: OwnBroker, proxy: Proxy, topic: str, producer: KafkaProducer
) -> None:
    eaten = proxy.swallow(Api.PRODUCE)
    with pytest.raises(KafkaTimeoutError):
        producer.send(topic, b"lost").get(6)
    assert eaten.hits >= 1
    assert len(own.direct.read(topic, 11, timeout_s=0.5)) == 10


def test_a_connection_cut_before_the_broker_heard_is_made_up_for(
    own: OwnBroker, proxy: Proxy, topic: str, producer: KafkaProducer
) -> None:
    cut = proxy.cut_before(Api.PRODUCE, times=1)
    producer.send(topic, b"again").get(5)
    assert cut.hits == 1
    assert len(own.direct.read(topic, 12, timeout_s=0.5)) == 11


def direct_commit(own: OwnBroker, topic: str) -> int | None:
    """The offset of the group that the broker has, asked past the proxy."""
    asking = KafkaConsumer(bootstrap_servers=own.direct.bootstrap, group_id=topic)
    found = asking.committed(TopicPartition(topic, 0))
    asking.close()
    return None if found is None else int(found)


def test_a_lost_answer_leaves_a_commit_done_though_nobody_heard(
    own: OwnBroker, proxy: Proxy, topic: str
) -> None:
    consumer = joined(own, topic)
    lost = proxy.cut_after(Api.OFFSET_COMMIT)
    with pytest.raises(KafkaError):
        consumer.commit(commit_of(topic, 7), timeout_ms=1500)
    assert lost.hits >= 1
    assert direct_commit(own, topic) == 7
    proxy.heal()
    consumer.close()


def test_a_refused_commit_is_not_done(own: OwnBroker, proxy: Proxy, topic: str) -> None:
    consumer = joined(own, topic)
    proxy.refuse(ILLEGAL_GENERATION, Api.OFFSET_COMMIT, times=1)
    with pytest.raises(CommitFailedError):
        consumer.commit(commit_of(topic, 3), timeout_ms=3000)
    assert direct_commit(own, topic) is None
    consumer.close()


def test_a_commit_lied_about_is_done(own: OwnBroker, proxy: Proxy, topic: str) -> None:
    consumer = joined(own, topic)
    proxy.lie(TOPIC_REFUSED, Api.OFFSET_COMMIT, times=1)
    with pytest.raises(TopicAuthorizationFailedError):
        consumer.commit(commit_of(topic, 5), timeout_ms=3000)
    assert direct_commit(own, topic) == 5
    consumer.close()


@pytest.mark.parametrize(
    ("api", "error"),
    [
        (Api.JOIN_GROUP, COORDINATOR_NOT_AVAILABLE),
        (Api.JOIN_GROUP, REBALANCING),
        (Api.SYNC_GROUP, REBALANCING),
        (Api.SYNC_GROUP, UNKNOWN_MEMBER),
        (Api.FIND_COORDINATOR, COORDINATOR_NOT_AVAILABLE),
        (Api.FETCH, NOT_LEADER),
    ],
    ids=str,
)
def test_three_errors_on_the_way_to_records_are_got_over(
    own: OwnBroker, proxy: Proxy, topic: str, api: Api, error: int
) -> None:
    rule = proxy.refuse(error, api, times=3)
    consumer = consumer_of(own, topic, group=topic)
    assert len(taken(consumer, 10, timeout_s=20)) == 10
    assert rule.hits == 3
    consumer.close()


@pytest.mark.parametrize("error", [UNKNOWN_MEMBER, ILLEGAL_GENERATION, REBALANCING])
def test_a_member_whose_heartbeat_is_refused_joins_again(
    own: OwnBroker, proxy: Proxy, topic: str, error: int
) -> None:
    consumer = joined(own, topic, heartbeat_interval_ms=100)
    joins = proxy.seen[Api.JOIN_GROUP]
    rule = proxy.refuse(error, Api.HEARTBEAT, times=1)
    brokers.wait_until(
        lambda: (consumer.poll(50), proxy.seen[Api.JOIN_GROUP] > joins)[1], 10, "another JoinGroup"
    )
    assert rule.hits == 1
    consumer.close()


def test_an_error_that_ends_things_reaches_the_caller(own: OwnBroker, proxy: Proxy, topic: str) -> None:
    consumer = consumer_of(own, topic)
    proxy.refuse(TOPIC_REFUSED, Api.FETCH)
    with pytest.raises(TopicAuthorizationFailedError):
        taken(consumer, 1)
    proxy.heal()
    consumer.close()


def test_an_offset_out_of_range_can_be_played(own: OwnBroker, proxy: Proxy, topic: str) -> None:
    consumer = consumer_of(own, topic)
    assert len(taken(consumer, 10)) == 10
    rule = proxy.refuse(OFFSET_OUT_OF_RANGE, Api.FETCH, times=1)
    assert [r.offset for r in taken(consumer, 10)] == list(range(10))  # earliest: it begins anew
    assert rule.hits == 1
    consumer.close()


def test_a_refused_produce_writes_nothing_and_says_why(
    own: OwnBroker, proxy: Proxy, topic: str, producer: KafkaProducer
) -> None:
    proxy.refuse(TOO_LARGE, Api.PRODUCE, times=1)
    proxy.refuse(TOPIC_REFUSED, Api.PRODUCE)
    with pytest.raises(KafkaError):
        producer.send(topic, b"no").get(5)
    assert len(own.direct.read(topic, 11, timeout_s=0.5)) == 10


def test_a_retriable_error_on_produce_leaves_one_record(
    own: OwnBroker, proxy: Proxy, topic: str, producer: KafkaProducer
) -> None:
    rule = proxy.lie(
        NOT_LEADER, Api.PRODUCE, times=1
    )  # written, but the producer hears otherwise and repeats
    producer.send(topic, b"once").get(5)
    assert rule.hits == 1
    assert [r.value for r in own.direct.read(topic, 12, timeout_s=0.5)][10:] == [b"once"]


def test_a_topic_that_metadata_refuses_is_not_read_until_it_does_not(
    own: OwnBroker, proxy: Proxy, topic: str
) -> None:
    rule = proxy.refuse(TOPIC_REFUSED, Api.METADATA)
    consumer = consumer_of(own, topic, metadata_max_age_ms=500)  # it asks again no sooner
    assert taken(consumer, 1, timeout_s=1) == []  # and tells nobody
    assert rule.hits >= 1
    proxy.heal()
    assert len(taken(consumer, 10)) == 10
    consumer.close()


def test_a_starved_partition_gives_nothing_while_others_go_on(own: OwnBroker, proxy: Proxy) -> None:
    topic = own.topic(partitions=2)
    for partition in (0, 1):
        own.direct.send(topic, [b"v"] * 5, partition=partition)
    rule = proxy.starve(topic, 1)
    consumer = consumer_of(own, topic)
    assert {r.partition for r in taken(consumer, 6, timeout_s=1.5)} == {0}
    own.direct.send(topic, [b"w"] * 5, partition=0)
    assert len(taken(consumer, 5)) == 5
    assert rule.hits
    assert proxy.seen[Api.FETCH] < 200
    proxy.heal()
    assert [r.partition for r in taken(consumer, 5)] == [1] * 5
    consumer.close()


def test_in_a_black_hole_nothing_passes_and_nothing_is_closed(
    proxy: Proxy, topic: str, producer: KafkaProducer
) -> None:
    producer.send(topic, b"before").get(5)
    proxy.blackhole()
    sent = producer.send(topic, b"during")
    time.sleep(0.5)
    assert not sent.is_done
    proxy.heal()
    sent.get(5)


def test_a_shut_proxy_refuses_connections_until_it_reopens(
    own: OwnBroker, proxy: Proxy, topic: str, producer: KafkaProducer
) -> None:
    producer.send(topic, b"before").get(5)
    proxy.shut()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), 1)
    sent = producer.send(topic, b"meanwhile")
    time.sleep(0.3)
    assert not sent.is_done
    proxy.reopen()
    sent.get(5)


def test_rules_can_be_for_one_client_only(own: OwnBroker, proxy: Proxy, topic: str) -> None:
    rule = proxy.refuse(TOPIC_REFUSED, Api.FETCH, client="marked")
    free = consumer_of(own, topic, client_id="other")
    assert len(taken(free, 10)) == 10
    assert rule.hits == 0
    marked = consumer_of(own, topic, client_id="marked-1")
    with pytest.raises(TopicAuthorizationFailedError):
        taken(marked, 1)
    for consumer in (free, marked):
        consumer.close()


def test_transactions_pass_and_their_end_can_be_refused(own: OwnBroker, proxy: Proxy, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=own.bootstrap, transactional_id=topic)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"yes").get(5)
    producer.commit_transaction()
    producer.begin_transaction()
    producer.send(topic, b"no").get(5)
    proxy.refuse(90, Api.END_TXN, times=1)
    with pytest.raises(ProducerFencedError):
        producer.commit_transaction()
    producer.close(timeout=1)
    committed = own.direct.read(topic, 12, timeout_s=1, isolation_level="read_committed")
    assert [r.value for r in committed][10:] == [b"yes"]


@pytest.mark.parametrize("api", [api for api in Api if api is not Api.ADD_PARTITIONS_TO_TXN])
def test_a_refusal_can_be_read_in_every_version_that_kafka_python_knows(api: Api) -> None:
    request_class, answer_class = class_of(api, "Request"), class_of(api, "Response")
    assert answer_class.max_version >= 3
    for version in range(answer_class.max_version + 1):
        request = request_class(version=version)
        fill(api, request)
        request.with_header(correlation_id=77, client_id="me")
        refused = wire.refusal(request.encode(header=True), COORDINATOR_NOT_AVAILABLE)
        assert wire.correlation_of(refused) == 77
        codes = {line.error_code for line in wire.lines(api, wire.answer_of(api, version, refused))}
        assert codes == (set() if api in wire.READING and not codes else {COORDINATOR_NOT_AVAILABLE})


def fill(api: Api, request: Any) -> None:
    """A topic with a partition, in the requests whose answers have a line for each."""
    name = {Api.PRODUCE: "topic_data", Api.OFFSET_COMMIT: "topics", Api.TXN_OFFSET_COMMIT: "topics"}.get(api)
    if name is None:
        return
    of_topic = request.fields[name].data_class
    parts, key = ("partition_data", "index") if api is Api.PRODUCE else ("partitions", "partition_index")
    part = of_topic.fields[parts].data_class(**{key: 1})
    setattr(request, name, [of_topic(name="t", **{parts: [part]})])


def test_the_numbers_in_this_file_are_kafkas() -> None:
    numbers = (
        NOT_LEADER,
        COORDINATOR_NOT_AVAILABLE,
        OFFSET_OUT_OF_RANGE,
        UNKNOWN_MEMBER,
        REBALANCING,
        TOO_LARGE,
    )
    names = [for_code(number).__name__ for number in numbers]
    assert names == [
        "NotLeaderForPartitionError",
        "CoordinatorNotAvailableError",
        "OffsetOutOfRangeError",
        "UnknownMemberIdError",
        "RebalanceInProgressError",
        "MessageSizeTooLargeError",
    ]
