"""Whoever wants to see the daemon at work; it changes nothing (`telemetry` does, tests do)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from streamrec.cut import Cut
from streamrec.errors import StreamrecError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject
from streamrec.eventlog.clients import Bounds
from streamrec.lane import Lane
from streamrec.processor import CutResult

Pairs = Sequence[tuple[Record, Event | Reject]]
State = Literal["starting", "restoring", "running", "degraded", "draining"]
Pause = Literal["backpressure", "disk", "restoring"]


class Observer(Protocol):
    """Told of everything that an operator may want to know; called between cuts by the loop's thread."""

    def entered(self, state: State) -> None:
        """The loop is in this state now."""
        ...

    def polled(self, n_records: int) -> None:
        """A poll ended."""
        ...

    def reading(
        self, number: int, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Iterable[tuple[Record, Event | Reject]]:
        """Decoded records on their way into a lane; they have to pass as they are."""
        ...

    def applying(self, number: int, cut: Cut) -> None:
        """A cut of a lane is about to be applied."""
        ...

    def applied(self, number: int, cut: Cut, result: CutResult) -> None:
        """A cut of a lane was applied."""
        ...

    def opened(self, number: int, lane: Lane, seconds: float) -> None:
        """A lane was opened and is ours."""
        ...

    def closed(self, number: int, kept: bool) -> None:
        """A lane is not ours any more; whether its last state was kept."""
        ...

    def rebalanced(self, reason: Literal["assigned", "revoked", "lost"], places: Sequence[Place]) -> None:
        """The group moved partitions."""
        ...

    def looked(
        self, bounds: Mapping[Place, Bounds], positions: Mapping[Place, int], committed: Mapping[Place, int]
    ) -> None:
        """What the log holds, where we stand, and what the group knows of it; about once a second."""
        ...

    def skipped(self, place: Place, n_records: int, cause: str) -> None:
        """Records are gone from the log, and were skipped."""
        ...

    def paused(self, reason: Pause, on: bool) -> None:
        """Reading is held back, or goes on."""
        ...

    def pending(self, n_messages: int) -> None:
        """Messages under way to the broker."""
        ...

    def failed(self, api: str, error: StreamrecError) -> None:
        """The broker or the disk refused something; the loop goes on."""
        ...

    def between(self) -> None:
        """The loop is between two pieces of work; called at least several times a second."""
        ...


class Unobserved:
    """An observer who looks away."""

    def entered(self, state: State) -> None:
        """Nothing."""

    def polled(self, n_records: int) -> None:
        """Nothing."""

    def reading(
        self, number: int, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Iterable[tuple[Record, Event | Reject]]:
        """The pairs."""
        return pairs

    def applying(self, number: int, cut: Cut) -> None:
        """Nothing."""

    def applied(self, number: int, cut: Cut, result: CutResult) -> None:
        """Nothing."""

    def opened(self, number: int, lane: Lane, seconds: float) -> None:
        """Nothing."""

    def closed(self, number: int, kept: bool) -> None:
        """Nothing."""

    def rebalanced(self, reason: Literal["assigned", "revoked", "lost"], places: Sequence[Place]) -> None:
        """Nothing."""

    def looked(
        self, bounds: Mapping[Place, Bounds], positions: Mapping[Place, int], committed: Mapping[Place, int]
    ) -> None:
        """Nothing."""

    def skipped(self, place: Place, n_records: int, cause: str) -> None:
        """Nothing."""

    def paused(self, reason: Pause, on: bool) -> None:
        """Nothing."""

    def pending(self, n_messages: int) -> None:
        """Nothing."""

    def failed(self, api: str, error: StreamrecError) -> None:
        """Nothing."""

    def between(self) -> None:
        """Nothing."""
