"""Which fields of a record hold user, mark and time, and what is checked about their values.

    user   text or integer, 1 to 4,096 bytes of UTF-8, without NUL       mark, id   the same
    time   number in `time_unit`, number as text, or RFC 3339 text (without an offset: UTC)
    value  carried if it is a finite number, else carried as none: nothing is lost over it

Times are float64 seconds since the epoch, from 1970 to the year 9999; no clock is asked, so that a time in
the future is as good as any. Source of the text form: RFC 3339; digits beyond the microsecond are cut off.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from streamrec.errors import ConfigError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject

MAX_ID_BYTES: Final = 4096
MAX_TIME: Final = 253402300800.0
"""s; the first moment of the year 10000."""
LEAST_TIME_S = 1e-9
"""A time below a nanosecond is the epoch itself: gaps such as 1e-300 s vanish in the arithmetic of rates."""

UNITS: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_new_event = tuple.__new__

RECOGNISED: Final = {
    "user": ("user", "user_id", "key"),
    "mark": ("mark", "item_id", "type"),
    "time": ("time", "timestamp"),
    "id": ("id",),
    "value": ("value",),
}
"""Names that are recognised by themselves, the preferred one first."""


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Names of the fields that hold an event; empty means: recognise it.

    Parameters
    ----------
    user, mark, time, id, value : field of a JSON object (a dot steps into an object) or column of a table;
        `mark` may be several, separated by commas, whose texts are joined by `|`
    time_unit : s, ms, us or ns; the unit of times that are numbers

    Raises
    ------
    ConfigError
        If the unit is not one of the four, or a name is empty between commas or dots.

    Examples
    --------
    >>> FieldNames(mark="borough,action").candidates("mark")
    (('borough', 'action'),)
    >>> FieldNames(user="id").candidates("user"), FieldNames(user="id").candidates("id")
    ((('id',),), ())
    """

    user: str = ""
    mark: str = ""
    time: str = ""
    id: str = ""
    value: str = ""
    time_unit: str = "s"

    def __post_init__(self) -> None:
        if self.time_unit not in UNITS:
            raise ConfigError(f"time unit: expected one of s, ms, us, ns, got {self.time_unit!r}")
        for role in RECOGNISED:
            given: str = getattr(self, role)
            if given and not all(part for name in given.split(",") for part in name.split(".")):
                raise ConfigError(f"{role} field: {given!r} has an empty name in it")

    def candidates(self, role: str) -> tuple[tuple[str, ...], ...]:
        """Names to look for, in order of preference; each a tuple of fields to join (mostly one)."""
        given: str = getattr(self, role)
        if given:
            return (tuple(given.split(",")) if role == "mark" else (given,),)
        return tuple((name,) for name in RECOGNISED[role] if name not in self.taken())

    def taken(self) -> frozenset[str]:
        """Names that were given for some role, which recognition leaves alone."""
        given = (getattr(self, role) for role in RECOGNISED)
        return frozenset(name for names in given if names for name in names.split(","))

    @property
    def per_second(self) -> float:
        """Units of time in a second."""
        return UNITS[self.time_unit]


def join_parts(parts: list[str]) -> str:
    r"""Texts joined by `|`, so that different parts give different texts (`|` and `\` are escaped).

    Examples
    --------
    >>> join_parts(["Queens", "pickup"]), join_parts(["a|b", "c"])
    ('Queens|pickup', 'a\\|b|c')
    """
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


def read_time(raw: object, per_second: float) -> float | Reject:
    """Seconds since the epoch of a number or a text, or what is wrong with it.

    Examples
    --------
    >>> read_time(1700000000250, 1000.0), read_time("2023-11-14T22:13:20.25Z", 1.0)
    (1700000000.25, 1700000000.25)
    >>> read_time("soon", 1.0).reason
    'time_unreadable'
    """
    seconds = _number(raw, per_second)
    if isinstance(seconds, Reject):
        return seconds
    if LEAST_TIME_S <= seconds < MAX_TIME:
        return seconds
    if 0.0 <= seconds < LEAST_TIME_S:
        return 0.0  # -0.0 too
    if not math.isfinite(seconds):
        return Reject("time_not_finite", f"time {_short(raw)}")
    if seconds < 0:
        return Reject("time_negative", f"time {_short(raw)} is before 1970")
    return Reject(
        "time_out_of_range",
        f"time {_short(raw)} read as {seconds:.6g} s is after the year 9999: check the unit",
    )


