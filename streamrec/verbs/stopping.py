"""How signals end a verb; and a daemon: in order, at once, or, if order takes too long, where it stands.

    first SIGINT or SIGTERM    the loop leaves: cuts, checkpoints, commits, the group
    `last_s` later             the process ends, whatever it waits for (a broker, a disk)
    second signal              the process ends at once

What was not kept by then is the next owner's to do again, from the last checkpoint.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Protocol

LAST_S = 8.5
"""Most time from the first signal to the end of the process: below the 10 s that Docker gives."""

IN_TIME, AT_ONCE = 0, 130

log = logging.getLogger(__name__)


class Stoppable(Protocol):
    """What can be asked to leave."""

    def stop(self) -> None:
        """Leave after the work at hand."""
        ...


@contextmanager
def ending_in_time(
    last_s: float = LAST_S, end: Callable[[int], object] = os._exit
) -> Iterator[Callable[[], None]]:
    """Gives what starts the clock; the process ends `last_s` later if the block has not.

    Examples
    --------
    >>> with ending_in_time(60.0) as start_clock:
    ...     start_clock()
    """

    def end_anyway() -> None:
        log.warning(
            "not everything was kept in %g s; the next owner goes on from the last checkpoint", last_s
        )
        end(IN_TIME)

    timer = Timer(last_s, end_anyway)
    timer.daemon = True
    try:
        yield timer.start
    finally:
        timer.cancel()


def end_at_once(number: int) -> None:
    """End the process as this signal would have."""
    os._exit(128 + number)


@contextmanager
def on_signals(first: Callable[[], object], again: Callable[[int], object] = end_at_once) -> Iterator[None]:
    """Call `first` at the first SIGINT or SIGTERM, and `again` with its number at every further one."""
    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        heard.append(number)
        if len(heard) > 1:
            again(number)
        else:
            first()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopped_by_signals(
    daemon: Stoppable, start_clock: Callable[[], None], end: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """The first SIGINT or SIGTERM lets the daemon leave in order; a second one ends it at once."""

    def leave() -> None:
        daemon.stop()
        start_clock()

    with on_signals(leave, lambda _: end(AT_ONCE)):
        yield
