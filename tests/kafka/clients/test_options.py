"""What settings become in each library, and what errors of the library become; no broker is needed."""

import logging

import confluent_kafka
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors

from streamrec.errors import (
    BrokerError,
    ConfigError,
    FencedError,
    NotMemberError,
    OutOfRangeError,
    UnavailableError,
)
from streamrec.eventlog import confluent_options, kafka_options
from streamrec.eventlog.passwords import password
from streamrec.settings import KafkaSettings

SECURE = KafkaSettings(
    bootstrap=("a:9092", "b:9092"),
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="alice",
    sasl_password="wonder",
    ssl_cafile="/ca.pem",
    ssl_certfile="/cert.pem",
    ssl_keyfile="/key.pem",
    ssl_key_password="land",
    ssl_check_hostname=False,
)
MEMBER = KafkaSettings(
    group="g", group_instance_id="x", session_timeout_s=12.0, heartbeat_s=2.0, max_poll_interval_s=60.0,
    request_timeout_s=7.0, isolation="read_uncommitted", rebalance="eager",
)  # fmt: skip


def test_security_reaches_kafka_python():
    assert kafka_options.connection_options(SECURE) == {
        "bootstrap_servers": ["a:9092", "b:9092"],
        "client_id": "streamrec",
        "request_timeout_ms": 30_000,
        "bootstrap_timeout_ms": 30_000,
        "reconnect_backoff_max_ms": 1000,
        "metadata_max_age_ms": 10_000,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "alice",
        "sasl_plain_password": "wonder",
        "ssl_cafile": "/ca.pem",
        "ssl_certfile": "/cert.pem",
        "ssl_keyfile": "/key.pem",
        "ssl_password": "land",
        "ssl_check_hostname": False,
    }


def test_security_reaches_confluent():
    options = confluent_options.connection_options(SECURE)
    wanted = {
        "bootstrap.servers": "a:9092,b:9092",
        "client.id": "streamrec",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "alice",
        "sasl.password": "wonder",
        "ssl.ca.location": "/ca.pem",
        "ssl.certificate.location": "/cert.pem",
        "ssl.key.location": "/key.pem",
        "ssl.key.password": "land",
        "ssl.endpoint.identification.algorithm": "none",
    }
    assert {name: options[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("settings", "said"), [(KafkaSettings(), None), (KafkaSettings(security_protocol="SSL"), "https")]
)
def test_the_host_name_is_checked_where_there_is_a_certificate(settings, said):
    options = confluent_options.connection_options(settings)
    assert options.get("ssl.endpoint.identification.algorithm") == said


def test_membership_reaches_both():
    plain = kafka_options.member_options(MEMBER)
    fast = confluent_options.member_options(MEMBER)
    pairs = {
        ("group_id", "group.id"): "g",
        ("group_instance_id", "group.instance.id"): "x",
        ("session_timeout_ms", "session.timeout.ms"): 12_000,
        ("heartbeat_interval_ms", "heartbeat.interval.ms"): 2000,
        ("max_poll_interval_ms", "max.poll.interval.ms"): 60_000,
        ("request_timeout_ms", "socket.timeout.ms"): 7000,
        ("isolation_level", "isolation.level"): "read_uncommitted",
        ("enable_auto_commit", "enable.auto.commit"): False,
    }
    assert {names: (plain[names[0]], fast[names[1]]) for names in pairs} == {
        names: (value, value) for names, value in pairs.items()
    }
    assert (plain["auto_offset_reset"], fast["auto.offset.reset"]) == ("none", "error")
    assert fast["partition.assignment.strategy"] == "range"


def test_the_libraries_know_every_option():
    assert set(kafka_options.member_options(SECURE)) <= set(KafkaConsumer.DEFAULT_CONFIG)
    assert set(kafka_options.transaction_options(SECURE, "t")) <= set(KafkaProducer.DEFAULT_CONFIG)
    unsecured = KafkaSettings(bootstrap=("127.0.0.1:9",), group_instance_id="x")
    confluent_kafka.Consumer(confluent_options.member_options(unsecured)).close()
    confluent_kafka.Producer(confluent_options.transaction_options(unsecured, "t")).close(0.1)


def test_a_password_comes_from_a_file_without_its_line_end(tmp_path):
    fields = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "alice"}
    path = tmp_path / "password"
    path.write_text(" wonder \n", encoding="utf-8")
    assert password(KafkaSettings(sasl_password_file=path, **fields)) == " wonder "
    with pytest.raises(ConfigError, match="sasl_password_file"):
        password(KafkaSettings(sasl_password_file=tmp_path / "absent", **fields))


