"""What is planted is what is counted: faults of a simulated stream against the program's own order."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.errors import ConfigError, StateError
from streamrec.event import Event, Record
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.poison import KINDS, bad_kinds
from streamrec.eventlog.reasons import bin_of
from streamrec.order import Order
from streamrec.produce.faults import Faults, Stream
from streamrec.produce.shipping import Position
from streamrec.produce.streamfeed import StreamFeed, file_lines
from streamrec.simulate import Poisson, Simulation, simulate

ALL = Faults(poison=0.1, duplicates=0.05, late=0.05, lateness_s=3000.0, shuffle=10)


def simulation(events: int = 600, users: int = 12, seed: int = 3) -> Simulation:
    return simulate(Poisson(rate=1 / 3600, marks=5), events, users, seed, entry_s=7200.0)


def tied(events: int, users: int, step_s: float) -> Simulation:
    """A stream whose times lie on a grid, so that many are equal."""
    stream = simulation(events, users)
    grid = np.floor(stream.time / step_s) * step_s
    return Simulation(stream.user, stream.mark, grid, *[stream.log_density] * 3, 0.0)


def counted(stream: Stream, lateness_s: float, partitions: int) -> dict[str, int]:
    """Bins that the program's order gives to the lines as messages of a topic."""
    order, codec, counts, last = Order(lateness_s=lateness_s), JsonCodec(FieldNames()), Counter(), {}
    feed = StreamFeed(stream, "clicks", partitions)
    stamp = 0
    while lines := feed.lines(97, stamp):
        stamp = lines[-1].stamp_ms
        for message in (line.message for line in lines):
            read = codec.decode(Record("clicks", message.partition, 0, message.value))
            if not isinstance(read, Event):
                counts[bin_of(read.reason)] += 1
                continue
            verdict = order.push(read, last.get(read.user, np.nan), "clicks", message.timestamp_ms / 1000)
            counts[verdict] += verdict in ("late", "duplicate")
            last.update((s.user, s.time) for s in order.take())
    order.flush()
    assert order.n_late == counts["late"]
    counts["ok"] = order.n_ok
    return {name: counts[name] for name in ("ok", "late", "duplicate", "dead_letter", "skipped")}


faults = st.builds(
    Faults,
    poison=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    duplicates=st.sampled_from([0.0, 0.03, 0.5, 1.0]),
    late=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    lateness_s=st.sampled_from([0.0, 0.5, 600.0, 20_000.0]),
    shuffle=st.sampled_from([0, 2, 10, 200]),
)


@given(faults=faults, seed=st.integers(0, 1000), partitions=st.integers(1, 5), grid=st.booleans())
@settings(max_examples=80, deadline=None)
def test_bins_are_exactly_those_planted(faults: Faults, seed: int, partitions: int, grid: bool) -> None:
    log = tied(200, 7, 1800.0) if grid else simulation(200, 7)
    stream = Stream(log, faults, seed)
    assert counted(stream, faults.lateness_s, partitions) == stream.bins()
    assert counted(stream, 0.0, partitions) == stream.bins_by_arrival()


def test_planted_numbers_are_the_shares_asked_for() -> None:
    stream = Stream(simulation(), ALL, seed=1)
    summary = stream.summary()
    assert summary["planted"] == {"ok": 570, "late": 30, "duplicate": 30, "poison": 60}
    assert summary["lines"] == len(stream) == 690
    assert sum(summary["poison"].values()) == sum(summary["reasons"].values()) == 60
    assert sum(summary["bins"].values()) == sum(summary["bins_lateness_0"].values()) == 690
    assert summary["bins"]["late"] == 30
    msgspec.json.encode(summary)


def test_late_events_that_no_event_of_their_user_can_pass_are_not_planted() -> None:
    stream = Stream(simulation(), Faults(late=1.0, lateness_s=50_000.0), seed=1)
    assert 0 < stream.bins()["late"] < 600
    assert stream.bins()["ok"] + stream.bins()["late"] == 600


