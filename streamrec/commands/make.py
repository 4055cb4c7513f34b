"""simulate, validate, data list and data get: making input, and looking at it."""

from pathlib import Path
from typing import Annotated

import typer

from streamrec.commands.options import (
    Bootstrap,
    Config,
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

data = typer.Typer(no_args_is_help=True, help="Public data sets for a first try.")

Process = Annotated[str, typer.Argument(help="hawkes, poisson, gamma-poisson, renewal or sessions.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File to write: JSON lines by its name, else CSV; events.csv."),
]
To = Annotated[str | None, typer.Option("--to", help="kafka://TOPIC to send to, in place of a file.")]
Poison = Annotated[
    float, typer.Option("--poison", help="Records of every bad kind, as a share of the events.")
]
Duplicates = Annotated[
    float, typer.Option("--duplicates", help="Share of the events that come twice, with the same id.")
]
Late = Annotated[float, typer.Option("--late", help="Share of the events that come too late.")]
Lateness = Annotated[
    float, typer.Option("--lateness", help="Seconds of order.lateness_s for which they are too late.")
]
Shuffle = Annotated[int, typer.Option("--shuffle", help="Places by which events are displaced, less than.")]
Large = Annotated[
    bool, typer.Option("--large", help="Poison of 1 and 10 MiB too; the topic has to allow it.")
]


def simulate(
    process: Process,
    events: Annotated[int, typer.Option("--events", min=1, help="Events to write.")] = 10_000,
    users: Annotated[int, typer.Option("--users", min=1, help="Users, each a sequence of their own.")] = 500,
    marks: Annotated[int, typer.Option("--marks", min=1, help="Distinct marks.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Fixes every byte.")] = 0,
    output: Output = None,
    to: To = None,
    poison: Poison = 0.0,
    duplicates: Duplicates = 0.0,
    late: Late = 0.0,
    lateness: Lateness = 0.0,
    shuffle: Shuffle = 0,
    large: Large = False,
    speed: Speed = 0.0,
    rate: Rate = 0.0,
    partitions: Partitions = None,
    id: Id = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was planted as JSON.")] = False,
) -> None:
    """Write a stream whose truth is known, with the score that the truth gets; or send it to a topic.

    CSV has the truth's own figures in every line. JSON lines and topics have ids and may have faults, whose
    exact numbers are printed.

    Example: streamrec simulate hawkes --events 20000 --users 500 --marks 20 --seed 1 -o hawkes.csv

    Example: streamrec simulate hawkes --to kafka://clicks --rate 500
    """
    from streamrec.produce.faults import Faults
    from streamrec.verbs import producing

    producing.simulate(
        producing.Recipe(process, events, users, marks, seed),
        Faults(poison, duplicates, late, lateness, shuffle, large),
        output,
        None if to is None else producing.Route(to, partitions, id, speed, rate),
        config,
        cluster(bootstrap),
        as_json,
    )


def validate(
    inputs: Annotated[list[str] | None, typer.Argument(help="Logs to look at.")] = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings as JSON.")] = False,
) -> None:
    """Check a settings file, and how the records of a log are read.

    Example: streamrec validate -c streamrec.toml events.csv
    """
    from streamrec.verbs import making

    flags = columns(user_field, mark_field, time_field, time_unit) | cluster(bootstrap)
    making.validate(inputs or [], config, flags, print_config)


@data.command("list")
def data_list() -> None:
    """List the public data sets that `get` can fetch.

    Example: streamrec data list
    """
    from streamrec.verbs import making

    making.list_data()


@data.command("get")
def data_get(name: Annotated[str, typer.Argument(help="Name of the data set.")]) -> None:
    """Fetch a data set and print the path of its file on the last line.

    Example: streamrec data get movielens-100k
    """
    from streamrec.verbs import making

    making.get_data(name)
