"""Writes streamrec/eventlog/poison_table.py from the corpus: `python tests/produce/pack_poison.py`."""

import tomllib
from base64 import b64decode
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "corpus" / "kinds.toml"
TABLE = ROOT / "streamrec" / "eventlog" / "poison_table.py"

HEAD = '''"""Records good and bad, packed from the corpus of the tests; see `tests/produce/pack_poison.py`.

Each row: name, reason ("" for a good record), header of the table that the line stands in ("" for JSON),
and the value in parts, each with how often it is repeated; None is no value at all.
"""

from typing import Final

Part = tuple[bytes, int]

# fmt: off
ROWS: Final[tuple[tuple[str, str, str, tuple[Part, ...] | None], ...]] = (
'''


def parts_of(kind: dict[str, Any]) -> list[tuple[bytes, int]] | None:
    """The bytes of a kind, in parts."""
    if "none" in kind:
        return None
    if "parts" in kind:
        return [(text.encode(), times) for text, times in kind["parts"]]
    return [(kind["text"].encode() if "text" in kind else b64decode(kind["base64"]), 1)]


def row_of(kind: dict[str, Any]) -> str:
    """One row of the table, broken at 110 columns."""
    parts = parts_of(kind)
    head = f"({kind['name']!r}, {kind['reason']!r}, {kind.get('header', '')!r},"
    tail = "None" if parts is None else "(" + "".join(f"({part!r}, {n})," for part, n in parts) + ")"
    one = f"    {head} {tail}),"
    return one if len(one) <= 110 else f"    {head}\n     {tail}),"


def table() -> str:
    """The file's text."""
    kinds = tomllib.loads(CORPUS.read_text(encoding="utf-8"))["kind"]
    return HEAD + "\n".join(map(row_of, kinds)) + "\n)\n# fmt: on\n"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