def test_every_event_is_there_once_and_copies_have_its_id_and_bytes() -> None:
    stream = Stream(simulation(), ALL, seed=1)
    first = [line for line in range(len(stream)) if stream.label(line) in ("ok", "late")]
    events = [stream.event(line) for line in first]
    assert len({event.id for event in events if event}) == 600
    by_id = {event.id: stream.value(line) for line, event in zip(first, events, strict=True) if event}
    copies = [line for line in range(len(stream)) if stream.label(line) == "duplicate"]
    for line in copies:
        event = stream.event(line)
        assert event is not None and stream.value(line) == by_id[event.id]
    assert len(copies) == 30


@pytest.mark.parametrize("lateness_s", [0.0, 500.0, 1e6])
def test_a_shuffle_displaces_by_less_than_its_window_and_displaces_something(lateness_s: float) -> None:
    stream = Stream(simulation(), Faults(shuffle=10, lateness_s=lateness_s), seed=5)
    moved = np.abs(stream.source - np.arange(600))
    assert 0 < moved.max() < 10


def test_without_faults_the_lines_are_the_events_in_order() -> None:
    stream = Stream(simulation(), Faults(), seed=5)
    assert not Faults(lateness_s=3.0).any
    assert stream.source.tolist() == list(range(600))
    assert stream.bins() == stream.bins_by_arrival()


def test_a_seed_fixes_every_byte_and_another_seed_changes_them() -> None:
    one, same, other = (b"".join(file_lines(Stream(simulation(), ALL, seed, True))) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_all_kinds_of_poison_are_planted_in_turns_and_never_first() -> None:
    stream = Stream(simulation(), Faults(poison=0.5), seed=2)
    kinds = {stream.label(line) for line in range(len(stream))} - {"ok"}
    assert kinds == set(bad_kinds(32_768, False))
    assert stream.label(0) == "ok"
    counts = Counter(stream.summary()["poison"].values())
    assert max(counts) - min(counts) <= 1


def test_large_poison_is_planted_once_each_if_wished() -> None:
    planted = Stream(simulation(), Faults(poison=0.1, large=True), seed=2).summary()["poison"]
    large = {name for name in planted if KINDS[name].size > 32_768}
    assert large == {"value of 10 MiB", "user of 1 MB"}
    assert [planted[name] for name in large] == [1, 1]


def test_a_file_has_one_line_for_each_and_gives_the_same_bins() -> None:
    stream = Stream(simulation(), ALL, seed=1, in_lines=True)
    lines = b"".join(file_lines(stream)).split(b"\n")[:-1]
    assert len(lines) == len(stream)
    assert "tombstone" not in stream.summary()["poison"]
    codec = JsonCodec(FieldNames())
    reads = [codec.decode(Record("f", 0, i, line)) for i, line in enumerate(lines)]
    reasons = Counter(read.reason for read in reads if not isinstance(read, Event))
    assert dict(sorted(reasons.items())) == stream.summary()["reasons"]


def test_messages_say_what_they_are_and_keep_users_together() -> None:
    stream = Stream(simulation(), ALL, seed=1)
    lines = StreamFeed(stream, "clicks", 4).lines(10_000, 0)
    labels = Counter(line.message.headers[0][1].decode() for line in lines if line.message)
    assert {name: labels[name] for name in ("ok", "late", "duplicate")} == {
        name: n for name, n in stream.summary()["planted"].items() if name != "poison"
    }
    places: dict[bytes, set[int]] = {}
    for line in lines:
        if line.message and line.time is not None:
            places.setdefault(line.message.key or b"", set()).add(line.message.partition or 0)
    assert {len(place) for place in places.values()} == {1}
    assert all(line.message is None or line.message.key or line.message.value is not None for line in lines)


def test_a_stream_is_gone_on_with_where_it_was_left() -> None:
    stream = Stream(simulation(), ALL, seed=1)
    whole, position = StreamFeed(stream, "clicks", 4).lines(10_000, 0), Position()
    for line in whole[:200]:
        position = position.after(line.raw, line.stamp_ms)
    feed = StreamFeed(stream, "clicks", 4)
    assert feed.pass_over(200) == position.check
    assert feed.lines(10_000, position.stamp_ms) == whole[200:]
    assert feed.at_end()
    with pytest.raises(StateError, match="690 lines, but 691"):
        StreamFeed(stream, "clicks", 4).pass_over(691)


@pytest.mark.parametrize("wrong", [{"poison": 1.5}, {"late": -0.1}, {"lateness_s": -1.0}, {"shuffle": -1}])
def test_faults_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="wanted"):
        Faults(**wrong)
