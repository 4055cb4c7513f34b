"""The pages that are made from code: `python tests/docs/pages.py` writes them, a test compares them."""

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic_core import PydanticUndefined

from streamrec.cli import app
from streamrec.settings import SHAPES, Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"

SETTINGS_HEAD = """# Settings

A TOML file (`-c FILE`), then the environment (`STREAMREC_SECTION__KEY`, for instance
`STREAMREC_CUT__CUT_EVENTS=64` or `STREAMREC_KAFKA__BOOTSTRAP=a:9092,b:9092`), then flags, in rising order of
rank. A list may be text with commas. A misspelt name, a value of the wrong
kind and a contradiction are refused at start, all at once, each with its path; exit code 2.
`streamrec validate -c FILE --print-config` prints what would be used.

**Shapes the state** means: the value decides what the learned state looks like. A state directory is refused
with another value of such a setting (exit code 4), and the message names the field.

```toml
[input]
time_unit = "ms"

[order]
lateness_s = 30.0

[models]
enabled = ["context_1", "context_2", "gamma_poisson", "recurrent"]
```
"""

CLI_HEAD = """# Command line

`streamrec VERB --help` says the same. Inputs: CSV, JSON lines or Parquet, plain, `.gz` or `.zst`, globs, `-`
for stdin, or `kafka://TOPIC`; user, mark and time are recognised by their names (`user`, `user_id`, `key`;
`mark`, `item_id`, `type`; `time`, `timestamp`) or given by the `--*-field` options. Every verb that talks to
Kafka has `--bootstrap` and `-c`.

| exit code | what it means |
|---|---|
| 0 | done, or stopped in order |
| 2 | a setting, an argument or an input cannot be used |
| 3 | the broker refused, does not answer, or has no such topic |
| 4 | the state on disk does not fit this program or these settings, or is damaged |
| 5 | a promise of streamrec was about to be broken; nothing wrong was written |
| 6 | the disk refused a write; what was accepted before it is safe |

A second SIGINT or SIGTERM ends at once (exit code 130 or 143). Every error is one line on stderr: where,
what was wanted, what was found, what to do; several wrong settings are a line each.
"""


KINDS = {
    "str": "text",
    "float": "number",
    "int": "whole number",
    "bool": "true or false",
    "Path": "path",
    "SecretStr": "text, never printed",
}


def settings_page() -> str:
    """docs/settings.md."""
    tree = Settings()
    parts = [SETTINGS_HEAD]
    for name, section in tree:
        parts.append(f"\n## [{name}]\n\n{(type(section).__doc__ or '').strip()}\n")
        parts.append("| setting | kind | default | shapes the state | meaning |\n|---|---|---|---|---|")
        parts += [_setting_row(f"{name}.{key}", field) for key, field in type(section).model_fields.items()]
    return "\n".join(parts) + "\n"


def _setting_row(name: str, field: Any) -> str:
    shapes = "yes" if field.json_schema_extra == SHAPES else ""
    bounds = " ".join(str(m) for m in _bounds(field))
    kind = f"{_kind(field.annotation)} {bounds}".strip()
    return f"| `{name}` | {kind} | {_default(field.default)} | {shapes} | {field.description} |"


def _bounds(field: Any) -> Iterator[str]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for bound in field.metadata:
        yield from (f"{sign} {getattr(bound, key):,}" for key, sign in signs.items() if hasattr(bound, key))


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f'"{a}"' for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    return KINDS[annotation.__name__]


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "not given"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{v}"' if isinstance(v, str) else f"{v:g}" for v in value) + "]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def cli_page() -> str:
    """docs/cli.md."""
    return CLI_HEAD + "".join(_verb(name, command) for name, command in verbs())


def verbs() -> Iterator[tuple[str, Any]]:
    """Every verb with its full name, groups taken apart."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from ((f"{name} {sub}", c) for sub, c in command.commands.items())
        else:
            yield name, command


def _verb(name: str, command: Any) -> str:
    text, *examples = command.help.split("Example:")
    calls = "\n".join(" ".join(example.split()) for example in examples)
    rows = "\n".join(_option_row(p) for p in command.params)
    table = f"\n| argument or option | default | meaning |\n|---|---|---|\n{rows}\n" if rows else ""
    return f"\n## {name}\n\n{' '.join(text.split())}\n\n```sh\n{calls}\n```\n{table}"


def _option_row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    name = parameter.name.upper() if argument else ", ".join(parameter.opts)
    default = "required" if parameter.required else _cli_default(parameter.default)
    return f"| `{name}` | {default} | {parameter.help} |"


def _cli_default(value: Any) -> str:
    if callable(value) or value is None or value is False or value == ():
        return ""
    return f"`{value}`"


PAGES = {"settings.md": settings_page, "cli.md": cli_page}


if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
