"""Cuts: what they hold, that they do not depend on how records were fetched, and that they repeat."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.bins import Bins, Counts
from streamrec.cut import Cut, Cutter
from streamrec.errors import ConfigError, CorruptStateError, InvariantError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.order import Order
from streamrec.places import check_sum, one_clock
from streamrec.spans import fixed_shares

Pair = tuple[Record, Event | Reject]


class Loop:
    """Applies cuts like the processor does: it remembers each user's last time and nothing else."""

    def __init__(self, cut_events: int = 4, cut_records: int | None = None, **settings: Any) -> None:
        self.last: dict[str, float] = {}
        self.cutter = Cutter(Order(**settings), self.last_time, cut_events, cut_records)
        self.cuts: list[Cut] = []

    def last_time(self, user: str) -> float:
        return self.last.get(user, math.nan)

    def apply(self, cut: Cut) -> None:
        for tie_set in cut.sets:
            assert not tie_set.time < self.last_time(tie_set.user)
            self.last[tie_set.user] = tie_set.time
        self.cuts.append(cut)

    def feed(self, pairs: list[Pair]) -> None:
        for cut in self.cutter.feed(pairs):
            self.apply(cut)

    def finish(self) -> list[Cut]:
        for cut in self.cutter.finish():
            self.apply(cut)
        return self.cuts


ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition
        st.sampled_from([1, 1, 1, 1, 2, 5]),  # step of the offset: gaps now and then
        st.none()
        | st.tuples(st.sampled_from("uvw"), st.integers(0, 15), st.none() | st.sampled_from("1234567")),
    ),
    max_size=60,
)
SETTINGS = st.fixed_dictionaries(
    {
        "cut_events": st.sampled_from([1, 3, 8]),
        "cut_records": st.sampled_from([2, 50]),
        "lateness_s": st.sampled_from([0.0, 3.0]),
        "max_tie_marks": st.sampled_from([2, 128]),
        "held_events": st.sampled_from([2, 100]),
    }
)


def log(rows: list[Any]) -> list[Pair]:
    pairs: list[Pair] = []
    offsets = [10, 20]
    for partition, step, what in rows:
        offsets[partition] += step
        offset = offsets[partition]
        record = Record("log", partition, offset, b"", timestamp_ms=-1)
        if what is None:
            pairs.append((record, Reject("not_json", "")))
        else:
            user, time, id_ = what
            pairs.append((record, Event(user, f"m{offset}", float(time), id_, partition, offset)))
    return pairs


def events(*times: float, first: int = 0) -> list[Pair]:
    return [
        (Record("log", 0, first + i, b""), Event(f"u{i}", "m", time, None, 0, first + i))
        for i, time in enumerate(times)
    ]


def test_a_cut_closes_with_its_last_accepted_event_and_open_sets_are_carried_on() -> None:
    loop = Loop(cut_events=2)
    loop.feed(events(1.0, 2.0, 3.0, 4.0, 5.0))
    assert [(cut.reads, [s.time for s in cut.sets], cut.serial) for cut in loop.cuts] == [
        ((("log", 0, 0, 2),), [1.0], 0),
        ((("log", 0, 2, 4),), [2.0, 3.0], 1),
    ]
    last = loop.finish()[-1]
    assert (last.reads, [s.time for s in last.sets], last.flushed) == ((("log", 0, 4, 5),), [4.0, 5.0], True)


def test_bad_records_ride_along_and_adjacent_ranges_are_one() -> None:
    pairs = log(
        [(0, 1, ("u", 1, None)), (0, 1, None), (1, 1, ("v", 1, None)), (0, 1, None), (0, 3, ("w", 2, None))]
    )
    loop = Loop(cut_events=100)
    loop.feed(pairs)
    (cut,) = loop.finish()
    assert cut.reads == (("log", 0, 11, 13), ("log", 1, 21, 22), ("log", 0, 13, 17))
    assert cut.counts == Counts(ok=3, dead_letter=2, skipped=2)
    assert [record.offset for record, _ in cut.rejects] == [12, 13]
    assert loop.cutter.bins.reasons == {"not_json": 2}
    assert loop.cutter.bins.causes == {"log": 2}
    assert loop.cutter.positions == {("log", 0): 17, ("log", 1): 22}


