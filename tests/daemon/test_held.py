"""One lane at work: a disk that refuses stops it where it stands, and nothing is told before it is kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamrec import failpoints
from streamrec.daemon.feeds import LiveFeed
from streamrec.daemon.held import Held
from streamrec.daemon.observer import Unobserved
from streamrec.entries import Revoked
from streamrec.errors import DiskError
from streamrec.event import Event, Record
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySink, encode_event
from streamrec.journal import read
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.settings import load_settings

PLACE = ("clicks", 0)


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    failpoints.arm("")


class Bench:
    """A lane in a folder, held, with a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        names = {"models.enabled": ["gamma_poisson", "context_1"], "cut.linger_s": 0.0}
        self.settings = load_settings(None, {**names, "checkpoint.every_s": 5.0}, {})
        self.now, self.sink, self.offset = 0.0, MemorySink(), 0
        lane = Lane(self.settings, Outputs(self.sink), clock_of=own_clock)
        lane.open(folder)
        feed = LiveFeed(lane.cutter, [PLACE], self.settings.cut, self.clock)
        decode = JsonCodec(FieldNames()).decode_many
        self.held = Held(0, lane, [PLACE], feed, decode, self.clock, 5.0, Unobserved())

    def clock(self) -> float:
        return self.now

    def take(self, n: int) -> None:
        events = [Event(f"u{i % 3}", "m", 1000.0 + i) for i in range(self.offset, self.offset + n)]
        self.held.take([Record(*PLACE, self.offset + i, encode_event(e)) for i, e in enumerate(events)])
        self.offset += n


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_journal_that_cannot_be_written_stops_the_lane_and_the_step_is_made_again(bench: Bench) -> None:
    bench.take(20)
    failpoints.arm("before_journal:1:raise")
    bench.held.work()
    assert isinstance(bench.held.stalled, DiskError) and bench.held.lane.engine.arena.n_users == 0
    assert not bench.sink.lines and bench.held.lane.sound
    bench.held.work()
    assert bench.held.stalled is None and bench.held.lane.engine.arena.n_users == 3
    assert bench.held.lane.positions == {PLACE: 20}


def test_a_lane_that_stands_still_is_not_kept(bench: Bench) -> None:
    bench.take(20)
    failpoints.arm("before_journal:1:raise")
    bench.held.work()
    failpoints.arm("before_journal:1:raise")
    assert not bench.held.finish()


def test_the_group_hears_of_nothing_that_is_not_on_the_disk(bench: Bench) -> None:
    bench.take(20)
    bench.held.work()
    assert bench.held.commits() == {}
    assert bench.held.keep() and bench.held.commits() == {PLACE: 20}
    bench.held.committed = bench.held.commits()
    assert bench.held.commits() == {}


def test_time_makes_a_checkpoint_only_where_something_is_new(bench: Bench) -> None:
    bench.now = 100.0
    bench.held.work()
    assert bench.held.commits() == {}
    bench.take(1)
    bench.held.work()
    assert bench.held.commits() == {PLACE: 1}


def test_a_checkpoint_falls_between_two_cuts(bench: Bench) -> None:
    bench.held.feed = LiveFeed(
        bench.held.lane.cutter, [PLACE], bench.settings.cut.model_copy(update={"linger_s": 60.0}), bench.clock
    )
    bench.now = 50.0
    bench.take(3)
    bench.held.work()
    assert bench.held.lane.cutter.has_reads and bench.held.commits() == {}


def test_giving_up_finishes_the_cut_and_says_so_in_the_journal(bench: Bench, tmp_path: Path) -> None:
    bench.held.feed.looked({PLACE: 0})
    bench.take(5)
    bench.held.work()
    assert bench.held.finish() and bench.held.lane.close(5.0)
    *_, last = [entry for _, entry in read(tmp_path, {})]
    assert last == Revoked((("clicks", 0, 5),)) and bench.held.commits() == {PLACE: 5}


def test_what_is_learned_goes_past_markers_once_nothing_waits(bench: Bench) -> None:
    bench.take(5)
    assert bench.held.applied({PLACE: 6}) == {}
    bench.held.work()
    assert bench.held.applied({PLACE: 6}) == {PLACE: 6}
    bench.take(1)
    assert bench.held.applied({PLACE: 9}) == {PLACE: 5}
