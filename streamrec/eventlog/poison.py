"""Bad input on purpose: the bytes of every kind of the corpus, and the reason for which each is refused.

What a producer plants and what a consumer counts are compared by these kinds. What is bad about a record
and not about its value (its key, its compression, an aborted transaction) is not a kind.
"""

from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

from streamrec.eventlog.poison_table import ROWS
from streamrec.eventlog.reasons import bin_of

_MARK: Final = b'"mark":"m"'


class Kind(NamedTuple):
    """A kind of record.

    Parameters
    ----------
    name : what it shows
    reason : one of `reasons.REASONS` or `reasons.SKIPPED`; empty for a good record
    header : of the table whose line it is; empty for JSON
    size : of its value, bytes; 0 for none
    """

    name: str
    reason: str
    header: str
    size: int

    @property
    def bin(self) -> str:
        """Bin in which it ends: ok, dead_letter or skipped."""
        return bin_of(self.reason) if self.reason else "ok"


KINDS: Final = MappingProxyType(
    {
        name: Kind(name, reason, header, sum(len(part) * times for part, times in parts or ()))
        for name, reason, header, parts in ROWS
    }
)
"""Every kind by its name, good ones too."""

_PARTS: Final = {name: parts for name, _, _, parts in ROWS}


def poison(kind: str, seed: int = 0) -> bytes | None:
    """The value of a kind; None for the kind that has none.

    Parameters
    ----------
    kind : a name of `KINDS`; KeyError if there is no such kind
    seed : 0 gives the bytes of the corpus; others differ in the mark, where there is one that may

    Examples
    --------
    >>> poison("missing time"), poison("missing time", 7), poison("tombstone")
    (b'{"user":"u","mark":"m"}', b'{"user":"u","mark":"m7"}', None)
    """
    parts = _PARTS[kind]
    if parts is None:
        return None
    value = b"".join(part * times for part, times in parts)
    return value if not seed else value.replace(_MARK, b'"mark":"m%d"' % seed)


@cache
def bad_kinds(max_bytes: int, in_lines: bool) -> tuple[str, ...]:
    r"""Names of the bad JSON kinds of at most so many bytes, in the order of the corpus.

    Parameters
    ----------
    in_lines : only those that can stand as a line of a file: with a value, and without a line end in it

    Examples
    --------
    >>> "tombstone" in bad_kinds(16_384, False), "tombstone" in bad_kinds(16_384, True)
    (True, False)
    """
    bad = (kind.name for kind in KINDS.values() if kind.reason and not kind.header and kind.size <= max_bytes)
    return tuple(name for name in bad if not in_lines or _is_line(poison(name)))


def _is_line(value: bytes | None) -> bool:
    return value is not None and b"\n" not in value
