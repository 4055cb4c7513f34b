"""evaluate and judge: how good forecasts are, on a log at hand and of what was published."""

from pathlib import Path
from typing import Annotated

import typer

from streamrec.commands.options import (
    Bootstrap,
    Config,
    Inputs,
    JsonFile,
    MarkField,
    MetricsPort,
    State,
    TimeField,
    TimeUnit,
    UserField,
    cluster,
    columns,
)

Models = Annotated[str | None, typer.Option("--models", help="Experts, joined by a comma.")]
Warmup = Annotated[float, typer.Option("--warmup", help="Events, or a share of them, not scored.")]
MaxEvents = Annotated[int | None, typer.Option("--max-events", help="Stop after so many records.")]
Ties = Annotated[str | None, typer.Option("--ties", help="set, or file-order (published figures).")]
Universe = Annotated[str | None, typer.Option("--universe", help="open, or known (published figures).")]

Forecasts = Annotated[
    str, typer.Option("--forecasts", help="Forecasts as they were published: a file or kafka://TOPIC.")
]
Events = Annotated[
    list[str], typer.Option("--events", help="What they are about, a file or kafka://TOPIC; repeatable.")
]
Outcomes = Annotated[
    Path | None, typer.Option("--outcomes", help="File for one JSON line per answered forecast.")
]
Follow = Annotated[
    bool, typer.Option("--follow", help="Topics only: go on at the end of both, until SIGTERM.")
]
Window = Annotated[float, typer.Option("--window-s", help="Length of the windows, seconds of event time.")]
MaxUsers = Annotated[
    int, typer.Option("--max-users", help="Most users with an open forecast; the oldest expire first.")
]
MaxWaiting = Annotated[
    int, typer.Option("--max-waiting", help="Most events, and most forecasts, that wait for the other log.")
]


def evaluate(
    inputs: Inputs,
    config: Config = None,
    models: Models = None,
    warmup: Warmup = 0.0,
    max_events: MaxEvents = None,
    ties: Ties = None,
    universe: Universe = None,
    json_file: JsonFile = None,
    state: State = None,
    bootstrap: Bootstrap = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
) -> None:
    """Score every forecast of one pass over a log, beside every model and every naive rule.

    A topic is read up to what it holds at the start, its partitions in turns.

    Example: streamrec evaluate events.csv --warmup 100 --json figures.json
    """
    from streamrec.verbs import scoring

    flags = columns(user_field, mark_field, time_field, time_unit) | cluster(bootstrap)
    flags |= {"order.ties": ties, "forecast.universe": universe}
    flags["models.enabled"] = models.split(",") if models else None
    scoring.evaluate_files(inputs, config, flags, warmup, max_events, json_file, state)


def judge(
    forecasts: Forecasts,
    events: Events,
    config: Config = None,
    state: State = None,
    json_file: JsonFile = None,
    outcomes: Outcomes = None,
    follow: Follow = False,
    window_s: Window = 86_400.0,
    max_users: MaxUsers = 200_000,
    max_waiting: MaxWaiting = 200_000,
    metrics_port: MetricsPort = None,
    bootstrap: Bootstrap = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
) -> None:
    """Join issued forecasts with what happened, and score them as `evaluate` does; resumes from --state.

    Example: streamrec judge --forecasts forecasts.jsonl --events events.csv --json verdict.json

    Example: streamrec judge --forecasts kafka://forecasts --events kafka://clicks --follow
    """
    from streamrec.verbs import judging

    flags = columns(user_field, mark_field, time_field, time_unit) | cluster(bootstrap)
    flags["http.port"] = metrics_port
    asked = judging.Asked(forecasts, events, state, outcomes, follow, window_s, max_users, max_waiting)
    judging.judge(asked, config, flags, json_file)
