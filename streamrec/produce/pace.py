"""When an event is due: at a multiple of event time, at no more than a rate, or at once.

    due = start + (e - e0) / speed     event time e, e0 that of the first event here; speed 0: at once
    due = n / rate after the start     of the n-th line sent here, without making up for a pause

Both hold if both are given. The clock is passed in, and it is a monotonic one: a step of the wall clock moves
nothing. An event whose time lies before one already sent is due at once.
"""

import time
from dataclasses import dataclass, field
from typing import Protocol

from streamrec.errors import ConfigError

BURST_S = 0.1
"""Time without lines that a rate limit makes up for."""


class Clock(Protocol):
    """A monotonic clock and how to wait by it."""

    def now(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return so many seconds later."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


@dataclass
class Pacer:
    """Says how long to wait before the next line.

    Parameters
    ----------
    clock : what the time is
    speed : s of event time per s; 0: as fast as possible
    rate : most lines per s; 0: no limit

    Raises
    ------
    ConfigError
        If speed or rate is negative or not a number.

    Examples
    --------
    >>> class Still:
    ...     def now(self): return 100.0
    ...     def sleep(self, seconds): ...
    >>> pacer = Pacer(Still(), speed=60.0)
    >>> pacer.wait(5000.0), pacer.wait(5030.0), pacer.wait(4000.0)
    (0.0, 0.5, 0.0)
    """

    clock: Clock
    speed: float = 0.0
    rate: float = 0.0
    _start: float = field(default=-1.0, init=False)
    _first: float = field(default=0.0, init=False)
    _free: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if not (0 <= self.speed < float("inf") and 0 <= self.rate < float("inf")):
            raise ConfigError(f"speed, rate: wanted >= 0, got {self.speed}, {self.rate}")

    def wait(self, event_time: float | None) -> float:
        """Seconds until a line may go; None is a line without a time, which only the rate holds back."""
        if not self.speed and not self.rate:
            return 0.0
        now = self.clock.now()
        due = self._free if self.rate else now
        if self.speed and event_time is not None:
            if self._start < 0:
                self._start, self._first = now, event_time
            due = max(due, self._start + (event_time - self._first) / self.speed)
        return max(0.0, due - now)

    def sent(self) -> None:
        """One line went; to be called after each."""
        if self.rate:
            self._free = max(self._free, self.clock.now() - BURST_S) + 1 / self.rate
