"""Records counted and timed while a feed reads ahead of its cuts."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.bins import Counts
from streamrec.cut import Cut, Cutter
from streamrec.event import Event, Record, TieSet
from streamrec.eventlog.base import Reject
from streamrec.order import Order
from streamrec.tally import OUTCOMES
from streamrec.trail import KEPT, Trail, shared

RECORDS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("uvwx!_"), st.integers(0, 9)), max_size=80)
Pair = tuple[Record, Event | Reject]


def made(drawn: list[tuple[int, str, int]]) -> list[Pair]:
    """Records of three partitions; now and then an offset is missing."""
    offsets, pairs = [0, 0, 0], []
    for partition, what, time in drawn:
        offset = offsets[partition]
        offsets[partition] += 2 if time == 7 else 1
        decoded: Event | Reject = Event(
            what, "a", float(time), f"{what}{time}" if time % 3 else None, partition
        )
        if what in "!_":
            decoded = Reject("not_json" if what == "!" else "blank_line", "")
        pairs.append((Record("log", partition, offset, b"xyz", b"k", 1000 * offset), decoded))
    return pairs


def run(pairs: list[Pair], lateness_s: float, cut_events: int, ahead: int) -> tuple[Trail, Cutter]:
    """A feed that takes `ahead` records before it makes its cuts."""
    trail, cutter = Trail(), Cutter(Order(lateness_s), lambda user: float("nan"), cut_events)
    for at in range(0, len(pairs), ahead):
        taken = trail.reading(pairs[at : at + ahead])
        assert list(taken) == pairs[at : at + ahead]
        for cut in cutter.feed(taken):
            trail.cut(cut)
    for cut in cutter.finish():
        trail.cut(cut)
    return trail, cutter


@given(RECORDS, st.sampled_from([0.0, 2.0]), st.integers(1, 7), st.integers(1, 40))
def test_bins_add_up_to_those_of_the_lane_however_far_was_read_ahead(
    drawn: list[tuple[int, str, int]], lateness_s: float, cut_events: int, ahead: int
) -> None:
    pairs = made(drawn)
    trail, cutter = run(pairs, lateness_s, cut_events, ahead)
    assert Counts(*(sum(n for (_, o), n in trail.counts.items() if o == b) for b in OUTCOMES)) == (
        cutter.bins.counts
    )
    assert min(trail.counts.values(), default=0) >= 0
    assert trail.reasons == cutter.bins.reasons
    refused = Counter(r.partition for r, d in pairs if isinstance(d, Reject) and d.reason == "not_json")
    for partition in range(3):
        assert trail.counts[("log", partition), "dead_letter"] == refused[partition]
    assert trail.n_bytes["log"] == 4 * len(pairs)


@given(RECORDS, st.integers(1, 7), st.integers(1, 40))
def test_one_partition_is_counted_to_the_record(
    drawn: list[tuple[int, str, int]], cut_events: int, ahead: int
) -> None:
    trail, cutter = run(made([(0, what, time) for _, what, time in drawn]), 0.0, cut_events, ahead)
    assert {o: trail.counts[("log", 0), o] for o in OUTCOMES} == cutter.bins.counts._asdict()


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("uv_!")), max_size=60), st.integers(1, 9))
def test_where_nothing_was_dropped_every_partition_is_counted_to_the_record(
    drawn: list[tuple[int, str]], ahead: int
) -> None:
    pairs = made([(p, what if what in "!_" else f"{what}{p}", 0) for p, what in drawn])
    trail, cutter = run(pairs, 0.0, 4, ahead)
    assert cutter.bins.counts.late == cutter.bins.counts.duplicate == 0
    for partition in range(3):
        mine = [decoded for record, decoded in pairs if record.partition == partition]
        assert trail.counts[("log", partition), "ok"] == sum(isinstance(d, Event) for d in mine)


@given(st.integers(0, 1000), st.dictionaries(st.tuples(st.just("t"), st.integers(0, 9)), st.integers(0, 99)))
def test_shares_are_whole_and_add_up(total: int, weights: dict[tuple[str, int], int]) -> None:
    parts = shared(total, weights)
    assert sum(parts.values()) == (total if sum(weights.values()) else 0)
    for place, n in parts.items():
        assert abs(n - total * weights[place] / sum(weights.values())) < 1


def test_what_a_flush_releases_is_counted_although_nothing_was_read() -> None:
    trail = Trail()
    trail.reading(events(range(6)))
    trail.cut(cut_of(0, 6, [])._replace(counts=Counts(ok=2)))
    trail.cut(Cut(0, (), [], Counts(ok=3, late=1), [], flushed=True))
    assert (trail.counts[("log", 0), "ok"], trail.counts[("log", 0), "late"]) == (5, 1)


def cut_of(first: int, next_offset: int, sets: list[int]) -> Cut:
    tie_sets = [TieSet("u", 1.0, ("a",), 0, offset, topic="log") for offset in sets]
    return Cut(0, (("log", 0, first, next_offset),), tie_sets, Counts(ok=next_offset - first), [])


def events(offsets: range, stamp_ms: int | None = None) -> list[Pair]:
    return [
        (Record("log", 0, i, b"", None, 1000 * i if stamp_ms is None else stamp_ms), Event("u", "a", 1.0))
        for i in offsets
    ]


def test_a_tie_set_is_timed_from_its_first_record_also_when_it_closes_later() -> None:
    trail = Trail()
    trail.reading(events(range(10)))
    first, second = cut_of(0, 4, []), cut_of(4, 6, [1, 5])
    trail.cut(first)
    assert trail.delays(first, 100.0).tolist() == []
    assert trail.stamps == {("log", 0): 3.0}
    trail.cut(second)
    assert trail.delays(second, 100.0).tolist() == [99.0, 95.0]


@pytest.mark.parametrize(("stamp_ms", "delays"), [(-1, []), (200_000, [0.0]), (0, [100.0])])
def test_records_without_a_timestamp_are_not_timed_and_nothing_comes_before_it_was_sent(
    stamp_ms: int, delays: list[float]
) -> None:
    trail = Trail()
    trail.reading(events(range(1), stamp_ms))
    cut = cut_of(0, 1, [0])
    trail.cut(cut)
    assert trail.delays(cut, 100.0).tolist() == delays
    assert trail.stamps == ({} if stamp_ms < 0 else {("log", 0): stamp_ms / 1000})


def test_memory_is_bounded_and_what_is_forgotten_is_not_timed() -> None:
    trail, n = Trail(), 5 * KEPT
    for first in range(0, n, 1000):
        last = min(first + 1000, n)
        trail.reading(events(range(first, last)))
        trail.cut(cut_of(first, last, []))
    (read,) = trail._reads.values()
    assert len(read.offsets) <= 2 * KEPT + 1000
    assert trail.delays(cut_of(n, n, [0, n - 1]), 1e6).tolist() == [1e6 - (n - 1)]
    assert trail.counts[("log", 0), "ok"] == n
