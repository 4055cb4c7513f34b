"""Counts messages under way, by the flush that has to wait for them.

Messages of different partitions land in any order, so a flush cannot wait for a number: every flush closes
the flight of messages that were taken before it, and waits until that and all before it have landed.
"""

import threading
import time
from collections.abc import Callable

from streamrec.errors import DeliveryError, UnavailableError


class Flight:
    """Messages taken between two flushes; whoever took some of them says for each how it ended."""

    def __init__(self, flights: "Flights") -> None:
        self._flights = flights
        self.open = 0

    def landed(self, _: object = None) -> None:
        """One is acknowledged, or is no longer wanted."""
        self._flights.land(self, None)

    def refused(self, error: DeliveryError) -> None:
        """One is refused for good."""
        self._flights.land(self, error)


class Flights:
    """Messages taken and not acknowledged yet; every method may be called by any thread.

    Examples
    --------
    >>> flights = Flights()
    >>> flight = flights.take(2); flight.landed(); flights.pending
    1
    >>> flights.wait(0.0)
    Traceback (most recent call last):
    streamrec.errors.UnavailableError: 1 of the messages taken so far are not acknowledged within 0 s; ...
    >>> flight.refused(DeliveryError("clicks: too large")); flights.wait(1.0)
    Traceback (most recent call last):
    streamrec.errors.DeliveryError: clicks: too large
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._flights = [Flight(self)]
        self._refused: DeliveryError | None = None
        self.pending = 0

    def take(self, n: int = 1) -> Flight:
        """Count n more, of which each has to land or to be refused."""
        with self._changed:
            flight = self._flights[-1]
            flight.open += n
            self.pending += n
        return flight

    def land(self, flight: Flight, refused: DeliveryError | None) -> None:
        """One message of a flight is through."""
        with self._changed:
            flight.open -= 1
            self.pending -= 1
            self._refused = self._refused or refused
            if flight.open == 0 or refused is not None:
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
            mine = list(self._flights)
            self._flights.append(Flight(self))
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
            self._flights = [flight for flight in self._flights[:-1] if flight.open] + self._flights[-1:]
        self.check()

    @staticmethod
    def _left(flights: list[Flight]) -> int:
        return sum(flight.open for flight in flights)
