"""Cuts of a live lane: full, late or ticked; and rounds that no poll, no restart can change."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.cut import Cut, Cutter
from streamrec.daemon.feeds import Feed, FixedFeed, LiveFeed, Pair
from streamrec.entries import Tick
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.order import Order
from streamrec.settings import CutSettings

PLACES = [("clicks", p) for p in range(3)]


class Lane:
    """A cutter whose cuts are applied at once, and a clock that a test moves."""

    def __init__(self, cut_events: int = 8, lateness_s: float = 0.0) -> None:
        self.now = 0.0
        self.last: dict[str, float] = {}
        self.cutter = Cutter(Order(lateness_s), lambda user: self.last.get(user, math.nan), cut_events)
        self.steps: list[Cut | Tick] = []

    def live(self, **settings: float) -> LiveFeed:
        return LiveFeed(self.cutter, PLACES, CutSettings.model_validate(settings), lambda: self.now)

    def run(self, feed: Feed) -> list[Cut | Tick]:
        done = []
        for step in feed.steps():
            self._do(step)
            done.append(step)
        self.steps += done
        return done

    def _do(self, step: Cut | Tick) -> None:
        if isinstance(step, Tick):
            self.cutter.tick(step.topic, step.partition, step.time)
            return
        for tie_set in step.sets:
            self.last[tie_set.user] = tie_set.time


def event(partition: int, offset: int, time: float, user: str = "") -> Pair:
    record = Record("clicks", partition, offset, b"")
    return record, Event(user or f"u{offset % 5}-{partition}", "m", time, partition=partition, offset=offset)


def log(n: int, seed: int = 0) -> dict[int, list[Pair]]:
    """Per partition n records: events with ties, bad ones, duplicates' worth of late ones."""
    draw = random.Random(seed)
    out: dict[int, list[Pair]] = {}
    for partition in range(3):
        time, pairs = 1000.0, []
        for offset in range(n):
            time += draw.choice([0.0, 0.0, 1.0, 5.0])
            pair = event(partition, offset, time - draw.choice([0, 0, 0, 2]))
            pairs.append((pair[0], Reject("not_json", "")) if draw.random() < 0.1 else pair)
        out[partition] = pairs
    return out


def shuffled(parts: dict[int, list[Pair]], seed: int) -> list[list[Pair]]:
    """Polls: chunks of random size from random partitions, rising within each."""
    draw, at, polls = random.Random(seed), dict.fromkeys(parts, 0), []
    while any(at[p] < len(parts[p]) for p in parts):
        p = draw.choice([p for p in parts if at[p] < len(parts[p])])
        n = draw.randrange(1, 9)
        polls.append(parts[p][at[p] : at[p] + n])
        at[p] += n
    return polls


def reads_of(steps: Sequence[Cut | Tick]) -> list[object]:
    return [(step.reads, step.sets) for step in steps if isinstance(step, Cut)]


def test_a_cut_waits_no_longer_than_the_linger() -> None:
    lane = Lane()
    feed = lane.live(linger_s=0.5)
    feed.take([event(0, 0, 10.0), event(0, 1, 11.0)])
    assert lane.run(feed) == []
    lane.now = 0.49
    assert lane.run(feed) == []
    lane.now = 0.5
    (cut,) = lane.run(feed)
    assert isinstance(cut, Cut) and cut.reads == (("clicks", 0, 0, 2),)


@pytest.mark.parametrize(("lag", "size"), [(0, 64), (100, 164), (10_000, 256)])
def test_cuts_grow_with_the_lag_within_their_bounds(lag: int, size: int) -> None:
    lane = Lane()
    feed = lane.live(live_min_events=64, live_max_events=256)
    feed.looked({("clicks", 0): lag})
    feed.take([event(0, 0, 10.0)] if lag == 0 else [event(0, i, 10.0 + i) for i in range(64)])
    lane.run(feed)
    assert lane.cutter.cut_events == size


def test_a_silent_partition_at_its_end_gets_a_tick_that_closes_its_sets() -> None:
    lane = Lane()
    feed = lane.live(linger_s=0.0, idle_tick_s=1.0)
    feed.take([event(1, 0, 10.0, "u")])
    feed.looked({("clicks", 1): 0})
    lane.run(feed)
    assert "u" not in lane.last
    lane.now = 1.0
    tick, cut = lane.run(feed)
    assert isinstance(tick, Tick) and isinstance(cut, Cut) and not cut.reads
    assert lane.last["u"] == 10.0
    lane.now = 99.0
    assert lane.run(feed) == []  # once is enough


