"""What settings mean to confluent-kafka, and what its errors mean to us; beside `kafka_options`."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from streamrec.errors import (
    BrokerError,
    ConfigError,
    DeliveryError,
    FencedError,
    NotMemberError,
    StreamrecError,
    UnavailableError,
)
from streamrec.eventlog.clients import AbsentTopicError
from streamrec.eventlog.passwords import password
from streamrec.settings import KafkaSettings

_MOVED_ON: Final = "the group has moved on without us; poll again"
_FENCED: Final = "another one uses our transactional id; this one must stop"
_UNKNOWN: Final = "the broker does not know us: check sasl_mechanism, sasl_username and the password"
_KINDS: Final[dict[str, tuple[type[StreamrecError], str]]] = {
    "UNKNOWN_MEMBER_ID": (NotMemberError, _MOVED_ON),
    "ILLEGAL_GENERATION": (NotMemberError, _MOVED_ON),
    "REBALANCE_IN_PROGRESS": (NotMemberError, _MOVED_ON),
    "_ASSIGNMENT_LOST": (NotMemberError, _MOVED_ON),
    "_MAX_POLL_EXCEEDED": (NotMemberError, _MOVED_ON),
    "_FENCED": (FencedError, _FENCED),
    "PRODUCER_FENCED": (FencedError, _FENCED),
    "INVALID_PRODUCER_EPOCH": (FencedError, _FENCED),
    "FENCED_INSTANCE_ID": (BrokerError, "another member has joined with our group_instance_id: give every "
                           "member its own, and stop this one or the other"),
    "_AUTHENTICATION": (BrokerError, _UNKNOWN),
    "SASL_AUTHENTICATION_FAILED": (BrokerError, _UNKNOWN),
    "INCONSISTENT_GROUP_PROTOCOL": (BrokerError, "other members of the group run with another rebalance or "
                                    "another client: use the same settings for all, or another group"),
    "UNKNOWN_TOPIC_OR_PART": (AbsentTopicError, "there is no such topic or partition; make it"),
    "_UNKNOWN_TOPIC": (AbsentTopicError, "there is no such topic; make it, or name another"),
    "_UNKNOWN_PARTITION": (BrokerError, "there is no such partition"),
    "MSG_SIZE_TOO_LARGE": (DeliveryError, "a message is too large: raise max.message.bytes of the topic, or "
                           "write less"),
    "_TIMED_OUT": (UnavailableError, "no answer in time; ask again"),
    "_TRANSPORT": (UnavailableError, "no connection; ask again"),
    "_ALL_BROKERS_DOWN": (UnavailableError, "no connection; ask again"),
    "_RESOLVE": (UnavailableError, "the name of the broker is not known; ask again, or check bootstrap"),
    "_TIMED_OUT_QUEUE": (UnavailableError, "no answer in time; ask again"),
    "_WAIT_COORD": (UnavailableError, "no coordinator for now; ask again"),
    "COORDINATOR_NOT_AVAILABLE": (UnavailableError, "no coordinator for now; ask again"),
    "NOT_COORDINATOR": (UnavailableError, "no coordinator for now; ask again"),
    "COORDINATOR_LOAD_IN_PROGRESS": (UnavailableError, "no coordinator for now; ask again"),
}  # fmt: skip
_LOG: Final = logging.getLogger("confluent_kafka")


def library() -> Any:
    """The module `confluent_kafka`.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return importlib.import_module("confluent_kafka")
    except ImportError as error:
        raise ConfigError(
            f"kafka.client = confluent: the package confluent-kafka is not installed ({error}); "
            "install streamrec[fast], or set kafka.client = kafka-python"
        ) from None


