"""run and demo: a log through the whole program."""

from typing import Annotated

import typer

from streamrec.commands.options import (
    Bootstrap,
    Config,
    Inputs,
    MarkField,
    MetricsPort,
    State,
    TimeField,
    TimeUnit,
    UserField,
    cluster,
    columns,
)

Sink = Annotated[str, typer.Option("--sink", help="jsonl:FILE, kafka:TOPIC or none.")]
DeadLetters = Annotated[
    str | None, typer.Option("--dead-letters", help="FILE or kafka:TOPIC for refused records.")
]
Group = Annotated[str | None, typer.Option("--group", help="Consumer group.")]
OnGap = Annotated[
    str | None, typer.Option("--on-gap", help="fail or skip, when a topic lost records unread.")
]
UntilEnd = Annotated[bool, typer.Option("--until-end", help="Topics: stop at what they hold at the start.")]
LogFormat = Annotated[str | None, typer.Option("--log-format", help="text or json.")]


def run(
    inputs: Inputs,
    config: Config = None,
    state: State = None,
    sink: Sink = "none",
    dead_letters: DeadLetters = None,
    bootstrap: Bootstrap = None,
    group: Group = None,
    on_gap: OnGap = None,
    until_end: UntilEnd = False,
    metrics_port: MetricsPort = None,
    log_format: LogFormat = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
) -> None:
    """Stream a log through the program: forecast, learn, publish; resumes from --state.

    A topic is read as a member of a consumer group until SIGTERM; files until their end.

    Example: streamrec run events.csv --state runs/shop --sink jsonl:forecasts.jsonl

    Example: streamrec run kafka://clicks --state runs/shop --sink kafka:forecasts
    """
    from streamrec.verbs.opening import topics_of

    flags = columns(user_field, mark_field, time_field, time_unit) | cluster(bootstrap)
    flags |= {"kafka.group": group, "kafka.on_gap": on_gap}
    flags |= {"http.port": metrics_port, "log.format": log_format}
    if topics_of(inputs):
        from streamrec.verbs import consuming

        consuming.consume(inputs, config, flags, state, sink, dead_letters, until_end)
    else:
        from streamrec.verbs import running

        running.run(inputs, config, flags, state, sink, dead_letters)


def demo(state: State = None) -> None:
    """Get MovieLens-100K (or simulate a stream) and run it with a live display; what `make run` does.

    Example: streamrec demo --state runs/movielens-100k
    """
    from streamrec.verbs import running

    running.demo(state)
