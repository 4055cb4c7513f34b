"""Lag in records and seconds, progress, rebalances, errors; and nothing of partitions that are not ours."""

import pytest
from prometheus_client import CollectorRegistry
from served_lane import Ticking, of_name

from streamrec.errors import BrokerError, DeliveryError, DiskError, FencedError, UnavailableError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds
from streamrec.membership import MAX_CODES, Membership
from streamrec.meters import Meters

A, B = ("clicks", 0), ("clicks", 1)
EPOCH = 1e9


class Scene:
    """A member with the clock of the test; the wall clock shows the same from another year on."""

    def __init__(self) -> None:
        self.clock, self.meters = Ticking(), Meters(CollectorRegistry())
        self.member = Membership(self.meters, self.clock, lambda: EPOCH + self.clock.now)

    @property
    def now(self) -> float:
        return EPOCH + self.clock.now

    def look(self, end: int, at: int, stamp: float | None = None, place: Place = A) -> None:
        stamps = {} if stamp is None else {place: stamp}
        self.member.looked({place: Bounds(0, end)}, {place: at}, {}, stamps)

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        return of_name(self.meters.text(), name)

    def lag(self) -> tuple[float, float]:
        labels = ("0", "clicks")
        return self.of("consumer_lag_records")[labels], self.of("consumer_lag_seconds")[labels]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_without_a_lag_both_lags_are_zero_whatever_the_timestamps(scene: Scene) -> None:
    scene.look(end=10, at=10, stamp=5.0)
    assert scene.lag() == (0, 0)


def test_the_lag_in_seconds_is_the_age_of_the_last_applied_record(scene: Scene) -> None:
    scene.look(end=100, at=40, stamp=scene.now - 70.0)
    assert scene.lag() == (60, 70)
    scene.clock.now += 5
    scene.look(end=100, at=90, stamp=scene.now - 2.0)
    assert scene.lag() == (10, 2)


def test_a_quiet_partition_is_not_late_by_its_silence(scene: Scene) -> None:
    scene.look(end=10, at=10, stamp=scene.now)
    scene.clock.now += 3600
    scene.look(end=10, at=10, stamp=scene.now - 3600)
    scene.clock.now += 1
    scene.look(end=11, at=10, stamp=scene.now - 3601)
    assert scene.lag() == (1, 1), "the record came after the last look"


def test_before_anything_is_known_the_lag_counts_from_the_opening(scene: Scene) -> None:
    scene.member.entered([A])
    scene.clock.now += 30
    scene.look(end=10, at=0)
    assert scene.lag() == (10, 30)


def test_a_timestamp_of_the_future_gives_no_negative_lag(scene: Scene) -> None:
    scene.look(end=10, at=5, stamp=scene.now + 100)
    assert scene.lag() == (5, 0)


def test_progress_is_when_the_applied_offset_last_rose(scene: Scene) -> None:
    scene.member.entered([A])
    opened = scene.now
    name = "partition_last_progress_timestamp_seconds"
    for _ in range(3):
        scene.clock.now += 10
        scene.look(end=10, at=5)
    assert scene.of(name)["0", "clicks"] == opened, "the first look saw no rise"
    scene.clock.now += 10
    scene.look(end=10, at=6)
    assert scene.of(name)["0", "clicks"] == scene.now


def test_offsets_are_those_that_were_looked_at(scene: Scene) -> None:
    scene.member.looked({A: Bounds(3, 90)}, {A: 70}, {A: 60}, {})
    labels = ("0", "clicks")
    for name, value in (("applied_offset", 70), ("log_end_offset", 90), ("committed_offset", 60)):
        assert scene.of(name) == {labels: value}
    assert scene.member.standings[A].lag == 20


def test_a_partition_without_bounds_or_commit_shows_what_is_known_and_no_zero(scene: Scene) -> None:
    scene.member.looked({}, {A: 70}, {}, {})
    assert scene.of("applied_offset") == {("0", "clicks"): 70}
    for name in ("log_end_offset", "committed_offset", "consumer_lag_records", "consumer_lag_seconds"):
        assert scene.of(name) == {}, name


def test_a_partition_that_went_leaves_no_series(scene: Scene) -> None:
    scene.member.rebalanced("assigned", [A, B])
    scene.member.entered([A, B])
    scene.member.looked({A: Bounds(0, 9), B: Bounds(0, 9)}, {A: 1, B: 1}, {A: 1, B: 1}, {})
    scene.member.skipped(B, 40, "retention")
    assert scene.of("assigned_partitions") == {("clicks",): 2}
    scene.member.rebalanced("revoked", [B])
    scene.meters.rise("events_total", 5, "clicks", "1", "ok")  # its lane makes its last cut
    scene.member.sweep()
    text = scene.meters.text().decode()
    assert 'partition="0"' in text
    assert 'partition="1"' not in text
    assert scene.of("assigned_partitions") == {("clicks",): 1}


