"""Watching the daemon: its log lines, its metrics and its server, told of everything by the loop.

    loop ──► Watching ──► diary          log lines
                          telemetry      metrics of lanes
                          membership     metrics of partitions
                          server         probes, queries

All of it happens in the loop's thread, between two pieces of work; nothing of a lane is changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from streamrec import __version__
from streamrec.cut import Cut
from streamrec.daemon.observer import Pause, State
from streamrec.diary import Diary
from streamrec.errors import DeliveryError, FencedError, StateError, StreamrecError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject
from streamrec.eventlog.clients import Bounds
from streamrec.lane import Lane
from streamrec.membership import Membership, Standing
from streamrec.processor import CutResult
from streamrec.server import Server
from streamrec.settings import Settings, shaping_fingerprint
from streamrec.status import status_of
from streamrec.telemetry import Telemetry, outcome_of
from streamrec.trail import Trail


class Watching(Diary):
    """The daemon's observer with metrics and a server beside its log lines.

    Parameters
    ----------
    settings : of the daemon; their hash is shown
    telemetry : metrics of the lanes
    server : told of every tick, and handed a new text at most once a second
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, server: Server) -> None:
        super().__init__(telemetry.lines)
        self.telemetry, self.server = telemetry, server
        self.membership = Membership(telemetry.meters, telemetry.clock, telemetry.wall)
        self.make_writer = telemetry.make_writer
        self.lanes: dict[int, Lane] = {}
        self._trails: dict[int, Trail] = {}
        self._hash = shaping_fingerprint(settings)
        self._polled = False
        self._trouble = ""
        self._tell()

    def entered(self, state: State) -> None:
        """The loop is in this state now."""
        super().entered(state)
        self.telemetry.state = state
        self._tell()
        self._show()

    def polled(self, n_records: int) -> None:
        """A poll ended."""
        self.membership.polled(n_records)
        self.telemetry.resume()
        if not self._polled:
            self._polled = True
            self._tell()

    def reading(
        self, number: int, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Iterable[tuple[Record, Event | Reject]]:
        """Decoded records pass."""
        return self.telemetry.reading(number, pairs)

    def applying(self, number: int, cut: Cut) -> None:
        """A cut of a lane is about to be applied."""
        self.telemetry.applying()

    def applied(self, number: int, cut: Cut, result: CutResult) -> None:
        """A cut of a lane was applied."""
        now = self.telemetry.wall()
        self.telemetry.applied(number, cut, result)
        delays = self._trails[number].delays(cut, now)
        self.telemetry.meters.observe_array("end_to_end_seconds", delays)

    def opened(self, number: int, lane: Lane, seconds: float) -> None:
        """A lane was opened and is ours."""
        super().opened(number, lane, seconds)
        self.lanes[number], self._trails[number] = lane, Trail()
        self.telemetry.restored(seconds, outcome_of(lane, lane.cutter.offsets_advanced > 0))
        self.telemetry.add(number, lane, self._trails[number])
        self.membership.entered(lane.positions)
        self._tell()

    def closed(self, number: int, kept: bool) -> None:
        """A lane is not ours any more."""
        super().closed(number, kept)
        lane = self.lanes.pop(number, None)
        if lane is not None:
            self._put_bytes(self._trails.pop(number))
            self.telemetry.remove(number)
            self.membership.left(lane.positions)
        self._show()

    def rebalanced(self, reason: Literal["assigned", "revoked", "lost"], places: Sequence[Place]) -> None:
        """The group moved partitions."""
        super().rebalanced(reason, places)
        self.membership.rebalanced(reason, places)

    def looked(
        self, bounds: Mapping[Place, Bounds], positions: Mapping[Place, int], committed: Mapping[Place, int]
    ) -> None:
        """What the log holds, where we stand, and what the group knows of it."""
        super().looked(bounds, positions, committed)
        stamps = {place: at for trail in self._trails.values() for place, at in trail.stamps.items()}
        self.membership.looked(bounds, positions, committed, stamps)

    def skipped(self, place: Place, n_records: int, cause: str) -> None:
        """Records are gone from the log, and were skipped."""
        super().skipped(place, n_records, cause)
        self.membership.skipped(place, n_records, cause)

    def paused(self, reason: Pause, on: bool) -> None:
        """Reading is held back, or goes on."""
        super().paused(reason, on)
        self.membership.paused(reason, on)
        self._tell()

    def pending(self, n_messages: int) -> None:
        """Messages under way to the broker."""
        self.membership.pending(n_messages)

    def failed(self, api: str, error: StreamrecError) -> None:
        """The broker or the disk refused something; the loop goes on."""
        super().failed(api, error)
        self._trouble = f"{api}: {error}"
        self.membership.failed(api, error)
        self._tell()

    def between(self) -> None:
        """A sign of life, answers, and now and then a new text."""
        super().between()
        self.server.tick()
        self.membership.sweep()
        self.server.answer(self.lanes)
        if self.telemetry.due():
            self._show()

    def ended(self, error: StreamrecError) -> None:
        """The loop ends with an error."""
        super().ended(error)
        if isinstance(error, StateError) and not isinstance(error, FencedError):
            self.telemetry.meters.rise("restores_total", 1, "rejected")
        if isinstance(error, DeliveryError):
            self.membership.failed("produce", error)
        self._show()

    def _tell(self) -> None:
        """Tell the server whether we are ready, and if not, why."""
        self.server.enter(self.telemetry.state, self._reason())

    def _reason(self) -> str:
        state = self.telemetry.state
        if state == "degraded":
            return f"degraded: {self._trouble or 'the broker or the disk does not answer'}"
        if state != "running":
            return state
        if not self._polled:
            return "joining: no poll has ended well yet"
        return "restoring: lanes are being opened" if "restoring" in self.membership.paused_for else ""

    def _show(self) -> None:
        for trail in self._trails.values():
            self._put_bytes(trail)
        self.server.show(self.telemetry.render(), self._status())

    def _put_bytes(self, trail: Trail) -> None:
        for topic, n in trail.n_bytes.items():
            self.telemetry.meters.rise("consumed_bytes_total", n, topic)
        trail.n_bytes.clear()

    def _status(self) -> dict[str, Any]:
        now, lanes = self.telemetry.wall(), []
        for number, lane in sorted(self.lanes.items()):
            status = status_of(number, lane)
            at = status["positions"]
            status["positions"] = [one | self._standing((one["topic"], one["partition"])) for one in at]
            saved_at = self.telemetry.figures[number].saved_at
            status["checkpoint"]["age_s"] = None if saved_at is None else round(now - saved_at, 3)
            lanes.append(status)
        return {"version": __version__, "settings": self._hash, "lanes": lanes}

    def _standing(self, place: Place) -> dict[str, int | None]:
        here = self.membership.standings.get(place, Standing(0))
        known = {"end": here.end, "committed": here.committed, "lag": here.lag if here.end >= 0 else -1}
        return {name: n if n >= 0 else None for name, n in known.items()}
