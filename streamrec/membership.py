"""What a member of a group shows: its partitions, how far they are, rebalances, errors.

    lag, records   end of the log - applied offset
    lag, seconds   0 without a lag; else now - max(stamp of the last applied record, last look without a lag),
                   and the time since the lane was opened where neither is known
    rebalance      from partitions coming or going until reading waits for no lane

What tells of a partition goes when the partition goes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, get_args

from streamrec.daemon.observer import Pause
from streamrec.diary import code_of
from streamrec.errors import BrokerError, DeliveryError, DiskError, FencedError, StreamrecError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds
from streamrec.meters import Meters

MAX_CODES = 64
"""Pairs of api and code that are told apart; further ones count as `other`."""

REASONS = ("assigned", "revoked", "lost")
OF_OFFSETS = (
    *("consumer_lag_records", "consumer_lag_seconds", "applied_offset", "log_end_offset"),
    *("committed_offset", "partition_last_progress_timestamp_seconds"),
)
Clock = Callable[[], float]


class Standing(NamedTuple):
    """Where a partition of ours stands; offsets are next offsets, -1 if not known."""

    applied: int
    end: int = -1
    committed: int = -1

    @property
    def lag(self) -> int:
        """Records that are not applied yet."""
        return max(0, self.end - self.applied) if self.end >= 0 else 0


class Membership:
    """Metrics of a member.

    Parameters
    ----------
    meters : that take them
    clock, wall : s, monotonic and since the epoch
    """

    def __init__(self, meters: Meters, clock: Clock, wall: Clock) -> None:
        self.meters, self.clock, self.wall = meters, clock, wall
        self.standings: dict[Place, Standing] = {}
        self.paused_for: set[Pause] = set()
        self._mine: set[Place] = set()
        self._gone: set[Place] = set()
        self._since: dict[Place, float] = {}
        self._moved: dict[Place, float] = {}
        self._level: dict[Place, float] = {}
        self._codes: set[tuple[str, str]] = set()
        self._moving_since: float | None = None
        self._turns = 0
        self._said()

    def polled(self, n_records: int) -> None:
        """A poll ended."""
        self.meters.observe("poll_records", [n_records])
        self.meters.put("last_poll_timestamp_seconds", self.wall())

    def rebalanced(self, reason: str, places: Sequence[Place]) -> None:
        """The group moved partitions."""
        self.meters.rise("rebalances_total", 1, reason)
        if self._moving_since is None:
            self._moving_since = self.clock()
        self._turns = 0
        if reason == "assigned":
            self._mine |= set(places)
        else:
            self._mine -= set(places)
            self._gone |= set(places)
        n_mine = Counter(topic for topic, _ in self._mine)
        for topic in {topic for topic, _ in places} | set(n_mine):
            self.meters.put("assigned_partitions", n_mine[topic], topic)

    def entered(self, places: Iterable[Place]) -> None:
        """A lane with these partitions is open."""
        now = self.wall()
        for place in places:
            self._since[place] = self._moved[place] = now

    def left(self, places: Iterable[Place]) -> None:
        """A lane with these partitions is not open any more: where they stand is not known."""
        for place in places:
            for kept in (self.standings, self._since, self._moved, self._level):
                kept.pop(place, None)
            for name in OF_OFFSETS:
                self.meters.drop_one(name, place[0], str(place[1]))

    def looked(
        self,
        bounds: Mapping[Place, Bounds],
        positions: Mapping[Place, int],
        committed: Mapping[Place, int],
        stamps: Mapping[Place, float],
    ) -> None:
        """What the log holds, where we stand, and the broker's timestamps of what was applied last."""
        self.left([place for place in self.standings if place not in positions])
        now = self.wall()
        for place, at in positions.items():
            end = bounds[place].end if place in bounds else -1
            before = self.standings.get(place)
            here = self.standings[place] = Standing(at, end, committed.get(place, -1))
            if before is not None and at > before.applied:
                self._moved[place] = now
            if here.lag == 0 and end >= 0:
                self._level[place] = now
            self._show(place, here, stamps.get(place), now)

    def sweep(self) -> None:
        """Forget partitions that went; between two pieces of work, when their lanes have been closed."""
        for topic, partition in self._gone - self._mine:
            self.left([(topic, partition)])
            self.meters.drop(topic=topic, partition=str(partition))
        self._gone.clear()

    def skipped(self, place: Place, n_records: int, cause: str) -> None:
        """Records are gone, and were skipped."""
        self.meters.rise("offsets_skipped_total", n_records, place[0], str(place[1]), cause)

    def paused(self, reason: Pause, on: bool) -> None:
        """Reading is held back, or goes on."""
        self.paused_for = self.paused_for | {reason} if on else self.paused_for - {reason}
        self.meters.put("paused", float(on), reason)

    def pending(self, n_messages: int) -> None:
        """Messages under way; told once in every turn of the loop."""
        self.meters.put("producer_queue_records", n_messages)
        self._turns += 1
        if self._moving_since is not None and self._turns > 1 and "restoring" not in self.paused_for:
            self.meters.observe("rebalance_seconds", [self.clock() - self._moving_since])
            self._moving_since = None

    def failed(self, api: str, error: StreamrecError) -> None:
        """The broker or the disk refused something."""
        if isinstance(error, FencedError):
            self.meters.rise("fenced_writes_total", 1)
        elif isinstance(error, DiskError):
            self.meters.rise("disk_errors_total", 1, api)
        elif isinstance(error, DeliveryError):
            self.meters.rise("producer_errors_total", 1, self._code("produce", error))
        elif isinstance(error, BrokerError):
            self.meters.rise("kafka_errors_total", 1, api, self._code(api, error))

    def _said(self) -> None:
        """What is always there, also before it first happens."""
        for reason in REASONS:
            self.meters.reach("rebalances_total", 0, reason)
        for pause in get_args(Pause):
            self.meters.put("paused", 0, pause)
        for name in ("poll_records", "rebalance_seconds", "end_to_end_seconds"):
            self.meters.observe(name, ())
        self.meters.reach("fenced_writes_total", 0)
        self.meters.put("producer_queue_records", 0)

    def _code(self, api: str, error: StreamrecError) -> str:
        pair = api, code_of(error)
        if pair not in self._codes and len(self._codes) >= MAX_CODES:
            return "other"
        self._codes.add(pair)
        return pair[1]

    def _show(self, place: Place, here: Standing, stamp: float | None, now: float) -> None:
        labels = place[0], str(place[1])
        put = self.meters.put
        put("applied_offset", here.applied, *labels)
        put("partition_last_progress_timestamp_seconds", self._moved.setdefault(place, now), *labels)
        if here.committed >= 0:
            put("committed_offset", here.committed, *labels)
        if here.end < 0:
            return
        known = [at for at in (stamp, self._level.get(place)) if at is not None]
        began = max(known, default=self._since.setdefault(place, now))
        put("log_end_offset", here.end, *labels)
        put("consumer_lag_records", here.lag, *labels)
        put("consumer_lag_seconds", max(0.0, now - began), *labels)