def test_a_partition_that_lags_is_not_silent() -> None:
    lane = Lane()
    feed = lane.live(linger_s=0.0, idle_tick_s=1.0)
    feed.take([event(1, 0, 10.0, "u")])
    feed.looked({("clicks", 1): 5})
    lane.run(feed)
    lane.now = 50.0
    assert lane.run(feed) == []


def test_a_tick_of_a_partition_leaves_the_sets_of_others_open() -> None:
    lane = Lane()
    feed = lane.live(linger_s=0.0, idle_tick_s=1.0)
    feed.take([event(0, 0, 10.0, "a"), event(1, 0, 10.0, "b")])
    feed.looked({("clicks", 0): 0, ("clicks", 1): 9})
    lane.run(feed)
    lane.now = 2.0
    lane.run(feed)
    assert lane.last == {"a": 10.0}


def test_held_events_of_a_silent_partition_are_released_too() -> None:
    lane = Lane(lateness_s=60.0)
    feed = lane.live(linger_s=0.0, idle_tick_s=1.0)
    feed.take([event(0, 0, 10.0, "a"), event(0, 1, 5.0, "b")])
    feed.looked({("clicks", 0): 0})
    lane.run(feed)
    lane.now = 1.5
    lane.run(feed)
    assert lane.last == {"a": 10.0, "b": 5.0} and lane.cutter.order.n_held == 0


def test_finishing_a_live_lane_closes_the_cut_and_forgets_what_waits() -> None:
    lane = Lane()
    feed = lane.live(linger_s=10.0)
    feed.take([event(0, 0, 10.0)])
    lane.run(feed)
    feed.take([event(0, 1, 11.0)])
    (cut,) = feed.finish(at_end=False)
    assert isinstance(cut, Cut) and cut.reads == (("clicks", 0, 0, 1),) and not lane.cutter.has_reads


@given(seed=st.integers(0, 10_000), polls=st.integers(0, 10_000), cut_events=st.sampled_from([3, 7, 12]))
def test_rounds_are_the_same_however_records_are_polled(seed: int, polls: int, cut_events: int) -> None:
    parts = log(40, seed)
    runs = []
    for order in (0, polls):
        lane = Lane(cut_events)
        feed = FixedFeed(lane.cutter, PLACES)
        for chunk in shuffled(parts, order):
            feed.take(chunk)
            lane.run(feed)
        runs.append(reads_of(lane.steps))
    assert runs[0] == runs[1]
    assert runs[0]


@given(
    seed=st.integers(0, 10_000), stop=st.integers(1, 30), lateness_s=st.sampled_from([0.0, 3.0, 20.0, 60.0])
)
def test_rounds_go_on_after_a_restart_where_they_rested(seed: int, stop: int, lateness_s: float) -> None:
    """With a lateness one record may release more events than a share, or a whole round."""
    parts, whole = log(40, seed), Lane(7, lateness_s)
    feed = FixedFeed(whole.cutter, PLACES)
    feed.take(pair for part in parts.values() for pair in part)
    rested = [(whole.cutter.dump(), dict(whole.last), 0)]
    for n, step in enumerate(feed.steps(), 1):
        whole._do(step)
        whole.steps.append(step)
        if feed.resting:
            rested.append((whole.cutter.dump(), dict(whole.last), n))
    dump, last, n = rested[min(stop, len(rested) - 1)]
    again = Lane(7, lateness_s)
    again.cutter.load(dump)
    again.last = last
    later = FixedFeed(again.cutter, PLACES)
    at = again.cutter.positions
    later.take(pair for p, part in parts.items() for pair in part[at.get(("clicks", p), 0) :])
    assert reads_of(again.run(later)) == reads_of(whole.steps[n:])


def test_a_partition_that_is_ahead_is_crowded_and_the_one_that_is_waited_for_is_not() -> None:
    feed = FixedFeed(Lane(6).cutter, PLACES)
    feed.take([event(1, i, 10.0 + i) for i in range(50)])
    assert feed.crowded(20) == [("clicks", 1)]


def test_a_live_lane_that_is_behind_is_crowded_as_a_whole() -> None:
    feed = Lane().live()
    feed.take([event(1, i, 10.0 + i) for i in range(50)])
    assert list(feed.crowded(20)) == PLACES and not feed.crowded(50)
