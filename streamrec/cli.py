"""The command line: one verb per thing that a person wants.

Verbs import what they need when they run, so that `streamrec --help` answers at once. Every error of ours
ends in one clear line and its exit code.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from streamrec.errors import StreamrecError
from streamrec.verbs.commands import dlq, judge

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Streaming event sequences: what comes next and when, learned once, scored honestly.",
)
data = typer.Typer(no_args_is_help=True, help="Public data sets for a first try.")
app.add_typer(data, name="data")
states = typer.Typer(no_args_is_help=True, help="Work on a whole state folder, while nobody learns into it.")
app.add_typer(states, name="state")
app.command()(judge)
app.add_typer(dlq, name="dlq")

Inputs = Annotated[
    list[str],
    typer.Argument(help="CSV, JSON lines or Parquet (plain, .gz, .zst), globs, -, or kafka://TOPIC."),
]
Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka brokers, host:port,host:port.")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file (TOML).")]
Against = Annotated[
    list[str], typer.Option("--against", help="The log that it was made from: files, or kafka://TOPIC.")
]
State = Annotated[Path | None, typer.Option("--state", help="Folder of the state; made if absent.")]
UserField = Annotated[str | None, typer.Option("--user-field", help="Column of the user.")]
MarkField = Annotated[
    str | None, typer.Option("--mark-field", help="Column(s) of the mark, joined by a comma.")
]
TimeField = Annotated[str | None, typer.Option("--time-field", help="Column of the time.")]
Speed = Annotated[float, typer.Option("--speed", help="Seconds of event time per second; 0: no wait.")]
Rate = Annotated[float, typer.Option("--rate", help="Most messages per second; 0: no limit.")]
Partitions = Annotated[
    int | None, typer.Option("--partitions", min=1, help="Of the topic; if it exists it has to have these.")
]
Id = Annotated[
    str | None, typer.Option("--id", help="Names what is sent, to go on with it; made from the inputs.")
]
TimeUnit = Annotated[str | None, typer.Option("--time-unit", help="s, ms, us or ns; default s.")]


class Bad(StrEnum):
    """What a replay does with lines that are no events."""

    keep = "keep"
    drop = "drop"


def main() -> None:
    """Run the command line; errors of ours become one line on stderr and an exit code."""
    try:
        app()
    except StreamrecError as error:
        print(f"streamrec: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _brokers(bootstrap: str | None) -> list[str] | None:
    return bootstrap.split(",") if bootstrap else None


def _fields(user: str | None, mark: str | None, time: str | None, unit: str | None) -> dict[str, Any]:
    return {
        "input.user_field": user,
        "input.mark_field": mark,
        "input.time_field": time,
        "input.time_unit": unit,
    }


@app.command()
def run(
    inputs: Inputs,
    config: Config = None,
    state: State = None,
    sink: Annotated[str, typer.Option("--sink", help="jsonl:FILE, kafka:TOPIC or none.")] = "none",
    dead_letters: Annotated[
        str | None, typer.Option("--dead-letters", help="FILE or kafka:TOPIC for refused records.")
    ] = None,
    bootstrap: Bootstrap = None,
    group: Annotated[str | None, typer.Option("--group", help="Consumer group.")] = None,
    on_gap: Annotated[
        str | None, typer.Option("--on-gap", help="fail or skip, when a topic lost records unread.")
    ] = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Topics: stop at what they hold at the start.")
    ] = False,
    metrics_port: Annotated[int | None, typer.Option("--metrics-port", help="Serve /metrics there.")] = None,
    log_format: Annotated[str | None, typer.Option("--log-format", help="text or json.")] = None,
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
    from streamrec.verbs.opening import is_topic

    flags = _fields(user_field, mark_field, time_field, time_unit) | {"http.port": metrics_port}
    flags |= {"kafka.bootstrap": _brokers(bootstrap), "kafka.group": group, "kafka.on_gap": on_gap}
    flags["log.format"] = log_format
    if any(map(is_topic, inputs)):
        from streamrec.verbs import consuming

        consuming.consume(inputs, config, flags, state, sink, dead_letters, until_end)
    else:
        from streamrec.verbs import running

        running.run(inputs, config, flags, state, sink, dead_letters)


@app.command()
def evaluate(
    inputs: Inputs,
    config: Config = None,
    models: Annotated[str | None, typer.Option("--models", help="Experts, joined by a comma.")] = None,
    warmup: Annotated[float, typer.Option("--warmup", help="Events, or a share of them, not scored.")] = 0.0,
    max_events: Annotated[
        int | None, typer.Option("--max-events", help="Stop after so many records.")
    ] = None,
    ties: Annotated[
        str | None, typer.Option("--ties", help="set, or file-order (published figures).")
    ] = None,
    universe: Annotated[
        str | None, typer.Option("--universe", help="open, or known (published figures).")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
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

    flags = _fields(user_field, mark_field, time_field, time_unit) | {
        "models.enabled": models.split(",") if models else None,
        "order.ties": ties,
        "forecast.universe": universe,
        "kafka.bootstrap": _brokers(bootstrap),
    }
    scoring.evaluate_files(inputs, config, flags, warmup, max_events, json_file, state)


@app.command()
def replay(
    inputs: Inputs,
    to: Annotated[str, typer.Option("--to", help="kafka://TOPIC; made if absent, without a retention.")],
    speed: Speed = 0.0,
    rate: Rate = 0.0,
    partitions: Partitions = None,
    bad: Annotated[
        Bad, typer.Option("--bad", help="Lines that are no events: keep sends them as they are.")
    ] = Bad.keep,
    id: Id = None,
    config: Config = None,
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

    flags = _fields(user_field, mark_field, time_field, time_unit)
    route = producing.Route(to, partitions, id, speed, rate)
    producing.replay(inputs, route, config, flags, keep_bad=bad is Bad.keep)


@app.command()
def simulate(
    process: Annotated[str, typer.Argument(help="hawkes, poisson, gamma-poisson, renewal or sessions.")],
    events: Annotated[int, typer.Option("--events", min=1)] = 10_000,
    users: Annotated[int, typer.Option("--users", min=1)] = 500,
    marks: Annotated[int, typer.Option("--marks", min=1)] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write: JSON lines by its name, else CSV; events.csv."),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="kafka://TOPIC to send to, in place of a file.")
    ] = None,
    poison: Annotated[
        float, typer.Option("--poison", help="Records of every bad kind, as a share of the events.")
    ] = 0.0,
    duplicates: Annotated[
        float, typer.Option("--duplicates", help="Share of the events that come twice, with the same id.")
    ] = 0.0,
    late: Annotated[float, typer.Option("--late", help="Share of the events that come too late.")] = 0.0,
    lateness: Annotated[
        float, typer.Option("--lateness", help="Seconds of order.lateness_s for which they are too late.")
    ] = 0.0,
    shuffle: Annotated[
        int, typer.Option("--shuffle", help="Places by which events are displaced, less than.")
    ] = 0,
    large: Annotated[
        bool, typer.Option("--large", help="Poison of 1 and 10 MiB too; the topic has to allow it.")
    ] = False,
    speed: Speed = 0.0,
    rate: Rate = 0.0,
    partitions: Partitions = None,
    id: Id = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was planted as JSON.")] = False,
) -> None:
    """Write a stream whose truth is known, with the score that the truth gets; or send it to a topic.

    CSV has the truth's own figures in every line. JSON lines and topics have ids and may have faults, whose
    exact numbers are printed.

    Example: streamrec simulate hawkes --events 20000 --users 500 --marks 20 --seed 1 -o hawkes.csv
    """
    from streamrec.produce.faults import Faults
    from streamrec.verbs import producing

    producing.simulate(
        producing.Recipe(process, events, users, marks, seed),
        Faults(poison, duplicates, late, lateness, shuffle, large),
        output,
        None if to is None else producing.Route(to, partitions, id, speed, rate),
        config,
        as_json,
    )


@app.command()
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

    flags = _fields(user_field, mark_field, time_field, time_unit)
    flags["kafka.bootstrap"] = _brokers(bootstrap)
    making.validate(inputs or [], config, flags, print_config)


@app.command()
def inspect(state: Annotated[Path, typer.Argument(help="Folder of the state.")]) -> None:
    """Say what a state directory holds: events applied, digest, sizes, generations.

    Example: streamrec inspect runs/shop
    """
    from streamrec.verbs import keeping

    keeping.inspect(state)


@app.command()
def verify(
    state: Annotated[Path, typer.Argument(help="Folder of the state.")],
    against: Against,
    config: Config = None,
    bootstrap: Bootstrap = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
) -> None:
    """Replay the journal against the log and compare digests, bit for bit.

    Example: streamrec verify runs/shop --against events.csv

    Example: streamrec verify runs/shop --against kafka://clicks
    """
    from streamrec.verbs import keeping

    flags = _fields(user_field, mark_field, time_field, time_unit)
    flags["kafka.bootstrap"] = _brokers(bootstrap)
    keeping.verify(state, against, config, flags)


@app.command()
def forecast(
    state: Annotated[Path, typer.Option("--state", help="Folder of the state.")],
    user: Annotated[str, typer.Option("--user", help="Whose next event.")],
    at: Annotated[float | None, typer.Option("--at", help="Time of asking, s since the epoch.")] = None,
) -> None:
    """Print a user's forecast as JSON, as of its last event or, with --at, given its silence since.

    Example: streamrec forecast --state runs/shop --user u17 --at 1700000000
    """
    from streamrec.verbs import keeping

    keeping.forecast(state, user, at)


@app.command()
def demo(state: State = None) -> None:
    """Get MovieLens-100K (or simulate a stream) and run it with a live display; what `make run` does.

    Example: streamrec demo --state runs/movielens-100k
    """
    from streamrec.verbs import running

    running.demo(state)


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


@states.command("repartition")
def state_repartition(
    state: Annotated[Path, typer.Argument(help="Folder of the state.")],
    lanes: Annotated[int, typer.Option("--lanes", min=1, help="How many lanes it shall have.")],
    against: Against,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the new state; else the old one's place.")
    ] = None,
    what_is_left: Annotated[
        bool, typer.Option("--from-what-is-left", help="Go on where topics lost records; counts them.")
    ] = False,
    config: Config = None,
    bootstrap: Bootstrap = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
) -> None:
    """Make a state anew for another number of lanes, by replaying its topics up to where it stands.

    The old state is kept as STATE.before-LANES. Stop the daemon before, and set kafka.lanes after.

    Example: streamrec state repartition runs/shop --lanes 2 --against kafka://clicks
    """
    from streamrec.repartition import Plan
    from streamrec.verbs import repartitioning

    flags = _fields(user_field, mark_field, time_field, time_unit)
    flags["kafka.bootstrap"] = _brokers(bootstrap)
    plan = Plan(state, lanes, tuple(against), output, what_is_left)
    repartitioning.repartition_state(plan, config, flags)