def _number(raw: object, per_second: float) -> float | Reject:
    if type(raw) is float:
        return raw / per_second
    if type(raw) is str:
        return _text(raw, per_second)
    if type(raw) is int:
        return raw / per_second if abs(raw) < 1 << 1023 else math.inf
    if raw is None:
        return Reject("missing_time", "no time")
    return Reject("time_type", f"time: expected a number or text, got {type(raw).__name__}")


def _text(raw: str, per_second: float) -> float | Reject:
    if not raw:
        return Reject("missing_time", "the time is empty")
    if raw.isascii() and "_" not in raw:  # float() alone would read 1_0 and digits of other scripts
        try:
            return float(raw) / per_second
        except ValueError:
            pass
    try:
        moment = datetime.fromisoformat(raw)
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND / 1e6
    except (ValueError, OverflowError):
        return Reject("time_unreadable", f"time {_short(raw)}: expected a number or RFC 3339 text")


def _short(raw: object) -> str:
    return repr(raw if not isinstance(raw, int) or abs(raw) < 10**40 else float("inf"))[:60]


def check(
    record: Record, user: object, mark: object, time: object, id: object, value: object, per_second: float
) -> Event | Reject:
    """The one judge of ids and times, after whichever decoder read the fields (None = not there).

    Examples
    --------
    >>> check(Record("t", 0, 7, b""), "u1", 5, 12, None, None, 1.0)
    Event(user='u1', mark='5', time=12.0, id=None, partition=0, offset=7, value=None, context=False)
    >>> check(Record("t", 0, 7, b""), "", "m", 12, None, None, 1.0).reason
    'empty_user'
    """
    seconds = read_time(time, per_second)
    if type(user) is not str or type(mark) is not str or not (id is None or type(id) is str):
        return _check_types(record, user, mark, time, id, value, per_second)
    if not user or not mark or len(user) > 1024 or len(mark) > 1024 or "\0" in user or "\0" in mark:
        bad = _bad_id("user", user) or _bad_id("mark", mark)
        if bad:
            return bad
    if id is not None and id and (len(id) > 1024 or "\0" in id):
        bad = _bad_id("id", id)
        if bad:
            return bad
    if isinstance(seconds, Reject):
        return seconds
    number = None if value is None else _finite(value)
    return _new_event(
        Event, (user, mark, seconds, id or None, record.partition, record.offset, number, False)
    )


def _check_types(
    record: Record, user: object, mark: object, time: object, id: object, value: object, per_second: float
) -> Event | Reject:
    """Integers become text; anything else that is not text is refused."""
    for name, raw in (("user", user), ("mark", mark)):
        if raw is None:
            return Reject(f"missing_{name}", f"no {name}")
    for name, raw in (("user", user), ("mark", mark), ("id", id)):
        if raw is not None and type(raw) not in (str, int):
            return Reject(f"{name}_type", f"{name}: expected text or an integer, got {type(raw).__name__}")
    texts = [raw if raw is None else str(raw) for raw in (user, mark, id)]
    return check(record, texts[0], texts[1], time, texts[2], value, per_second)


def _bad_id(name: str, text: str) -> Reject | None:
    if not text:
        return Reject(f"empty_{name}", f"the {name} is empty")
    if len(text) > MAX_ID_BYTES or len(text.encode()) > MAX_ID_BYTES:
        return Reject(
            "id_too_long", f"the {name} has {len(text.encode())} bytes, at most {MAX_ID_BYTES} are read"
        )
    return Reject("nul_byte", f"the {name} contains NUL") if "\0" in text else None


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
