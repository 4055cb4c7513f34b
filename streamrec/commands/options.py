"""Arguments and options that several verbs have, and the settings that they stand for.

A flag that was not given is None, and leaves its setting to the file and the environment.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

Flags = dict[str, Any]
"""Settings by dotted name, as `load_settings` wants them."""

Inputs = Annotated[
    list[str],
    typer.Argument(help="CSV, JSON lines or Parquet (plain, .gz, .zst), globs, -, or kafka://TOPIC."),
]
Files = Annotated[
    list[str], typer.Argument(help="CSV, JSON lines or Parquet (plain, .gz, .zst), globs, or -.")
]
Folder = Annotated[Path, typer.Argument(help="Folder of the state.")]
Against = Annotated[
    list[str], typer.Option("--against", help="The log that it was made from: files, or kafka://TOPIC.")
]

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file (TOML).")]
State = Annotated[Path | None, typer.Option("--state", help="Folder of the state; made if absent.")]
Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka brokers, host:port,host:port.")]
MetricsPort = Annotated[int | None, typer.Option("--metrics-port", help="Serve /metrics there.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all figures there.")]

UserField = Annotated[str | None, typer.Option("--user-field", help="Column of the user.")]
MarkField = Annotated[
    str | None, typer.Option("--mark-field", help="Column(s) of the mark, joined by a comma.")
]
TimeField = Annotated[str | None, typer.Option("--time-field", help="Column of the time.")]
TimeUnit = Annotated[str | None, typer.Option("--time-unit", help="s, ms, us or ns; default s.")]

Speed = Annotated[float, typer.Option("--speed", help="Seconds of event time per second; 0: no wait.")]
Rate = Annotated[float, typer.Option("--rate", help="Most messages per second; 0: no limit.")]
Partitions = Annotated[
    int | None, typer.Option("--partitions", min=1, help="Of the topic; if it exists it has to have these.")
]
Id = Annotated[
    str | None, typer.Option("--id", help="Names what is sent, to go on with it; made from the inputs.")
]


def cluster(bootstrap: str | None) -> Flags:
    """The brokers.

    Examples
    --------
    >>> cluster("a:9092,b:9092"), cluster(None)
    ({'kafka.bootstrap': ['a:9092', 'b:9092']}, {'kafka.bootstrap': None})
    """
    return {"kafka.bootstrap": bootstrap.split(",") if bootstrap else None}


def columns(user: str | None, mark: str | None, time: str | None, unit: str | None) -> Flags:
    """Where the fields of an event are found."""
    return {
        "input.user_field": user,
        "input.mark_field": mark,
        "input.time_field": time,
        "input.time_unit": unit,
    }
