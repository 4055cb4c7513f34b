"""Counts messages under way, by the flush that has to wait for them.

Messages of different partitions land in any order, so a flush cannot wait for a number: every flush closes
the group of messages that were taken before it, and waits until that group and all before it are empty.
"""

import threading
import time
from collections.abc import Callable

from streamrec.errors import DeliveryError, UnavailableError


class _Group:
    """Messages taken between two flushes."""

    def __init__(self) -> None:
        self.open = 0


class Flights:
    """Messages taken and not acknowledged yet; every method may be called by any thread.

    Examples
    --------
    >>> flights = Flights()
    >>> land = flights.take(2); land(None); flights.pending
    1
    >>> flights.wait(0.0)
    Traceback (most recent call last):
    streamrec.errors.UnavailableError: 1 of the messages taken so far are not acknowledged within 0 s; ...
    >>> land(DeliveryError("clicks: too large")); flights.wait(1.0)
    Traceback (most recent call last):
    streamrec.errors.DeliveryError: clicks: too large
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._groups = [_Group()]
        self._refused: DeliveryError | None = None
        self.pending = 0

    def take(self, n: int = 1) -> Callable[[DeliveryError | None], None]:
        """Count n more; what is returned is to be called once for each, with an error or None."""
        with self._changed:
            group = self._groups[-1]
            group.open += n
            self.pending += n
        return lambda refused: self._land(group, refused)

    def _land(self, group: _Group, refused: DeliveryError | None) -> None:
        with self._changed:
            group.open -= 1
            self.pending -= 1
            self._refused = self._refused or refused
            if group.open == 0 or refused is not None:
                self._changed.notify_all()

    def check(self) -> None:
        """Raise what was refused, every time anew."""
        if self._refused is not None:
            raise DeliveryError(str(self._refused))

    def wait(self, timeout_s: float, serve: Callable[[float], object] | None = None) -> None:
        """Everything taken so far has landed when this returns.

        Parameters
        ----------
        timeout_s : how long to wait
        serve : has callbacks called, for at most so many seconds; for a library that needs to be polled

        Raises
        ------
        UnavailableError
            If something has not landed in time.
        DeliveryError
            If something was refused.
        """
        end = time.monotonic() + timeout_s
        with self._changed:
            mine = list(self._groups)
            self._groups.append(_Group())
        while left := self._left(mine):
            self.check()
            rest = end - time.monotonic()
            if rest <= 0:
                raise UnavailableError(
                    f"{left} of the messages taken so far are not acknowledged within {timeout_s:g} s; "
                    "they are still under way: flush again"
                )
            if serve is not None:
                serve(min(rest, 0.05))
                continue
            with self._changed:
                if self._left(mine):
                    self._changed.wait(rest)
        with self._changed:
            self._groups = [group for group in self._groups[:-1] if group.open] + self._groups[-1:]
        self.check()

    @staticmethod
    def _left(groups: list[_Group]) -> int:
        return sum(group.open for group in groups)