@pytest.mark.parametrize(
    ("error", "ours", "text"),
    [
        (kafka_errors.KafkaTimeoutError("late"), UnavailableError, "ask again"),
        (kafka_errors.NodeNotReadyError(1), UnavailableError, "ask again"),
        (kafka_errors.KafkaConnectionError("lost"), UnavailableError, "ask again"),
        (kafka_errors.CommitFailedError(), NotMemberError, "moved on"),
        (kafka_errors.UnknownMemberIdError(), NotMemberError, "moved on"),
        (kafka_errors.RebalanceInProgressError(), NotMemberError, "moved on"),
        (kafka_errors.ProducerFencedError(), FencedError, "transactional id"),
        (kafka_errors.FencedInstanceIdError(), BrokerError, "group_instance_id"),
        (kafka_errors.InconsistentGroupProtocolError(), BrokerError, "number of lanes"),
        (kafka_errors.SaslAuthenticationFailedError("no"), BrokerError, "sasl_username"),
        (kafka_errors.TopicAuthorizationFailedError({"t"}), BrokerError, "right"),
        (kafka_errors.KafkaConfigurationError("odd"), ConfigError, "settings"),
        (kafka_errors.UnknownError(), BrokerError, "UnknownError"),
    ],
)
def test_errors_of_kafka_python_say_what_to_do(error, ours, text):
    with pytest.raises(ours, match=text) as caught, kafka_options.our_errors("here"):
        raise error
    assert (
        type(caught.value) is ours
        and str(caught.value).startswith("here: ")
        and "\n" not in str(caught.value)
    )


def test_truncation_of_the_log_is_out_of_range():
    from kafka import TopicPartition  # noqa: PLC0415

    error = kafka_options.translated(kafka_errors.LogTruncationError({TopicPartition("t", 1): None}), "here")
    assert isinstance(error, OutOfRangeError) and set(error.places) == {("t", 1)}


@pytest.mark.parametrize(
    ("code", "ours", "text"),
    [
        ("_TIMED_OUT", UnavailableError, "ask again"),
        ("_ALL_BROKERS_DOWN", UnavailableError, "ask again"),
        ("ILLEGAL_GENERATION", NotMemberError, "moved on"),
        ("_FENCED", FencedError, "transactional id"),
        ("FENCED_INSTANCE_ID", BrokerError, "group_instance_id"),
        ("INCONSISTENT_GROUP_PROTOCOL", BrokerError, "same settings"),
        ("_AUTHENTICATION", BrokerError, "sasl_username"),
        ("TOPIC_AUTHORIZATION_FAILED", BrokerError, "right"),
        ("UNKNOWN", BrokerError, "refused"),
    ],
)
def test_errors_of_confluent_say_what_to_do(code, ours, text):
    error = confluent_kafka.KafkaError(getattr(confluent_kafka.KafkaError, code))
    with pytest.raises(ours, match=text) as caught, confluent_options.our_errors("here"):
        raise confluent_kafka.KafkaException(error)
    assert (
        type(caught.value) is ours
        and str(caught.value).startswith("here: ")
        and "\n" not in str(caught.value)
    )


def test_the_library_speaks_from_warning_on():
    assert logging.getLogger("kafka").getEffectiveLevel() == logging.WARNING


def test_a_transaction_that_nobody_answered_is_in_doubt_and_not_refused():
    text = "Could not execute transactional request: [Error 7] RequestTimedOutError"
    error = kafka_errors.KafkaError(kafka_errors.KafkaError(text))
    assert isinstance(kafka_options.translated(error, "here"), UnavailableError)
    assert not isinstance(kafka_options.translated(kafka_errors.KafkaError("no"), "here"), UnavailableError)
