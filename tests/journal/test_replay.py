"""Replaying a journal makes the cuts of the run that wrote it, from any checkpoint of that run."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.cut import Cut, Cutter
from streamrec.entries import CutEntry, ForgetUser, GapSkip, Tick
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.journal import Journal, Position, accepted_lengths, read
from streamrec.order import Order

Pair = tuple[Record, Event | Reject]
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["read"] * 12 + ["linger", "tick", "gap", "forget", "checkpoint", "crash"]),
        st.integers(0, 1),
        st.sampled_from("uvw"),
        st.integers(0, 20),
    ),
    max_size=60,
)


class Lane:
    """The least loop that can be checkpointed: order, cuts, journal and each user's last time."""

    def __init__(self, lateness_s: float) -> None:
        self.last: dict[str, float] = {}
        self.cutter = Cutter(Order(lateness_s), lambda user: self.last.get(user, math.nan), cut_events=3)
        self.cuts: list[Cut] = []

    def apply(self, cut: Cut) -> None:
        self.cuts.append(cut)
        self.last.update((tie_set.user, tie_set.time) for tie_set in cut.sets)

    def forget(self, user: str) -> None:
        self.cutter.forget(user)
        self.last.pop(user, None)

    def redo(self, directory: Path, accepted: dict[int, int], since: Position, log: list[Pair]) -> None:
        for _, entry in read(directory, accepted, since):
            match entry:
                case CutEntry(reads, n_sets, serial, flushed):
                    assert serial == self.cutter.serial
                    self.apply(self.cutter.replay(reads, n_sets, flushed, records(entry, log)))
                case Tick(topic, partition, time):
                    self.cutter.tick(topic, partition, time)
                case GapSkip(topic, partition, first, next_, cause):
                    self.cutter.skip(topic, partition, first, next_, cause)
                case ForgetUser(user):
                    self.forget(user)


def records(entry: CutEntry, log: list[Pair]) -> list[Pair]:
    return [
        pair
        for _, partition, first, next_ in entry.reads
        for pair in log
        if pair[0].partition == partition and first <= pair[0].offset < next_
    ]


@given(deeds=DEEDS, lateness_s=st.sampled_from([0.0, 4.0]))
def test_a_lane_restored_from_any_checkpoint_and_its_journal_is_the_lane_that_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[str, int, str, int]], lateness_s: float
) -> None:
    directory = tmp_path_factory.mktemp("lane")
    lane, offsets = Lane(lateness_s), [0, 0]
    log: list[Pair] = []
    accepted: dict[int, int] = {}
    journal = Journal.open(directory, 1)
    checkpoints = [(journal.position, lane.cutter.dump(), dict(lane.last), 0)]

    def done(cut: Cut) -> None:
        journal.append(CutEntry.of(cut))
        lane.apply(cut)

    for deed, partition, user, number in deeds:
        if deed == "read":
            record = Record("log", partition, offsets[partition], b"")
            event = Event(user, f"m{number}", float(number), None, partition, record.offset)
            log.append((record, event if number else Reject("not_json", "")))
            offsets[partition] += 1
            for cut in lane.cutter.feed(log[-1:]):
                done(cut)
            continue
        if lane.cutter.has_reads:
            done(lane.cutter.close())
        if deed == "tick":
            journal.append(Tick("log", partition, float(number)))
            lane.cutter.tick("log", partition, float(number))
        elif deed == "gap":
            first, offsets[partition] = offsets[partition], offsets[partition] + number
            journal.append(GapSkip("log", partition, first, offsets[partition], "retention"))
            lane.cutter.skip("log", partition, first, offsets[partition], "retention")
        elif deed == "forget":
            journal.append(ForgetUser(user))
            lane.forget(user)
        elif deed == "checkpoint":
            checkpoints.append((journal.position, lane.cutter.dump(), dict(lane.last), len(lane.cuts)))
        elif deed == "crash":
            journal.close()
            accepted = accepted_lengths(directory, accepted, journal.epoch + 1)
            journal = Journal.open(directory, journal.epoch + 1, accepted)
    for cut in lane.cutter.finish():
        done(cut)
    journal.close()
    for position, state, last, n_cuts in checkpoints:
        restored = Lane(lateness_s)
        restored.cutter.load(state)
        restored.last.update(last)
        restored.redo(directory, accepted, position, log)
        assert restored.cuts == lane.cuts[n_cuts:]
        assert restored.cutter.dump() == lane.cutter.dump()
        assert restored.last == lane.last
