"""The command line: one verb per thing that a person wants; `commands` has their options.

Verbs import what they need when they run, so that `streamrec --help` answers at once. Every error of ours,
and every misspelt word, ends in one clear line on stderr and its exit code.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from streamrec import __version__
from streamrec.commands.keep import forecast, inspect, states, verify
from streamrec.commands.letters import dlq
from streamrec.commands.log import demo, run
from streamrec.commands.make import data, simulate, validate
from streamrec.commands.score import evaluate, judge
from streamrec.commands.topic import replay
from streamrec.errors import StreamrecError

VERBS = (run, evaluate, judge, simulate, replay, validate, inspect, verify, forecast, demo)
GROUPS = {"data": data, "dlq": dlq, "state": states}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Streaming event sequences: what comes next and when, learned once, scored honestly.",
)
for verb in VERBS:
    app.command()(verb)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"streamrec {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line, or these words of one; errors become one line on stderr and an exit code."""
    try:
        code = app(words, standalone_mode=False)
    except StreamrecError as error:
        _end(str(error), error.exit_code)
    except TyperException as error:
        _end(_misused(error), error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _misused(error: TyperException) -> str:
    """What is wrong with the words of a call; empty where the help was printed instead."""
    message, context = error.format_message().removesuffix("."), getattr(error, "ctx", None)
    see = " See" if message.endswith("?") else "; see"
    return f"{message}{see} {context.command_path} --help" if message and context else message


def _end(message: str, code: int) -> NoReturn:
    if message:
        print(f"streamrec: {message}", file=sys.stderr)
    sys.exit(code)