def test_a_blank_line_is_skipped_and_no_dead_letter() -> None:
    loop = Loop()
    loop.feed([(Record("log", 0, 0, b" "), Reject("blank_line", ""))])
    (cut,) = loop.finish()
    assert (cut.counts, cut.rejects) == (Counts(skipped=1), [])
    assert loop.cutter.bins.causes == {"blank_line": 1}


def test_a_burst_of_releases_is_spread_over_cuts_that_read_nothing() -> None:
    loop = Loop(cut_events=4)
    loop.feed(events(*[1.0] * 10, 2.0))
    assert [len(cut.sets) for cut in loop.cuts] == [0, 0, 4, 4]
    assert loop.cuts[-1].reads == ()
    assert [len(cut.sets) for cut in loop.finish()][4:] == [3]


def test_a_flush_of_many_sets_makes_several_cuts_and_only_the_first_is_the_flushed_one() -> None:
    loop = Loop(cut_events=4)
    loop.feed(events(*[1.0] * 10))
    assert [(len(cut.sets), cut.flushed) for cut in loop.finish()[2:]] == [(4, True), (4, False), (2, False)]


def test_nothing_but_bad_records_makes_progress_too() -> None:
    loop = Loop(cut_events=4, cut_records=10)
    loop.feed(log([(0, 1, None)] * 25))
    assert [cut.counts.dead_letter for cut in loop.cuts] == [10, 10]


@given(rows=ROWS, settings=SETTINGS)
def test_every_record_ends_in_one_bin_and_every_accepted_mark_in_one_cut(
    rows: list[Any], settings: dict[str, Any]
) -> None:
    pairs = log(rows)
    loop = Loop(**settings)
    loop.feed(pairs)
    loop.finish()
    total = Counts()
    for cut in loop.cuts:
        total = total.plus(cut.counts)
        assert sum(len(s.marks) for s in cut.sets[:-1]) < loop.cutter.cut_events
    places: dict[int, list[int]] = {}
    for record, _ in pairs:
        places.setdefault(record.partition, [record.offset, 0])[1] = record.offset + 1
    advanced = sum(last - first for first, last in places.values())
    assert sum(total) == advanced == loop.cutter.bins.total == loop.cutter.offsets_advanced
    assert total == loop.cutter.bins.counts
    assert total.dead_letter == sum(isinstance(what, Reject) for _, what in pairs)
    assert total.ok == sum(len(s.marks) for cut in loop.cuts for s in cut.sets)
    for before, after in zip(loop.cuts, loop.cuts[1:], strict=False):
        assert after.serial == before.serial + len(before.sets)


@given(rows=ROWS, settings=SETTINGS, polls=st.lists(st.integers(0, 60), max_size=8).map(sorted))
def test_the_size_of_a_poll_does_not_matter(
    rows: list[Any], settings: dict[str, Any], polls: list[int]
) -> None:
    pairs = log(rows)
    straight, polled = Loop(**settings), Loop(**settings)
    straight.feed(pairs)
    for first, last in zip([0, *polls], [*polls, len(pairs)], strict=True):
        polled.feed(pairs[first:last])
    assert polled.finish() == straight.finish()
    assert polled.cutter.dump() == straight.cutter.dump()


@given(rows=ROWS, settings=SETTINGS, data=st.data())
def test_what_is_released_does_not_depend_on_the_size_of_the_cuts(
    rows: list[Any], settings: dict[str, Any], data: st.DataObject
) -> None:
    pairs = log(rows)
    one, other = Loop(**settings), Loop(**(settings | {"cut_events": 5, "cut_records": 7}))
    one.feed(pairs)
    other.feed(pairs)
    sets = [[s for cut in loop.finish() for s in cut.sets] for loop in (one, other)]
    assert sets[0] == sets[1]
    assert one.cutter.bins.dump() == other.cutter.bins.dump()