@cache
def _codes() -> dict[int, str]:
    """Names of error codes; those of the library itself begin with an underscore."""
    kinds = library().KafkaError
    return {code: name for name in dir(kinds) if isinstance(code := getattr(kinds, name), int)}


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least one."""
    return max(1, round(seconds * 1000))


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """How a cluster is reached: the same for every client of confluent-kafka."""
    key_password = settings.ssl_key_password
    options = {
        "bootstrap.servers": ",".join(settings.bootstrap),
        "client.id": "streamrec",
        "socket.timeout.ms": max(10, milliseconds(settings.request_timeout_s)),
        "reconnect.backoff.max.ms": 1000,
        "security.protocol": settings.security_protocol,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": password(settings),
        "ssl.ca.location": settings.ssl_cafile,
        "ssl.certificate.location": settings.ssl_certfile,
        "ssl.key.location": settings.ssl_keyfile,
        "ssl.key.password": None if key_password is None else key_password.get_secret_value(),
        "logger": _LOG,
        "log_level": 4,
    }
    if "SSL" in settings.security_protocol.split("_")[-1]:
        options["ssl.endpoint.identification.algorithm"] = "https" if settings.ssl_check_hostname else "none"
    plain = (int, str, logging.Logger)
    return {k: v if isinstance(v, plain) else str(v) for k, v in options.items() if v is not None}


def reading_options(settings: KafkaSettings) -> dict[str, Any]:
    """How records are read: nothing is committed or reset by the library."""
    return connection_options(settings) | {
        "group.id": settings.group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,  # tells how far transaction markers reach
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        "isolation.level": settings.isolation,
        "topic.metadata.refresh.interval.ms": 10_000,
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 10,
        "queued.max.messages.kbytes": 16_384,
    }


def member_options(settings: KafkaSettings) -> dict[str, Any]:
    """How a member behaves in its group."""
    options = reading_options(settings) | {
        "partition.assignment.strategy": "cooperative-sticky"
        if settings.rebalance == "cooperative"
        else "range",
        "session.timeout.ms": milliseconds(settings.session_timeout_s),
        "heartbeat.interval.ms": milliseconds(settings.heartbeat_s),
        "max.poll.interval.ms": milliseconds(max(settings.max_poll_interval_s, settings.session_timeout_s)),
    }
    if settings.group_instance_id is not None:
        options["group.instance.id"] = settings.group_instance_id
    return options


def writing_options(settings: KafkaSettings) -> dict[str, Any]:
    """How messages are written: each once, in order, and never given up."""
    return connection_options(settings) | {
        "enable.idempotence": True,
        "acks": "all",
        "message.timeout.ms": 0,  # never
        "linger.ms": 20,
        "batch.size": 131_072,
        "message.max.bytes": 100_000_000,
        "queue.buffering.max.messages": 0,  # no bound: whoever sends looks at `pending`
        "queue.buffering.max.kbytes": 2**31 - 1,
        "partitioner": "murmur2_random",  # as the Java client and kafka-python place keys
        "allow.auto.create.topics": False,
        "topic.metadata.propagation.max.ms": milliseconds(settings.request_timeout_s),
    }


def transaction_options(settings: KafkaSettings, transactional_id: str) -> dict[str, Any]:
    """How messages are written inside of transactions."""
    timeout_ms = milliseconds(settings.transaction_timeout_s)
    return writing_options(settings) | {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": max(1000, timeout_ms),
        "message.timeout.ms": max(1000, timeout_ms),
        "socket.timeout.ms": max(10, min(milliseconds(settings.request_timeout_s), timeout_ms - 100)),
    }


@contextmanager
def our_errors(where: str) -> Iterator[None]:
    """Raise errors of the library as ours; `where` says what was asked of whom."""
    kafka = library()
    try:
        yield
    except kafka.KafkaException as error:
        raise translated(error.args[0], where) from error


def translated(error: Any, where: str) -> StreamrecError:
    """Our error for one of the library's (a `KafkaError`)."""
    name = _codes().get(error.code(), str(error.code()))
    if name == "_FATAL" and "group.instance.id" in error.str():
        name = "FENCED_INSTANCE_ID"
    kind, advice = _KINDS.get(name, (BrokerError, "refused"))
    if kind is BrokerError and advice == "refused" and (error.retriable() or error.txn_requires_abort()):
        kind, advice = UnavailableError, "no answer for now; ask again"
    if "AUTHORIZATION" in name:
        advice = "the broker does not allow it: give us the right to"
    return kind(f"{where}: {advice} ({name}: {' '.join(error.str().split())[:300]})")
