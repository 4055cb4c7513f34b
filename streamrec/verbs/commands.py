"""The commands of the judge and of dead letters; `cli.py` takes them in."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file (TOML).")]
Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="host:port of Kafka brokers, joined by a comma.")
]
DeadLetterLog = Annotated[str, typer.Argument(help="File of dead letters, or kafka://TOPIC.")]
dlq = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be read, why, and back again.")


def judge(
    forecasts: Annotated[
        str, typer.Option("--forecasts", help="Forecasts as they were published: a file or kafka://TOPIC.")
    ],
    events: Annotated[
        list[str], typer.Option("--events", help="What they are about, a file or kafka://TOPIC; repeatable.")
    ],
    config: Config = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder of the state; made if absent.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there.")] = None,
    outcomes: Annotated[
        Path | None, typer.Option("--outcomes", help="File for one JSON line per answered forecast.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Topics only: go on at the end of both, until SIGTERM.")
    ] = False,
    window_s: Annotated[
        float, typer.Option("--window-s", help="Length of the windows, seconds of event time.")
    ] = 86_400.0,
    max_users: Annotated[
        int, typer.Option("--max-users", help="Most users with an open forecast; the oldest expire first.")
    ] = 200_000,
    max_waiting: Annotated[
        int,
        typer.Option("--max-waiting", help="Most events, and most forecasts, that wait for the other log."),
    ] = 200_000,
    metrics_port: Annotated[int | None, typer.Option("--metrics-port", help="Serve /metrics there.")] = None,
    bootstrap: Bootstrap = None,
    user_field: Annotated[str | None, typer.Option("--user-field", help="Column of the user.")] = None,
    mark_field: Annotated[
        str | None, typer.Option("--mark-field", help="Column(s) of the mark, joined by a comma.")
    ] = None,
    time_field: Annotated[str | None, typer.Option("--time-field", help="Column of the time.")] = None,
    time_unit: Annotated[str | None, typer.Option("--time-unit", help="s, ms, us or ns; default s.")] = None,
) -> None:
    """Join issued forecasts with what happened, and score them as `evaluate` does; resumes from --state.

    Example: streamrec judge --forecasts forecasts.jsonl --events events.csv --json verdict.json
    """
    from streamrec.verbs import judging

    flags = {
        "input.user_field": user_field,
        "input.mark_field": mark_field,
        "input.time_field": time_field,
        "input.time_unit": time_unit,
        "http.port": metrics_port,
        **_brokers(bootstrap),
    }
    asked = judging.Asked(forecasts, events, state, outcomes, follow, window_s, max_users, max_waiting)
    judging.judge(asked, config, flags, json_file)


@dlq.command("list")
def dlq_list(
    letters: DeadLetterLog,
    config: Config = None,
    bootstrap: Bootstrap = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Count dead letters by reason and topic, with the first and the last of each.

    Example: streamrec dlq list bad.jsonl
    """
    from streamrec.settings import load_settings
    from streamrec.verbs import letters as verb

    verb.list_letters(letters, load_settings(config, _brokers(bootstrap)).kafka, as_json)


@dlq.command("show")
def dlq_show(
    letters: DeadLetterLog,
    which: Annotated[str, typer.Argument(help="Number from 1, or topic:partition:offset of the record.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Print one dead letter as JSON, its bytes as text where they are text, else in base64.

    Example: streamrec dlq show bad.jsonl clicks:3:1041
    """
    from streamrec.settings import load_settings
    from streamrec.verbs import letters as verb

    verb.show_letter(letters, which, load_settings(config, _brokers(bootstrap)).kafka)


@dlq.command("requeue")
def dlq_requeue(
    letters: DeadLetterLog,
    config: Config = None,
    bootstrap: Bootstrap = None,
    to: Annotated[
        str | None, typer.Option("--to", help="kafka://TOPIC or a file; without it the letters' own topics.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only letters of this reason.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="File that notes what was sent; for a file of letters FILE.requeued."),
    ] = None,
    unfinished: Annotated[
        str | None,
        typer.Option("--unfinished", help="After a crash: sent or resend, for the batch that was under way."),
    ] = None,
) -> None:
    """Send the original bytes back, with key and timestamp; no letter is ever sent twice.

    Example: streamrec dlq requeue bad.jsonl --to kafka://clicks --reason bad_time --limit 100
    """
    from streamrec.settings import load_settings
    from streamrec.verbs import letters as verb

    kafka = load_settings(config, _brokers(bootstrap)).kafka
    verb.requeue_letters(letters, kafka, to, reason, limit, dry_run, state, unfinished)


@dlq.command("follow")
def dlq_follow(
    letters: DeadLetterLog,
    config: Config = None,
    bootstrap: Bootstrap = None,
    every_s: Annotated[float, typer.Option("--every-s", min=0.1, help="Time between summaries.")] = 10.0,
    from_start: Annotated[bool, typer.Option("--from-start", help="Also what is there already.")] = False,
) -> None:
    """Print how many new dead letters there are, a line per reason, until SIGTERM.

    Example: streamrec dlq follow kafka://events.dead
    """
    from streamrec.settings import load_settings
    from streamrec.verbs import letters as verb

    verb.follow(letters, load_settings(config, _brokers(bootstrap)).kafka, every_s, from_start)


def _brokers(bootstrap: str | None) -> dict[str, list[str]]:
    return {} if bootstrap is None else {"kafka.bootstrap": bootstrap.split(",")}
