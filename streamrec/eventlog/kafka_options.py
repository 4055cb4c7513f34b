"""What settings mean to kafka-python, and what its errors mean to us.

    answered late, not connected, no leader     UnavailableError   ask again
    membership is over                          NotMemberError     the group has moved on
    offset not there, log was cut off           OutOfRangeError    the daemon decides
    transactional id or generation is old       FencedError        another one has taken over
    everything else                             BrokerError        with what to do next, if we know it

The library logs every lost connection as an error; in our logs it speaks from WARNING on.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from kafka import errors as kafka_errors

from streamrec.errors import (
    BrokerError,
    ConfigError,
    FencedError,
    NotMemberError,
    OutOfRangeError,
    StreamrecError,
    UnavailableError,
)
from streamrec.eventlog.passwords import password
from streamrec.settings import KafkaSettings

CLIENT_ID: Final = "streamrec"
NEWS_MS: Final = 10_000
"""Time between two looks at the topics: partitions that were added, leaders that moved."""

FOREVER_MS: Final = 2**31 - 1
"""24 days: no message is given up before."""

MAX_REQUEST_BYTES: Final = 100_000_000
"""What is too large for a topic is the broker's to say."""

_MOVED_ON: Final = "the group has moved on without us; poll again"
_FENCED: Final = "another one uses our transactional id; this one must stop"
_KINDS: Final[tuple[tuple[type[Exception], type[StreamrecError], str], ...]] = (
    (kafka_errors.CommitFailedError, NotMemberError, _MOVED_ON),
    (kafka_errors.UnknownMemberIdError, NotMemberError, _MOVED_ON),
    (kafka_errors.IllegalGenerationError, NotMemberError, _MOVED_ON),
    (kafka_errors.RebalanceInProgressError, NotMemberError, _MOVED_ON),
    (kafka_errors.ProducerFencedError, FencedError, _FENCED),
    (kafka_errors.InvalidProducerEpochError, FencedError, _FENCED),
    (kafka_errors.TransactionCoordinatorFencedError, FencedError, _FENCED),
    (kafka_errors.FencedInstanceIdError, BrokerError, "another member has joined with our group_instance_id: "
     "give every member its own, and stop this one or the other"),
    (kafka_errors.SaslAuthenticationFailedError, BrokerError, "the broker does not know us: check "
     "sasl_mechanism, sasl_username and the password"),
    (kafka_errors.UnsupportedSaslMechanismError, BrokerError, "the broker does not take this sasl_mechanism"),
    (kafka_errors.InconsistentGroupProtocolError, BrokerError, "other members of the group run with another "
     "number of lanes, another rebalance or another client: use the same settings for all, or another group"),
    (kafka_errors.InvalidSessionTimeoutError, BrokerError, "session_timeout_s is outside of what the broker "
     "allows (group.min.session.timeout.ms to group.max.session.timeout.ms)"),
    (kafka_errors.InvalidTransactionTimeoutError, BrokerError, "transaction_timeout_s is above what the "
     "broker allows (transaction.max.timeout.ms)"),
    (kafka_errors.GroupMaxSizeReachedError, BrokerError, "the group is full (group.max.size)"),
    (kafka_errors.AuthorizationError, BrokerError, "the broker does not allow it: give us the right to"),
    (kafka_errors.UnsupportedVersionError, BrokerError, "the broker is too old; wanted Kafka 2.5 or later"),
    (kafka_errors.RetriableError, UnavailableError, "no answer for now; ask again"),
    (kafka_errors.KafkaConfigurationError, ConfigError, "the settings do not fit"),
)  # fmt: skip

