"""state repartition: the state anew for another number of lanes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamrec.errors import ConfigError
from streamrec.eventlog.base import Codec
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.topics import connect
from streamrec.repartition import Outcome, Plan, repartition
from streamrec.settings import Settings, load_settings
from streamrec.verbs.opening import field_names, topics_of


def repartition_state(plan: Plan, config: Path | None, flags: Mapping[str, Any]) -> None:
    """Do it, and print what was made; `plan.topics` as kafka://TOPIC.

    Raises
    ------
    ConfigError, StateError, BrokerError, DiskError
        As `repartition.repartition`.
    """
    topics = topics_of(plan.topics)
    if not topics:
        raise ConfigError("--against: wanted kafka://TOPIC, for only the state of topics has lanes")
    plan = plan._replace(topics=topics)
    settings = load_settings(config, flags)
    reader = connect(settings.kafka).reader()
    try:
        outcome = repartition(plan, lambda stored: load_settings(config, {**stored, **flags}), reader, _codec)
    finally:
        reader.close()
    _tell(plan, outcome)


def _codec(settings: Settings) -> Codec:
    return JsonCodec(field_names(settings.input))


def _tell(plan: Plan, outcome: Outcome) -> None:
    for number, lane in outcome.lanes.items():
        print(f"lane-{number}: {lane.events} events, {lane.users} users, learned {lane.learned}")
    before, after = outcome.before, outcome.after
    print(f"records: {before} read before, {after} now, {before - after} missing")
    for note in outcome.notes:
        print(f"note: {note}")
    print(f"state: {outcome.folder}" + ("" if plan.into else f"; the old one: {plan.before}"))
