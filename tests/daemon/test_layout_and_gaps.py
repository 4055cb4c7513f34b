"""Which partitions make a lane, and what happens when the log is not what it was."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.cut import Cutter
from streamrec.daemon.gaps import gaps, lost_records, recreated, refuse
from streamrec.daemon.layout import Layout, Topic, by_lane, folder_of, lane_of, layout_of, refuse_changes
from streamrec.entries import GapSkip, Rewound
from streamrec.errors import InvariantError, RetentionLossError, StateError
from streamrec.event import Event, Record
from streamrec.eventlog.clients import Bounds
from streamrec.order import Order

PLACE = ("clicks", 0)


@given(lanes=st.integers(1, 9), partitions=st.integers(1, 40))
def test_every_partition_belongs_to_one_lane_and_topics_keep_together(lanes: int, partitions: int) -> None:
    places = [(topic, p) for topic in ("a", "b") for p in range(partitions)]
    groups = by_lane(places, lanes)
    assert sorted(place for group in groups.values() for place in group) == places
    assert all(lane_of(place, lanes) == number for number, group in groups.items() for place in group)


def test_one_lane_lives_in_the_state_folder_itself() -> None:
    assert folder_of(Path("s"), 0, 1) == Path("s") and folder_of(Path("s"), 2, 4) == Path("s/lane-2")


def test_more_partitions_are_taken_in_by_a_single_lane_and_refused_by_several() -> None:
    kept, now = (Layout(1, {"clicks": Topic("x", n)}) for n in (8, 12))
    refuse_changes(kept, now)
    with pytest.raises(StateError, match=r"had 8 partitions, now 12.*repartition"):
        refuse_changes(Layout(2, kept.topics), Layout(2, now.topics))


def test_another_number_of_lanes_is_refused() -> None:
    with pytest.raises(StateError, match=r"made with 1 lanes, now 2 are wanted.*repartition"):
        refuse_changes(Layout(1, {}), Layout(2, {}))


def test_a_lane_without_a_layout_takes_any() -> None:
    refuse_changes(None, layout_of(3, [PLACE], {"clicks": "x"}))


def test_what_the_log_has_lost_is_counted_to_the_record() -> None:
    (gap,) = gaps({PLACE: 50}, {PLACE: Bounds(75, 90)})
    assert gap == GapSkip("clicks", 0, 50, 75, "retention") and lost_records(gap) == 25


def test_a_log_that_ends_before_us_has_lost_its_end() -> None:
    assert gaps({PLACE: 50}, {PLACE: Bounds(0, 20)}) == [Rewound("clicks", 0, 50, 20, "truncated")]


def test_a_topic_made_anew_is_read_from_its_beginning() -> None:
    before, now = Layout(1, {"clicks": Topic("x", 1)}), Layout(1, {"clicks": Topic("y", 1)})
    assert recreated(before, now) == ["clicks"] and recreated(before, before) == []
    found = gaps({PLACE: 50}, {PLACE: Bounds(0, 90)}, ["clicks"])
    assert found == [Rewound("clicks", 0, 50, 0, "recreated")]


@given(at=st.integers(0, 100), first=st.integers(0, 100), more=st.integers(0, 100))
def test_inside_the_log_there_is_no_gap(at: int, first: int, more: int) -> None:
    found = gaps({PLACE: at}, {PLACE: Bounds(first, first + more)})
    assert bool(found) == (not first <= at <= first + more)


def test_by_policy_loss_ends_the_program_or_not() -> None:
    found = gaps({PLACE: 50}, {PLACE: Bounds(75, 90)})
    with pytest.raises(RetentionLossError, match=r"25 records are gone.*--on-gap skip"):
        refuse(found, "fail")
    refuse(found, "skip")
    refuse([], "fail")


def test_a_rewound_partition_keeps_its_bins() -> None:
    cutter = Cutter(Order(), lambda _: float("nan"), 2)
    pairs = [(Record("clicks", 0, i, b""), Event("u", "m", 60.0 * i, offset=i)) for i in range(4)]
    assert len(list(cutter.feed(pairs))) == 2
    cutter.rewind("clicks", 0, 4, 0)
    assert cutter.offsets_advanced == 4 and cutter.positions == {PLACE: 0}
    again = [(Record("clicks", 0, i, b""), Event("v", "m", 600.0 + i, offset=i)) for i in range(2)]
    assert len(list(cutter.feed(again))) == 1 and cutter.offsets_advanced == 6
    with pytest.raises(InvariantError, match="cannot go from 7 to 0"):
        cutter.rewind("clicks", 0, 7, 0)


def test_other_cut_sizes_hold_between_cuts_only() -> None:
    cutter = Cutter(Order(), lambda _: float("nan"), 2)
    cutter.resize(5)
    assert cutter.cut_events == 5
    first = (Record("clicks", 0, 0, b""), Event("u", "m", 1.0))
    assert not list(cutter.feed([first]))
    with pytest.raises(InvariantError, match="resize"):
        cutter.resize(7)
