"""The values that walk through the program: records, events and tie sets.

Record   one message of a log, as bytes, with its place
Event    what the codec reads out of a record: user, mark, time
TieSet   all events of one user at one time; the unit that is forecast and learned
"""

from typing import NamedTuple


class Record(NamedTuple):
    """One message of a log with its place; `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp_ms: int = -1


class Event(NamedTuple):
    """One interaction: a user did `mark` at `time` (seconds since the epoch, UTC).

    Examples
    --------
    >>> Event("u1", "m7", 1700000000.25).mark
    'm7'
    """

    user: str
    mark: str
    time: float
    id: str | None = None
    partition: int = 0
    offset: int = -1
    value: float | None = None
    context: bool = False


class TieSet(NamedTuple):
    """A user's events of one time, in the order of their raw mark bytes.

    `further` is True when an earlier set of the same user and time was closed already: then the
    marks are scored and the time is not. `offset` is that of the first event that arrived.
    """

    user: str
    time: float
    marks: tuple[str, ...]
    partition: int = 0
    offset: int = -1
    further: bool = False
    topic: str = ""
