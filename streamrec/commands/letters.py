"""dlq list, show, requeue and follow: dead letters, and back again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamrec.commands.options import Bootstrap, Config, cluster

if TYPE_CHECKING:
    from streamrec.settings import KafkaSettings

dlq = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be read, why, and back again.")

Log = Annotated[str, typer.Argument(help="File of dead letters, or kafka://TOPIC.")]
Which = Annotated[str, typer.Argument(help="Number from 1, or topic:partition:offset of the record.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
To = Annotated[
    str | None, typer.Option("--to", help="kafka://TOPIC or a file; without it the letters' own topics.")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Only letters of this reason.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")]
Notes = Annotated[
    Path | None,
    typer.Option("--state", help="File that notes what was sent; for a file of letters FILE.requeued."),
]
Unfinished = Annotated[
    str | None,
    typer.Option("--unfinished", help="After a crash: sent or resend, for the batch that was under way."),
]
EveryS = Annotated[float, typer.Option("--every-s", min=0.1, help="Time between summaries.")]
FromStart = Annotated[bool, typer.Option("--from-start", help="Also what is there already.")]


def _kafka(config: Path | None, bootstrap: str | None) -> "KafkaSettings":
    from streamrec.settings import load_settings

    return load_settings(config, cluster(bootstrap)).kafka


@dlq.command("list")
def dlq_list(
    letters: Log, config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False
) -> None:
    """Count dead letters by reason and topic, with the first and the last of each.

    Example: streamrec dlq list bad.jsonl
    """
    from streamrec.verbs import letters as verb

    verb.list_letters(letters, _kafka(config, bootstrap), as_json)


@dlq.command("show")
def dlq_show(letters: Log, which: Which, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Print one dead letter as JSON, its bytes as text where they are text, else in base64.

    Example: streamrec dlq show bad.jsonl clicks:3:1041
    """
    from streamrec.verbs import letters as verb

    verb.show_letter(letters, which, _kafka(config, bootstrap))


@dlq.command("requeue")
def dlq_requeue(
    letters: Log,
    config: Config = None,
    bootstrap: Bootstrap = None,
    to: To = None,
    reason: Reason = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    state: Notes = None,
    unfinished: Unfinished = None,
) -> None:
    """Send the original bytes back, with key and timestamp; no letter is ever sent twice.

    Example: streamrec dlq requeue bad.jsonl --to kafka://clicks --reason bad_time --limit 100
    """
    from streamrec.verbs import letters as verb

    kafka = _kafka(config, bootstrap)
    verb.requeue_letters(letters, kafka, to, reason, limit, dry_run, state, unfinished)


@dlq.command("follow")
def dlq_follow(
    letters: Log,
    config: Config = None,
    bootstrap: Bootstrap = None,
    every_s: EveryS = 10.0,
    from_start: FromStart = False,
) -> None:
    """Print how many new dead letters there are, a line per reason, until SIGTERM.

    Example: streamrec dlq follow kafka://clicks-dead
    """
    from streamrec.verbs import letters as verb

    verb.follow(letters, _kafka(config, bootstrap), every_s, from_start)
