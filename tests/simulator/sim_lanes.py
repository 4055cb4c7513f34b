"""Lanes with real files for a process of the simulator: when they open, when their checkpoints are written.

late opening   restores some steps after it was begun; one that was dropped restores nevertheless, as a
               thread would, and gives the lane back
late writer    writes a snapshot some steps after it was taken; holds two at most
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sim_clients import SimOutlet

from streamrec.cut import Cutter
from streamrec.daemon.opening import InlineOpening, Opening
from streamrec.daemon.workshop import Plain
from streamrec.event import Record
from streamrec.eventlog.base import Place, Reject
from streamrec.eventlog.clients import Member, Message
from streamrec.lane import Lane
from streamrec.order import Order
from streamrec.outputs import Outputs
from streamrec.state.snapshot import Snapshot
from streamrec.state.store import LaneStore
from streamrec.state.writer import InlineWriter

FORECASTS, LETTERS = "forecasts", "letters"


class TopicSink:
    """Forecasts to a topic, a message each; what was sent is never cut back."""

    def __init__(self, outlet: SimOutlet, owned: bool) -> None:
        self.outlet, self.owned = outlet, owned

    def emit(self, lines: Sequence[bytes], keys: Sequence[str] = ()) -> None:
        """Send them."""
        pairs = zip(lines, keys, strict=True)
        self.outlet.send([Message(FORECASTS, line, key.encode()) for line, key in pairs])

    def write(self, record: Record, reject: Reject) -> None:
        """Send a dead letter."""
        key = f"{record.topic}:{record.partition}:{record.offset}".encode()
        self.outlet.send([Message(LETTERS, record.value, key)])

    def hand_over(self) -> None:
        """Nothing to do."""

    def sync(self) -> None:
        """Everything is acknowledged."""
        self.outlet.flush(1.0)

    def flush(self) -> None:
        """As `sync`."""
        self.sync()

    def position(self) -> int:
        """No length."""
        return 0

    def tail(self) -> int:
        """No check sum."""
        return 0

    def cut_back(self, position: int, tail: int = 0) -> None:
        """Never."""

    def close(self) -> None:
        """Close the outlet, if it is the lane's own."""
        if self.owned:
            self.outlet.close()


def outputs(outlet: SimOutlet, owned: bool = False) -> Outputs:
    """Forecasts and dead letters by way of an outlet."""
    return Outputs(TopicSink(outlet, owned), TopicSink(outlet, False))


class WatchedWriter(InlineWriter):
    """Writes at once, and tells the process which positions are on the disk."""

    def __init__(self, store: LaneStore, sync: Callable[[], object] | None, process: Any) -> None:
        super().__init__(store, sync)
        self._process = process
        self._positions: Mapping[Place, int] = {}

    def write(self, snapshot: Snapshot) -> None:
        """Write one snapshot."""
        cutter = Cutter(Order(), last_time=lambda user: float("nan"))
        cutter.load(snapshot.position)
        self._positions = cutter.positions
        super().write(snapshot)

    def _attempt(self, serial: int | None) -> None:
        super()._attempt(serial)
        if self.failed is None:
            self._process.kept(self._positions)


class LateWriter:
    """Writes when the world says so (`go_on`)."""

    def __init__(self, store: LaneStore, sync: Callable[[], object] | None, process: Any) -> None:
        self.inner = WatchedWriter(store, sync, process)
        self._process = process
        self._waiting: deque[Snapshot] = deque()
        self._fatal: BaseException | None = None
        process.background.append(self)

    @property
    def failed(self) -> Any:
        """Why the last save failed."""
        return self.inner.failed

    @property
    def last_success(self) -> int | None:
        """Serial of the last snapshot on the disk."""
        return self.inner.last_success

    @property
    def last_ticket(self) -> int:
        """Ticket of the last snapshot on the disk."""
        return self.inner.last_ticket

    def try_submit(self, take: Callable[[], Snapshot]) -> bool:
        """Take a snapshot if fewer than two wait."""
        self._check()
        if len(self._waiting) >= 2:
            return False
        self._waiting.append(take())
        return True

    def go_on(self) -> None:
        """Write the oldest that waits."""
        if self._waiting and self._fatal is None:
            try:
                self.inner.write(self._waiting.popleft())
            except Exception as error:  # the loop hears of it at its next call
                self._fatal = error

    def drain(self, timeout_s: float | None = None) -> bool:
        """Write all."""
        while self._waiting and self._fatal is None:
            self.go_on()
        self._check()
        return self.inner.drain()

    def close(self) -> None:
        """Write all, and end."""
        if self in self._process.background:
            self._process.background.remove(self)
        if self._process.alive:
            self.drain()

    def _check(self) -> None:
        if self._fatal is not None:
            raise self._fatal


class LateOpening:
    """Restores when the world has gone `steps` further."""

    def __init__(self, restore: Callable[[], Lane], steps: int, process: Any) -> None:
        self._restore, self._steps, self._process = restore, steps, process
        self._lane: Lane | None = None
        self._error: BaseException | None = None
        self._dropped = self._done = False
        process.background.append(self)

    def ready(self) -> bool:
        """It is restored, or will never be."""
        return self._done

    def result(self) -> Lane:
        """The lane; raises what its restore raised."""
        if self._error is not None:
            raise self._error
        assert self._lane is not None
        return self._lane

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self._dropped = True
        if self._lane is not None:
            self._lane.abandon()

    def go_on(self) -> None:
        """One step further."""
        self._steps -= 1
        if self._steps > 0:
            return
        self._process.background.remove(self)
        try:
            self._lane = self._restore()
        except Exception as error:
            self._error = error
        self._done = True
        if self._dropped and self._lane is not None:
            self._lane.abandon()


class SimPlain(Plain):
    """Lanes without transactions; some open late."""

    process: Any = None

    def opening(self, number: int, places: Sequence[Place], member: Member) -> Opening:
        """Now, or in some steps."""
        late = self.process.draw.choice([0, 0, 3, 12])
        restore = partial(self.restore, number)
        return LateOpening(restore, late, self.process) if late else InlineOpening(restore)
