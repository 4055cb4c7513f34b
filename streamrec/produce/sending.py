"""The loop of every producer: from a feed of lines, paced, in batches, to a shipper.

    Feed ──Line──► wait until due ──► batch ──(full, old, or nothing due)──► Shipper.ship

A batch is closed by its number of lines, its bytes or its age; while the next line is not due yet, what is
in hand goes out first, so that a paced replay is seen in time. It can be stopped while it waits and after
each batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from streamrec.errors import StateError
from streamrec.eventlog.clients import Message
from streamrec.produce.pace import Clock, Pacer
from streamrec.produce.shipping import Position, Shipper

NAP_S = 0.05
"""Longest sleep between two looks at whether to stop."""


class Line(NamedTuple):
    """One line of a log on its way.

    Parameters
    ----------
    raw : bytes by which the line is known again
    message : what is sent for it; None: nothing
    time : s of event time, by which it is paced; None: with the line before it
    stamp_ms : last stamp after this line
    """

    raw: bytes
    message: Message | None
    time: float | None
    stamp_ms: int


class Feed(Protocol):
    """Lines of a log in an order that is the same every time."""

    def pass_over(self, lines: int) -> int:
        """Read and drop the first lines; the crc32 of their bytes, or StateError if there are fewer."""
        ...

    def lines(self, most: int, stamp_ms: int) -> list[Line]:
        """At most so many further lines; none when there is nothing now. `stamp_ms` is the last stamp."""
        ...

    def at_end(self) -> bool:
        """There will be no more; certain only after `lines` gave none."""
        ...


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is closed: by lines, bytes or age in s."""

    lines: int = 5_000
    bytes: int = 8 << 20
    age_s: float = 0.5


class Sent(NamedTuple):
    """What a run did: where it began and ended, messages sent, whether it was stopped before the end."""

    begun: Position
    ended: Position
    messages: int
    stopped: bool


Seen = Callable[[Position], None]


class Sending:
    """One run of a producer.

    Parameters
    ----------
    feed, shipper, pacer, clock : see there
    stopped : asked while waiting and after each batch
    seen : told every position that became visible
    limits : of a batch
    """

    def __init__(
        self,
        feed: Feed,
        shipper: Shipper,
        pacer: Pacer,
        clock: Clock,
        stopped: Callable[[], bool] = lambda: False,
        seen: Seen = lambda _: None,
        limits: BatchLimits = BatchLimits(),
    ) -> None:
        self._feed, self._shipper, self._pacer, self._clock = feed, shipper, pacer, clock
        self._stopped, self._seen, self._limits = stopped, seen, limits
        self._batch: list[Message] = []
        self._size = self._n_messages = 0
        self._since = 0.0
        self._shipped = self._at = Position()

    def run(self) -> Sent:
        """Send what was not sent before, until the end of the feed or until stopped.

        Raises
        ------
        StateError
            If the feed does not begin with the lines that were sent before.
        """
        begun = self._begin()
        stopped = False
        while not (stopped := self._stopped()):
            lines = self._feed.lines(1000, self._at.stamp_ms)
            if not lines:
                if self._feed.at_end():
                    break
                self._ship()
                self._clock.sleep(NAP_S)
            if not all(self._take(line) for line in lines):
                stopped = True
                break
        self._ship()
        return Sent(begun, self._at, self._n_messages, stopped)

    def _begin(self) -> Position:
        begun = self._shipped = self._at = self._shipper.open()
        check = self._feed.pass_over(begun.lines) if begun.lines else 0
        if check != begun.check:
            raise StateError(
                f"the first {begun.lines} lines have check sum {check:08x}, those that were sent before had "
                f"{begun.check:08x}: this is not the same log; give the one that was begun, or another --id"
            )
        self._seen(begun)
        return begun

    def _take(self, line: Line) -> bool:
        """Wait until a line is due and put it into the batch; False if it was stopped in the meantime."""
        message = line.message
        if message is not None:
            while (wait := self._pacer.wait(line.time)) > 0:
                self._ship_old(wait)
                if self._stopped():
                    return False
                self._clock.sleep(min(wait, NAP_S))
            self._pacer.sent()
            if not self._batch:
                self._since = self._clock.now()
            self._batch.append(message)
            self._size += len(message.value or b"")
        self._at = self._at.after(line.raw, line.stamp_ms)
        if len(self._batch) >= self._limits.lines or self._size >= self._limits.bytes:
            self._ship()
            return not self._stopped()
        return True

    def _ship_old(self, wait: float) -> None:
        if self._batch and self._clock.now() + min(wait, NAP_S) - self._since >= self._limits.age_s:
            self._ship()

    def _ship(self) -> None:
        if self._at == self._shipped:
            return
        self._shipper.ship(self._batch, self._at)
        self._n_messages += len(self._batch)
        self._batch, self._size, self._shipped = [], 0, self._at
        self._seen(self._at)
