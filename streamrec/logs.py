"""Log lines: one per event, for people or as JSON objects, few of a kind, and each of them counted.

    any logger ──► Lines ──► count by level ──► at most `repeats` of a kind in 10 s ──► stderr
                                                        └─ the others: one line with `suppressed`

A kind is the logger, the level and the message before its figures are put in. Fields: ts (RFC 3339, UTC),
level, logger, event, and what is known of topic, partition, offset, lane, epoch, model, user, and so on.
Libraries are heard from WARNING on.
"""

import hashlib
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from streamrec.settings import LogSettings

WINDOW_S = 10.0
MAX_KINDS = 256
"""Kinds of lines that are told apart within a window; further ones share one."""

FIELDS = (
    *("topic", "partition", "offset", "lane", "epoch", "model", "user", "state", "reason"),
    *("api", "code", "n_records", "per_s", "lag", "cause", "seconds", "kept", "partitions", "n_partitions"),
)
"""What a line may say beside its message, given as `extra`."""

OURS = "streamrec"
Clock = Callable[[], float]
Kind = tuple[str, int, str]


class Lines(logging.Handler):
    """Writes log records as lines.

    Parameters
    ----------
    settings : format, users, repeats
    stream : that takes the lines; None for standard error as it is at the time, a live view may stand there
    clock, wall : s, monotonic and since the epoch

    Examples
    --------
    >>> lines = Lines(LogSettings(format="json"), sys.stdout, wall=lambda: 0.0)
    >>> said = {"name": "streamrec", "msg": "lane opened", "lane": 3, "levelname": "INFO"}
    >>> lines.emit(logging.makeLogRecord(said))
    {"ts":"1970-01-01T00:00:00.000Z","level":"info","logger":"streamrec","event":"lane opened","lane":3}
    """

    def __init__(
        self,
        settings: LogSettings,
        stream: TextIO | None = None,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        super().__init__()
        self.settings, self._given = settings, stream
        self.clock, self.wall = clock, wall
        self.counts: Counter[str] = Counter()
        self._kinds: dict[Kind, int] = {}
        self._began = clock()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it; called by `handle`, which holds the lock."""
        self.counts[record.levelname.lower()] += 1
        self._turn_window()
        kind = self._kind(record)
        n = self._kinds[kind] = self._kinds.get(kind, 0) + 1
        if n <= self.settings.repeats:
            try:
                self._write(self._fields_of(record))
            except Exception:  # a line that cannot be written must not stop the loop
                self.handleError(record)

    def tick(self) -> None:
        """Say what was suppressed, if its window has passed; whoever logs nothing for long calls this."""
        with self._locked():
            self._turn_window()

    def close(self) -> None:
        """Say what was suppressed so far."""
        with self._locked():
            self._tell_suppressed()
        super().close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _kind(self, record: logging.LogRecord) -> Kind:
        kind = record.name, record.levelno, str(record.msg)
        return kind if kind in self._kinds or len(self._kinds) < MAX_KINDS else ("", record.levelno, "others")

    def _turn_window(self) -> None:
        now = self.clock()
        if now - self._began >= WINDOW_S:
            self._tell_suppressed()
            self._began = now

    def _tell_suppressed(self) -> None:
        for (logger, level, message), n in self._kinds.items():
            if n > self.settings.repeats:
                head = self._head(self.wall(), logging.getLevelName(level), logger or OURS, message)
                self._write(head | {"suppressed": n - self.settings.repeats})
        self._kinds.clear()

    def _fields_of(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = self._head(self.wall(), record.levelname, record.name, record.getMessage())
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                fields[name] = self._named(value) if name == "user" else value
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        return fields

    def _head(self, at: float, level: str, logger: str, event: str) -> dict[str, Any]:
        ts = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"ts": ts, "level": level.lower(), "logger": logger, "event": event}

    def _named(self, user: str) -> str:
        return user if self.settings.users == "plain" else hashed(user)

    def _write(self, fields: dict[str, Any]) -> None:
        """Write a line; where there is no room for it, nobody stops for that."""
        line = as_json(fields) if self.settings.format == "json" else as_text(fields)
        stream = self._given or sys.stderr
        with suppress(OSError):
            stream.write(line + "\n")
            stream.flush()


def hashed(user: str) -> str:
    """A user's name in log lines: the same for the same user, and not the name.

    Examples
    --------
    >>> hashed("u1"), hashed("u1") == hashed("u2")
    ('bb82030dbc2bcaba', False)
    """
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def as_json(fields: dict[str, Any]) -> str:
    """One JSON object."""
    return json.dumps(fields, default=str, separators=(",", ":"))


def as_text(fields: dict[str, Any]) -> str:
    """One line for people.

    Examples
    --------
    >>> as_text({"ts": "12:00", "level": "info", "logger": "streamrec", "event": "lane opened", "lane": 0})
    '12:00 info streamrec: lane opened lane=0'
    """
    rest = list(fields.items())[4:]
    line = f"{fields['ts']} {fields['level']} {fields['logger']}: {fields['event']}"
    return " ".join([line, *(f"{name}={value}" for name, value in rest)]).replace("\n", "\\n")


@contextmanager
def logging_as(
    settings: LogSettings, stream: TextIO | None = None, clock: Clock = time.monotonic
) -> Iterator[Lines]:
    """Have every logger write through `Lines` while the block runs; one inside of another changes nothing.

    Examples
    --------
    >>> with logging_as(LogSettings(), sys.stdout) as lines, logging_as(LogSettings()) as again:
    ...     lines is again, current() is lines
    (True, True)
    """
    found = current()
    if found is not None:
        yield found
        return
    root, ours, lines = logging.getLogger(), logging.getLogger(OURS), Lines(settings, stream, clock)
    levels = root.level, ours.level
    root.addHandler(lines)
    root.setLevel(logging.WARNING)
    ours.setLevel(settings.level.upper())
    try:
        yield lines
    finally:
        root.removeHandler(lines)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        lines.close()


def current() -> Lines | None:
    """The `Lines` that the loggers write through, if any."""
    return next((one for one in logging.getLogger().handlers if isinstance(one, Lines)), None)
