"""What the daemon's observer writes into the log: state, lanes, rebalances, gaps, errors."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from streamrec.daemon.observer import Pause, State, Unobserved
from streamrec.errors import FencedError, StreamrecError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds
from streamrec.lane import Lane, MakeWriter
from streamrec.logs import Lines
from streamrec.state.writer import ThreadWriter

PROGRESS_S = 10.0
"""Least time between two lines that say how far the lanes have come."""

PATIENCE_S = 5.0
"""Time after which somebody who waits for partitions is told why there may be none."""

log = logging.getLogger(__name__)


class Diary(Unobserved):
    """An observer that writes log lines, and nothing per record or cut.

    Parameters
    ----------
    lines : told now and then that time goes by, so that suppressed lines are said
    clock : s, monotonic

    Attributes
    ----------
    make_writer : makes the writers of checkpoints
    """

    def __init__(self, lines: Lines | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.lines, self.clock = lines, clock
        self.make_writer: MakeWriter = ThreadWriter
        self._told_at = self._began = clock()
        self._alone = True
        self._told: Mapping[Place, int] = {}

    def entered(self, state: State) -> None:
        """The loop is in this state now."""
        if state == "starting":
            self._began = self.clock()
        level = logging.WARNING if state == "degraded" else logging.INFO
        log.log(level, f"loop is {state}", extra={"state": state})

    def opened(self, number: int, lane: Lane, seconds: float) -> None:
        """A lane was opened and is ours."""
        epoch = None if lane.store is None else lane.store.epoch
        log.info("lane opened", extra={"lane": number, "epoch": epoch, "seconds": round(seconds, 3)})

    def closed(self, number: int, kept: bool) -> None:
        """A lane is not ours any more."""
        log.info("lane closed", extra={"lane": number, "kept": kept})

    def rebalanced(self, reason: Literal["assigned", "revoked", "lost"], places: Sequence[Place]) -> None:
        """The group moved partitions."""
        self._alone = False
        level = logging.WARNING if reason == "lost" else logging.INFO
        named = " ".join(f"{topic}[{partition}]" for topic, partition in sorted(places))
        log.log(level, f"partitions {reason}", extra={"reason": reason, "partitions": named})

    def looked(
        self, bounds: Mapping[Place, Bounds], positions: Mapping[Place, int], committed: Mapping[Place, int]
    ) -> None:
        """What the log holds, where we stand; a line now and then, if we have come further."""
        now = self.clock()
        moved = sum(at - self._told.get(place, at) for place, at in positions.items())
        if moved and now < self._told_at + PROGRESS_S and self._told.keys() == positions.keys():
            return
        if moved:
            lag = sum(max(0, bounds[place].end - at) for place, at in positions.items() if place in bounds)
            per_s = round(moved / max(now - self._told_at, 1e-9))
            log.info("records read", extra={"n_records": moved, "per_s": per_s, "lag": lag})
        self._told_at, self._told = now, dict(positions)

    def skipped(self, place: Place, n_records: int, cause: str) -> None:
        """Records are gone from the log, and were skipped."""
        where = {"topic": place[0], "partition": place[1]}
        log.warning("gap skipped", extra={**where, "n_records": n_records, "cause": cause})

    def paused(self, reason: Pause, on: bool) -> None:
        """Reading is held back, or goes on."""
        level = logging.WARNING if reason == "disk" and on else logging.INFO
        log.log(level, "reading is held back" if on else "reading goes on", extra={"reason": reason})

    def failed(self, api: str, error: StreamrecError) -> None:
        """The broker or the disk refused something; the loop goes on."""
        level = logging.ERROR if isinstance(error, FencedError) else logging.WARNING
        extra: Mapping[str, Any] = {"api": api, "code": code_of(error)}
        log.log(level, f"{api} failed: %s", error, extra=extra)

    def ended(self, error: StreamrecError) -> None:
        """The loop ends with an error."""
        log.critical("loop ends: %s", error, extra={"code": type(error).__name__})

    def between(self) -> None:
        """Time goes by."""
        if self._alone and self.clock() > self._began + PATIENCE_S:
            self._alone = False
            log.info(
                "no partitions so far: others have them, or one that died is waited for (session_timeout_s)"
            )
        if self.lines is not None:
            self.lines.tick()


def code_of(error: BaseException) -> str:
    """Name of the class of what went wrong: the client library's, if it was one of its errors.

    Examples
    --------
    >>> code_of(FencedError("lane 0: another owner"))
    'FencedError'
    """
    cause = error.__cause__
    return type(error if cause is None else cause).__name__
