"""Opening a lane beside the loop: it may take seconds, and the group must not lose sight of us meanwhile.

    loop      start ──► polls on, with the lane's partitions paused ──► ready? ──► adopts the lane
    thread              restore

A rebalance that takes the partitions away before that makes nobody wait: the opening is dropped, and the lane
closed as soon as it is there. Opening it again is another epoch, which the one that was dropped must not
outdo: one opening of a lane waits in its thread for the one before.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from streamrec.errors import InvariantError
from streamrec.lane import Lane

Restore = Callable[[], Lane]


class Opening(Protocol):
    """A lane that is on its way."""

    def ready(self) -> bool:
        """`result` has something to say."""
        ...

    def result(self) -> Lane:
        """The lane; raises what its restore raised."""
        ...

    def drop(self) -> None:
        """Nobody wants it any more: it is given back, now or when it is there."""
        ...


class InlineOpening:
    """Restores at once, in the caller's thread: what only that may ask (a group), and tests."""

    def __init__(self, restore: Restore) -> None:
        self._lane: Lane | None = restore()

    def ready(self) -> bool:
        """Always."""
        return True

    def result(self) -> Lane:
        """The lane."""
        return _handed(self._lane)

    def drop(self) -> None:
        """Give it back."""
        if self._lane is not None:
            self._lane.abandon()


class ThreadOpening:
    """Restores in a thread of its own.

    Parameters
    ----------
    restore : makes the lane
    before : the thread of the last opening of the same lane in this process, which comes to its end first
    """

    def __init__(self, restore: Restore, before: threading.Thread | None = None) -> None:
        self._restore, self._before = restore, before
        self._lane: Lane | None = None
        self._error: BaseException | None = None
        self._dropped = False
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="restore", daemon=True)
        self.thread.start()

    def ready(self) -> bool:
        """The thread has ended."""
        return not self.thread.is_alive()

    def result(self) -> Lane:
        """The lane, waited for."""
        self.thread.join()
        if self._error is not None:
            raise self._error
        return _handed(self._lane)

    def drop(self) -> None:
        """Give the lane back when it is there; nobody waits for it."""
        with self._lock:
            self._dropped = True
            lane, self._lane = self._lane, None
        if lane is not None:
            lane.abandon()

    def _run(self) -> None:
        if self._before is not None:
            self._before.join()
        if self._dropped:
            return
        try:
            lane = self._restore()
        except BaseException as error:  # whatever it is, the loop has to hear of it
            self._error = error
            return
        with self._lock:
            if not self._dropped:
                self._lane = lane
                return
        lane.abandon()


def _handed(lane: Lane | None) -> Lane:
    if lane is None:
        raise InvariantError("a lane was asked for after it had been given back")
    return lane
