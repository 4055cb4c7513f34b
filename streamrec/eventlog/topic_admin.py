"""Topics as an administrator sees them: what exists, and making one that does not.

A topic of historical events has to keep records by their stamps, which lie in the past: with the broker's
default retention (seven days after the stamp) it would delete them within minutes. `HISTORICAL` says so for
topics that are made here; `dangers` says what another topic would do to such records.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final, NamedTuple

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from streamrec.errors import ConfigError
from streamrec.eventlog.kafka_options import connection_options, milliseconds, our_errors
from streamrec.settings import KafkaSettings

NEVER: Final = 9223372036854775807
HISTORICAL: Final = MappingProxyType(
    {"retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.after.max.ms": str(NEVER)}
)
"""Settings of a topic that keeps events of any time."""


class TopicState(NamedTuple):
    """A topic as it stands.

    Parameters
    ----------
    partitions : how many
    configs : all its settings, defaults of the broker among them
    created : whether it was made just now
    """

    partitions: int
    configs: Mapping[str, str]
    created: bool

    def number(self, name: str, default: int) -> int:
        """A setting that is a whole number."""
        return int(self.configs.get(name) or default)


def ensure_topic(
    kafka: KafkaSettings, name: str, partitions: int | None, configs: Mapping[str, str] = HISTORICAL
) -> TopicState:
    """A topic as it stands; if absent it is made, with so many partitions (None: the broker's default).

    Raises
    ------
    ConfigError
        If it exists with another number of partitions than was asked for.
    UnavailableError
        If the cluster cannot be reached.
    BrokerError
        If it refuses.
    """
    with _admin(kafka) as admin:
        created = _create(admin, name, partitions, configs)
        admin.wait_for_topics([name], timeout_ms=milliseconds(kafka.request_timeout_s))
        (topic,) = admin.describe_topics([name])
        state = TopicState(len(topic["partitions"]), _configs(admin, name), created)
    if partitions is not None and state.partitions != partitions:
        raise ConfigError(
            f"{name}: has {state.partitions} partitions, not {partitions}: leave --partitions out, or choose "
            "another topic"
        )
    return state


def make_if_absent(kafka: KafkaSettings, names: Sequence[str], partitions: int) -> list[str]:
    """Make those of the topics that are not there, with the broker's defaults; their names.

    Raises
    ------
    UnavailableError
        If the cluster cannot be reached.
    BrokerError
        If it refuses.
    """
    with _admin(kafka) as admin:
        made = [name for name in dict.fromkeys(names) if _create(admin, name, partitions, {})]
        if made:
            admin.wait_for_topics(made, timeout_ms=milliseconds(kafka.request_timeout_s))
    return made


def dangers(name: str, state: TopicState) -> list[str]:
    """What a topic would do to records stamped with event time; one line each, none if it is harmless.

    Examples
    --------
    >>> dangers("t", TopicState(1, {"retention.ms": "3600000"}, False))[0][:67]
    't: retention.ms=3600000 deletes records 1 h after their stamps, and'
    >>> dangers("t", TopicState(1, HISTORICAL, True))
    []
    """
    out = []
    configs = state.configs
    retention = state.number("retention.ms", 604_800_000)
    by_arrival = configs.get("message.timestamp.type") == "LogAppendTime"
    if "compact" in configs.get("cleanup.policy", ""):
        out.append(
            f"{name}: cleanup.policy={configs['cleanup.policy']} keeps one record per user; set it to delete"
        )
    if by_arrival:
        out.append(
            f"{name}: message.timestamp.type=LogAppendTime puts the time of arrival in place of event time"
        )
    elif retention >= 0:
        out.append(
            f"{name}: retention.ms={retention} deletes records {retention / 3_600_000:g} h after their "
            "stamps, and the stamps are event times; set it to -1"
        )
    if state.number("retention.bytes", -1) >= 0:
        out.append(f"{name}: retention.bytes={configs['retention.bytes']} deletes the oldest; set it to -1")
    after = state.number("message.timestamp.after.max.ms", NEVER)
    if not by_arrival and after < NEVER:
        out.append(
            f"{name}: message.timestamp.after.max.ms={after} refuses events of the future; set it to {NEVER}"
        )
    return out


def _create(admin: KafkaAdminClient, name: str, partitions: int | None, configs: Mapping[str, str]) -> bool:
    if name in admin.list_topics():
        return False
    try:
        admin.create_topics({name: {"num_partitions": partitions or -1, "configs": dict(configs)}})
    except TopicAlreadyExistsError:
        return False
    return True


def _configs(admin: KafkaAdminClient, name: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    found = admin.describe_configs([resource], config_filter="all")["topic"][name]
    return {key: str(entry["value"]) for key, entry in found.items() if entry["value"] is not None}


@contextmanager
def _admin(kafka: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """A client for administrators, with errors of ours."""
    with our_errors(f"{','.join(kafka.bootstrap)}: topics"):
        admin = KafkaAdminClient(**connection_options(kafka))
        try:
            yield admin
        finally:
            admin.close()
