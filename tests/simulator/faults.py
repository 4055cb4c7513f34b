"""Faults: what may go wrong, where, and how often it did.

Every protocol call and every failpoint of the program is a *point*, named `call.poll`, `step.after_read` and
so on. A planned fault waits for the n-th hit of points it fits, in whatever process that is.
"""

import errno
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from streamrec import failpoints
from streamrec.errors import UnavailableError

OPEN_TRANSACTION = {"step.mid_transaction", "step.in_restore", "step.mid_generation"}
"""Here SQLite's lock is held: who stops here stops all others, who wait in real time."""

DISK = {
    "journal refused": ("step.before_journal",),
    "checkpoint refused": (
        "step.before_sync",
        "step.before_transaction",
        "step.mid_transaction",
        "step.before_prepare",
        "step.before_generation",
    ),
}
CALLS = {
    "poll failed": ("call.poll",),
    "metadata failed": ("call.places", "call.bounds", "call.topic_ids", "call.committed"),
    "flush failed": ("call.flush",),
    "commit not applied": ("call.commit", "call.transact"),
    "commit applied, answer lost": ("call.committed_now", "call.transacted"),
}


class Killed(BaseException):
    """The process is gone; nothing of the program may catch this."""


class Fault:
    """A fault that waits for its moment.

    Parameters
    ----------
    kind : its name
    fits : whether it may fire at a point
    after : hits that pass before it fires
    times : hits in a row at which it fires then
    act : what it does: raises, or stops the process
    """

    def __init__(
        self, kind: str, fits: Callable[[str], bool], after: int, times: int, act: Callable[[str, Any], None]
    ) -> None:
        self.kind, self.fits, self.after, self.times, self.act = kind, fits, after, times, act


class Faults:
    """The faults of a seed, and how many of each kind fired."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []
        self.fired: Counter[str] = Counter()
        self.on = True

    def at(self, point: str, process: Any) -> None:
        """A process is at a point."""
        if not self.on:
            return
        for fault in self.planned:
            if not fault.fits(point):
                continue
            fault.after -= 1
            if fault.after >= 0:
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.planned.remove(fault)
            self.fired[fault.kind] += 1
            process.note("fault", fault.kind, point)
            fault.act(point, process)
            return


def refuse_disk(point: str, process: Any) -> None:
    """The disk is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse_call(point: str, process: Any) -> None:
    """No answer."""
    raise UnavailableError(f"no answer to {point}")


def kill(point: str, process: Any) -> None:
    """The process dies here."""
    process.die()
    raise Killed


def drawn(draw: random.Random, stall: Callable[[str, Any], None]) -> Fault:
    """A fault at a point, of a random kind."""
    kind = draw.choices(
        ["killed in a step", "stalled in a step", *DISK, *CALLS], [5, 4, 2, 3, 1, 1, 1, 2, 2]
    )[0]
    if kind == "killed in a step":
        steps = ["step." + name for name in failpoints.FAILPOINTS]
        wanted = draw.choice([*steps, *["call."] * 8])
        return Fault(kind, lambda point: point.startswith(wanted), draw.randrange(12), 1, kill)
    if kind == "stalled in a step":
        steps = ["step." + name for name in failpoints.FAILPOINTS]
        free = [name for name in steps if name not in OPEN_TRANSACTION]
        wanted = draw.choice([*free, *["call."] * 8])
        return Fault(kind, lambda point: point.startswith(wanted), draw.randrange(12), 1, stall)
    after, times = draw.randrange(6), draw.choice([1, 1, 2, 5])
    if kind in DISK:
        place = draw.choice(DISK[kind])
        return Fault(kind, lambda point: point == place, after, times, refuse_disk)
    places = CALLS[kind]
    return Fault(kind, lambda point: point in places, after, times, refuse_call)


class Everywhere:
    """Stands where an armed failpoint stands, and passes on every failpoint that is hit."""

    def __init__(self, hit: Callable[[str], None]) -> None:
        self._hit = hit
        self.name = self

    def __eq__(self, name: object) -> bool:
        self._hit(str(name))
        return False

    __hash__ = None


def listen(hit: Callable[[str], None]) -> None:
    """Hear of every failpoint of this process from now on."""
    failpoints.arm("")
    failpoints._ARMED.append(Everywhere(hit))


def listen_no_more() -> None:
    """Failpoints are silent again."""
    failpoints.arm("")