@given(rows=ROWS, settings=SETTINGS)
def test_a_run_killed_after_any_cut_goes_on_as_if_never_stopped(
    rows: list[Any], settings: dict[str, Any]
) -> None:
    pairs = log(rows)
    straight = Loop(**settings)
    states: list[tuple[bytes, dict[str, float], int]] = []
    for cut in straight.cutter.feed(pairs):
        straight.apply(cut)
        states.append((straight.cutter.dump(), dict(straight.last), len(straight.cuts)))
    straight.finish()
    for data, last, n_cuts in states:
        resumed = Loop(**settings)
        resumed.last.update(last)
        resumed.cutter.load(data)
        assert resumed.cutter.dump() == data
        place = resumed.cutter.positions
        resumed.feed([p for p in pairs if p[0].offset >= place.get(("log", p[0].partition), -1)])
        assert resumed.finish() == straight.cuts[n_cuts:]
        assert resumed.cutter.dump() == straight.cutter.dump()


def records_of(cut: Cut, pairs: list[Pair]) -> list[Pair]:
    return [
        pair
        for topic, partition, first, next_ in cut.reads
        for pair in pairs
        if (pair[0].topic, pair[0].partition) == (topic, partition) and first <= pair[0].offset < next_
    ]


@given(rows=ROWS, settings=SETTINGS, lingers=st.sets(st.integers(0, 60)))
def test_a_replay_of_ranges_makes_the_same_cuts_whenever_the_live_run_closed_them(
    rows: list[Any], settings: dict[str, Any], lingers: set[int]
) -> None:
    pairs = log(rows)
    live, replay = Loop(**settings), Loop(**settings)
    for i, pair in enumerate(pairs):
        live.feed([pair])
        if i in lingers:
            live.apply(live.cutter.close())
    live.finish()
    for cut in live.cuts:
        again = replay.cutter.replay(cut.reads, len(cut.sets), cut.flushed, records_of(cut, pairs))
        assert again == cut
        replay.apply(again)
    assert replay.cutter.dump() == live.cutter.dump()


def test_a_replay_from_another_log_is_refused() -> None:
    pairs = events(1.0, 2.0, 3.0)
    with pytest.raises(InvariantError, match=r"the journal has reads .* and 2 sets"):
        Loop().cutter.replay((("log", 0, 0, 3),), 2, False, pairs[:2])
    with pytest.raises(InvariantError, match="the log gave"):
        Loop().cutter.replay((("log", 0, 0, 3),), 3, False, pairs)


def test_a_record_that_comes_again_is_refused() -> None:
    loop = Loop()
    pairs = events(1.0, 2.0, 3.0)
    loop.feed(pairs)
    for again in ([pairs[1]], pairs):
        with pytest.raises(InvariantError, match=r"log\[0\]: next offset is 3, but record [01] came"):
            loop.feed(again)


def test_a_partition_that_was_assigned_at_an_offset_counts_what_is_missing_before_its_first_record() -> None:
    loop = Loop()
    loop.cutter.assign("log", 0, 90)
    loop.feed(events(1.0, first=100))
    assert loop.finish()[0].counts == Counts(ok=1, skipped=10)


def test_a_gap_is_skipped_with_its_cause_and_never_backwards() -> None:
    loop = Loop()
    loop.cutter.assign("log", 0, 5)
    assert loop.cutter.skip("log", 0, 5, 25, "retention") == 20
    assert (loop.cutter.bins.counts.skipped, loop.cutter.bins.causes) == (20, {"retention": 20})
    loop.feed(events(1.0, first=25))
    loop.finish()
    for first, last in ((26, 3), (25, 30), (27, 30)):
        with pytest.raises(
            InvariantError, match=rf"cannot skip from {first} to {last}, the next offset is 26"
        ):
            loop.cutter.skip("log", 0, first, last, "retention")


def test_what_a_tick_releases_belongs_to_the_next_cut_also_after_a_restart() -> None:
    loop, resumed = Loop(lateness_s=5.0), Loop(lateness_s=5.0)
    loop.feed(events(1.0, 2.0))
    loop.apply(loop.cutter.close())
    loop.cutter.tick("log", 0, 1.5)
    resumed.cutter.load(loop.cutter.dump())
    for each in (loop, resumed):
        each.feed(events(9.0, first=2))
        assert each.cutter.close().counts == Counts(ok=2)


