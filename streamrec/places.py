"""Where a lane stands in its logs: offsets, check sums of the last records, and whose clock a topic moves.

The check sum says at the next start whether a log is still the one that was read: the record before the next
offset has to be the same. An appended log passes; an exchanged, shortened or otherwise sorted one does not.
"""

from typing import NamedTuple
from zlib import crc32

NO_CHECK = -1
"""Instead of a check sum, where no record was read."""


class Place(NamedTuple):
    """A partition that is read: first offset ever, next offset, check sum of the record before that."""

    first: int
    next: int
    check: int = NO_CHECK


def check_sum(value: bytes | None) -> int:
    """Check sum of a record's value, by which a log that was exchanged is noticed.

    Examples
    --------
    >>> check_sum(b"u1,m7,5.0"), check_sum(None)
    (1605821520, 0)
    """
    return crc32(value or b"")


def own_clock(topic: str) -> str:
    """Every topic has a course of time of its own."""
    return topic


def one_clock(topic: str) -> str:
    """All topics share one course of time, as the files of one log do."""
    return ""