logging.getLogger("kafka").setLevel(logging.WARNING)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least one.

    Examples
    --------
    >>> milliseconds(0.25), milliseconds(0.0)
    (250, 1)
    """
    return max(1, round(seconds * 1000))


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """How a cluster is reached: the same for every client of kafka-python."""
    key_password = settings.ssl_key_password
    options = {
        "bootstrap_servers": list(settings.bootstrap),
        "client_id": CLIENT_ID,
        "request_timeout_ms": milliseconds(settings.request_timeout_s),
        "bootstrap_timeout_ms": milliseconds(settings.request_timeout_s),
        "reconnect_backoff_max_ms": 1000,
        "metadata_max_age_ms": NEWS_MS,
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password(settings),
        "ssl_cafile": _path(settings.ssl_cafile),
        "ssl_certfile": _path(settings.ssl_certfile),
        "ssl_keyfile": _path(settings.ssl_keyfile),
        "ssl_password": None if key_password is None else key_password.get_secret_value(),
        "ssl_check_hostname": settings.ssl_check_hostname,
    }
    return {name: value for name, value in options.items() if value is not None}


def _path(path: object) -> str | None:
    return None if path is None else str(path)


def reading_options(settings: KafkaSettings) -> dict[str, Any]:
    """How records are read: nothing is committed or reset by the library."""
    return connection_options(settings) | {
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
        "isolation_level": settings.isolation,
        "fetch_max_wait_ms": min(100, milliseconds(settings.request_timeout_s) // 2),
        "metrics_enabled": False,
    }


def member_options(settings: KafkaSettings) -> dict[str, Any]:
    """How a member behaves in its group; the assignor comes beside it."""
    return reading_options(settings) | {
        "group_id": settings.group,
        "group_instance_id": settings.group_instance_id,
        "session_timeout_ms": milliseconds(settings.session_timeout_s),
        "heartbeat_interval_ms": milliseconds(settings.heartbeat_s),
        "max_poll_interval_ms": milliseconds(settings.max_poll_interval_s),
    }


def writing_options(settings: KafkaSettings) -> dict[str, Any]:
    """How messages are written: each once, in order, and never given up."""
    return connection_options(settings) | {
        "enable_idempotence": True,
        "acks": "all",
        "retries": float("inf"),
        "delivery_timeout_ms": FOREVER_MS,
        "linger_ms": 20,
        "batch_size": 131_072,
        "max_request_size": MAX_REQUEST_BYTES,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def transaction_options(settings: KafkaSettings, transactional_id: str) -> dict[str, Any]:
    """How messages are written inside of transactions."""
    return writing_options(settings) | {
        "transactional_id": transactional_id,
        "transaction_timeout_ms": milliseconds(settings.transaction_timeout_s),
        "max_block_ms": milliseconds(settings.request_timeout_s),
    }


_NO_ANSWER: Final = ("RequestTimedOutError", "KafkaConnectionError", "NodeNotReadyError")
"""What a transaction's errors, which are KafkaErrors of no kind, hold in their texts when nobody answered."""


@contextmanager
def our_errors(where: str) -> Iterator[None]:
    """Raise errors of the library as ours; `where` says what was asked of whom."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise translated(error, where) from error


def translated(error: BaseException, where: str) -> StreamrecError:
    """Our error for one of the library's.

    Examples
    --------
    >>> str(translated(kafka_errors.IllegalGenerationError(), "commit"))
    'commit: the group has moved on without us; poll again ([Error 22] IllegalGenerationError)'
    """
    kind, text = type(error).__name__, _one_line(error)
    if isinstance(error, kafka_errors.OffsetOutOfRangeError):
        return _out_of_range(where, error.args[0])
    if isinstance(error, kafka_errors.LogTruncationError):
        return OutOfRangeError(
            f"{where}: the log was cut off before what was read ({text})",
            dict.fromkeys(error.divergent_offsets, -1),
        )
    for family, ours, advice in _KINDS:
        if isinstance(error, family):
            return ours(f"{where}: {advice} ({text})")
    if any(name in text for name in _NO_ANSWER):
        return UnavailableError(f"{where}: no answer came; ask again ({kind}: {text})")
    return BrokerError(f"{where}: refused ({kind}: {text})")


def _out_of_range(where: str, wanted: Mapping[Any, int]) -> OutOfRangeError:
    places = {(place.topic, place.partition): offset for place, offset in wanted.items()}
    lines = [
        f"{topic}[{partition}] does not hold offset {offset}" for (topic, partition), offset in places.items()
    ]
    return OutOfRangeError(f"{where}: {', '.join(lines)}; seek to one that it holds (see its bounds)", places)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
