"""replay: a historical log to a topic."""

from enum import StrEnum
from typing import Annotated

import typer

from streamrec.commands.options import (
    Bootstrap,
    Config,
    Files,
    Id,
    MarkField,
    Partitions,
    Rate,
    Speed,
    TimeField,
    TimeUnit,
    UserField,
    cluster,
    columns,
)


class Bad(StrEnum):
    """What a replay does with lines that are no events."""

    keep = "keep"
    drop = "drop"


To = Annotated[str, typer.Option("--to", help="kafka://TOPIC; made if absent, without a retention.")]
BadLines = Annotated[
    Bad, typer.Option("--bad", help="Lines that are no events: keep sends them as they are.")
]


def replay(
    inputs: Files,
    to: To,
    speed: Speed = 0.0,
    rate: Rate = 0.0,
    partitions: Partitions = None,
    bad: BadLines = Bad.keep,
    id: Id = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
) -> None:
    """Send a log to a topic, keyed by user and stamped with event time; every line once, whatever happens.

    The same command goes on where an earlier one was stopped or killed: the position is kept by the broker,
    in the transactions of the messages themselves.

    Example: streamrec replay events.csv --to kafka://events --speed 60
    """
    from streamrec.verbs import producing

    flags = columns(user_field, mark_field, time_field, time_unit) | cluster(bootstrap)
    route = producing.Route(to, partitions, id, speed, rate)
    producing.replay(inputs, route, config, flags, keep_bad=bad is Bad.keep)