def test_a_partition_that_went_and_came_back_at_once_keeps_its_series(scene: Scene) -> None:
    scene.member.rebalanced("assigned", [A])
    scene.meters.rise("events_total", 5, "clicks", "0", "ok")
    scene.member.rebalanced("lost", [A])
    scene.member.rebalanced("assigned", [A])
    scene.member.sweep()
    assert scene.of("events_total") == {("ok", "0", "clicks"): 5}


def test_a_lane_that_is_closed_without_a_rebalance_leaves_no_stale_offsets(scene: Scene) -> None:
    scene.member.rebalanced("assigned", [A])
    scene.look(end=100, at=10)
    scene.member.left([A])
    for name in ("applied_offset", "log_end_offset", "consumer_lag_records", "consumer_lag_seconds"):
        assert scene.of(name) == {}, name
    scene.look(end=100, at=10)
    scene.member.looked({}, {}, {}, {})
    assert scene.of("consumer_lag_records") == {}, "a look that does not name it"


def turn(scene: Scene, seconds: float) -> None:
    scene.clock.now += seconds
    scene.member.pending(0)


def test_a_rebalance_lasts_until_no_lane_is_waited_for(scene: Scene) -> None:
    scene.member.rebalanced("assigned", [A])
    turn(scene, 1)
    scene.member.paused("restoring", True)
    turn(scene, 1)
    scene.member.rebalanced("assigned", [B])
    turn(scene, 1)
    turn(scene, 1)
    assert scene.of("rebalance_seconds_count") == {(): 0}
    scene.member.paused("restoring", False)
    turn(scene, 1)
    turn(scene, 1)
    assert scene.of("rebalance_seconds_count") == {(): 1}
    assert scene.of("rebalance_seconds_sum") == {(): 5}
    assert scene.of("rebalances_total") == {("assigned",): 2, ("revoked",): 0, ("lost",): 0}


def test_a_rebalance_that_opens_nothing_ends_with_the_next_turn(scene: Scene) -> None:
    scene.member.rebalanced("revoked", [A])
    turn(scene, 1)
    assert scene.of("rebalance_seconds_count") == {(): 0}, "pauses were not looked at since"
    turn(scene, 1)
    assert scene.of("rebalance_seconds_sum") == {(): 2}


def test_a_rebalance_that_follows_at_once_is_the_same_one(scene: Scene) -> None:
    scene.member.rebalanced("revoked", [A])
    turn(scene, 1)
    scene.member.rebalanced("assigned", [B])
    turn(scene, 1)
    assert scene.of("rebalance_seconds_count") == {(): 0}, "pauses were not looked at since the second"
    turn(scene, 1)
    assert scene.of("rebalance_seconds_sum") == {(): 3}


def test_errors_are_counted_by_what_refused(scene: Scene) -> None:
    try:
        raise UnavailableError("late") from TimeoutError()
    except UnavailableError as error:
        scene.member.failed("poll", error)
    scene.member.failed("commit", BrokerError("no"))
    scene.member.failed("journal", DiskError("full"))
    scene.member.failed("fenced", FencedError("another owner"))
    scene.member.failed("produce", DeliveryError("too large"))
    assert scene.of("kafka_errors_total") == {("poll", "TimeoutError"): 1, ("commit", "BrokerError"): 1}
    assert scene.of("disk_errors_total") == {("journal",): 1}
    assert scene.of("fenced_writes_total") == {(): 1}
    assert scene.of("producer_errors_total") == {("DeliveryError",): 1}


def test_codes_are_bounded(scene: Scene) -> None:
    for n in range(MAX_CODES + 20):
        cause = type(f"Odd{n}Error", (Exception,), {})()
        error = UnavailableError("odd")
        error.__cause__ = cause
        scene.member.failed("poll", error)
    counted = scene.of("kafka_errors_total")
    assert len(counted) == MAX_CODES + 1
    assert counted["poll", "other"] == 20


def test_polls_pauses_and_the_queue_are_shown(scene: Scene) -> None:
    for n in (0, 5, 2000):
        scene.member.polled(n)
    assert scene.of("poll_records_count") == {(): 3}
    assert scene.of("poll_records_sum") == {(): 2005}
    assert scene.of("last_poll_timestamp_seconds") == {(): scene.now}
    scene.member.paused("disk", True)
    assert scene.of("paused") == {("backpressure",): 0, ("disk",): 1, ("restoring",): 0}
    scene.member.paused("disk", False)
    assert scene.of("paused")["disk",] == 0
    scene.member.pending(17)
    assert scene.of("producer_queue_records") == {(): 17}