def test_between_cuts_means_between_cuts() -> None:
    loop = Loop()
    loop.feed(events(1.0))
    for forbidden in (
        loop.cutter.dump,
        lambda: loop.cutter.tick("log", 0, 1.0),
        lambda: loop.cutter.skip("log", 0, 1, 9, "retention"),
        lambda: loop.cutter.forget("u0"),
    ):
        with pytest.raises(InvariantError, match="wanted between two cuts, got it after 1 records"):
            forbidden()


def test_forgetting_a_user_keeps_the_bins_in_balance() -> None:
    loop = Loop(lateness_s=5.0)
    loop.feed(events(1.0, 2.0))
    loop.apply(loop.cutter.close())
    assert loop.cutter.forget("u0") == 1
    assert loop.cutter.bins.causes == {"forgotten": 1}
    assert [s.user for cut in loop.finish() for s in cut.sets] == ["u1"]


def test_a_lost_record_stops_the_program() -> None:
    loop = Loop()
    loop.feed(events(1.0, 2.0))
    loop.cutter.order.n_late -= 1
    with pytest.raises(InvariantError, match="2 offsets went by: a record was lost or counted twice"):
        loop.cutter.close()


@given(partitions=st.integers(1, 40), more=st.integers(0, 200))
def test_a_fixed_round_takes_all_of_cut_events_as_evenly_as_it_goes(partitions: int, more: int) -> None:
    shares = fixed_shares(partitions + more, partitions)
    assert (len(shares), sum(shares)) == (partitions, partitions + more)
    assert max(shares) - min(shares) <= 1 <= min(shares)


def test_limits_out_of_range_and_foreign_bytes_are_refused() -> None:
    with pytest.raises(ConfigError, match="wanted >= 1, got 0"):
        Cutter(Order(), lambda _: math.nan, cut_events=0)
    with pytest.raises(ConfigError, match="each of 9 partitions, got 8"):
        fixed_shares(8, 9)
    for part in (Bins(), Loop().cutter):
        with pytest.raises(CorruptStateError, match="wanted the bytes of a dump"):
            part.load(b"\x00")


def test_cuts_of_several_files_on_one_clock_are_those_of_the_files_joined() -> None:
    events = [Event(f"u{i % 5}", f"m{i % 3}", float(i // 4), offset=i) for i in range(60)]
    joined: list[Pair] = [(Record("all", 0, i, b""), event) for i, event in enumerate(events)]
    parted: list[Pair] = [
        (Record(f"part{i // 25}", 0, i % 25, b""), event._replace(offset=i % 25))
        for i, event in enumerate(events)
    ]
    loops = [Loop(cut_events=7), Loop(cut_events=7)]
    for loop, pairs in zip(loops, (joined, parted), strict=True):
        loop.cutter.clock_of = one_clock
        loop.feed(pairs)
        loop.finish()
    plain = [[[s._replace(topic="", offset=0) for s in cut.sets] for cut in loop.cuts] for loop in loops]
    assert plain[0] == plain[1]
    assert {s.topic for cut in loops[1].cuts for s in cut.sets} == {"part0", "part1", "part2"}


def test_a_log_that_has_nothing_to_release_ends_without_a_cut() -> None:
    loop = Loop()
    assert loop.finish() == []
    loop.feed([(Record("log", 0, 0, b"x"), Event("u", "a", 1.0, offset=0))])
    assert len(loop.finish()) == 1
    assert len(loop.finish()) == 1


def test_the_check_sum_is_of_the_last_record_of_every_place_and_survives_a_dump() -> None:
    loop = Loop()
    values = {("a", 0): b"last of a", ("b", 0): b"last of b"}
    pairs: list[Pair] = [(Record("a", 0, 0, b"first"), Event("u", "m", 1.0, offset=0))]
    pairs += [(Record(t, p, 1, value), Event("u", "m", 1.0, offset=1)) for (t, p), value in values.items()]
    loop.feed(pairs)
    assert loop.cutter.checks == {}
    loop.finish()
    assert loop.cutter.checks == {place: check_sum(value) for place, value in values.items()}
    other = Loop()
    other.cutter.load(loop.cutter.dump())
    assert other.cutter.checks == loop.cutter.checks
    loop.cutter.skip("a", 0, 2, 9, "retention")
    assert list(loop.cutter.checks) == [("b", 0)]
