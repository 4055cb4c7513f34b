"""F9: records are gone before they were read, topics are made anew, partitions are added.

    --on-gap fail   exit code 5, and the numbers in the line
    --on-gap skip   goes on; metric and journal say the same exact numbers

A topic that lost records cannot be replayed from the broker; the test remembers what was in it, and `learned`
equals the replay of the run's own journal over that.
"""

from collections import Counter
from pathlib import Path

import pytest
from daemons import Daemon
from hurt import SERVED, entries_of, last_line, metric, replayed, until
from kafka import TopicPartition
from stage import Stage, events

from streamrec.daemon.layout import folder_of
from streamrec.entries import CutEntry, GapSkip, Rewound
from streamrec.event import Event
from streamrec.eventlog.memory import encode_event
from streamrec.verbs.opening import kept_lane

pytestmark = pytest.mark.needs("eviction", "admin", "offsets")

SKIP = ["--on-gap", "skip"]
Log = dict[int, list[Event | None]]


def run_to_the_end(stage: Stage, name: str = "first") -> None:
    """A member that reads what there is."""
    member = stage.daemon(name, args=["--until-end"], kafka__group_instance_id="one")
    assert member.ended(60) == 0, member.said()[-3000:]


def drop_records(stage: Stage, firsts: dict[int, int]) -> None:
    """Let the log of each partition begin here, as retention would."""
    admin = stage.cluster.admin()
    admin.delete_records({TopicPartition(stage.topic, p): first for p, first in firsts.items()})
    admin.close()


def make_anew(stage: Stage) -> Log:
    """Delete the topic, and make one with its name; what was in the old one."""
    admin = stage.cluster.admin()
    admin.delete_topics([stage.topic])
    layout = {"num_partitions": stage.partitions, "replication_factor": 1, "configs": {"retention.ms": "-1"}}

    def made() -> bool:
        try:
            admin.create_topics({stage.topic: layout}, wait_for_metadata=True)
        except Exception as error:
            if "Exists" not in type(error).__name__:
                raise
            return False
        return True

    until(made, 20, lambda: "the old topic does not go away")
    admin.close()
    old, stage.log = stage.log, {p: [] for p in range(stage.partitions)}
    return old


def folder(stage: Stage) -> Path:
    """Of the one lane."""
    return folder_of(stage.state, 0, 1)


def equals_its_replay(stage: Stage, *logs: Log) -> bool:
    """Whether `learned` is what the journal makes of the logs that the topic had."""
    remembered = {p: [log[p] for log in logs if p in log] for p in logs[-1]}
    again = replayed(folder(stage), stage.topic, remembered)
    return again.learned() == kept_lane(folder(stage)).learned()


def gaps_of(stage: Stage) -> dict[int, int]:
    """Records that the journal says were skipped, by partition."""
    found = [entry for _, entry in entries_of(folder(stage)) if isinstance(entry, GapSkip)]
    return {entry.partition: entry.next - entry.first for entry in found}


def read_once(stage: Stage, skipped: dict[int, range]) -> bool:
    """Whether every offset up to the end was read once, but for those skipped."""
    reads = Counter[tuple[int, int]]()
    for _, entry in entries_of(folder(stage)):
        if isinstance(entry, CutEntry):
            reads.update((p, offset) for _, p, first, last in entry.reads for offset in range(first, last))
    ends = stage.ends()
    return reads == Counter(
        (p, offset) for p, end in ends.items() for offset in range(end) if offset not in skipped.get(p, ())
    )


def shows(stage: Stage, member: Daemon, skipped: dict[int, range]) -> bool:
    """Whether the metric has the numbers."""
    shown = {
        p: metric(member, "offsets_skipped_total", topic=stage.topic, partition=p, cause="retention")
        for p in skipped
    }
    return shown == {p: len(gone) for p, gone in skipped.items()}


def lose(stage: Stage) -> dict[int, range]:
    """Let retention take some of what was not read, of two partitions; which offsets."""
    at, ends = stage.kept(), stage.ends()
    gone = {p: range(at[p], at[p] + (ends[p] - at[p]) * share // 4) for p, share in ((1, 1), (3, 3))}
    assert all(gone.values())
    drop_records(stage, {p: offsets.stop for p, offsets in gone.items()})
    return gone


def refused_with_numbers(stage: Stage, member: Daemon, gone: dict[int, range]) -> None:
    """It ended with code 5, and says what is gone."""
    assert member.ended(60) == 5, member.said()[-3000:]
    for p, offsets in gone.items():
        told = f"{len(offsets)} records are gone before they were read: next is {offsets.start}, "
        assert f"{stage.topic}[{p}]: {told}the log begins at {offsets.stop}" in last_line(member)


def skipped_exactly(stage: Stage, member: Daemon, gone: dict[int, range]) -> None:
    """It went on, and metric and journal have the numbers."""
    stage.wait_until_applied(60)
    until(lambda: shows(stage, member, gone), 10, member.said)
    stage.end()
    assert gaps_of(stage) == {p: len(offsets) for p, offsets in gone.items()}
    assert read_once(stage, gone)
    assert equals_its_replay(stage, stage.log)


def test_f9_records_gone_while_it_was_down(stage: Stage) -> None:
    stage.settings |= SERVED
    stage.produce(events(600))
    run_to_the_end(stage)
    stage.produce(events(600, seed=1, start=1.8e9))
    gone = lose(stage)
    refused_with_numbers(stage, stage.daemon("fails", kafka__group_instance_id="one"), gone)
    skipped_exactly(stage, stage.daemon("skips", args=SKIP, kafka__group_instance_id="one"), gone)


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_f9_records_gone_while_it_ran(stage: Stage, policy: str) -> None:
    stage.settings |= SERVED
    stage.produce(events(600))
    member = stage.daemon("a", args=["--on-gap", policy])
    stage.wait_until_applied()
    member.freeze()
    stage.produce(events(600, seed=1, start=1.8e9))
    gone = lose(stage)
    member.thaw()
    (skipped_exactly if policy == "skip" else refused_with_numbers)(stage, member, gone)


@pytest.mark.parametrize("n_new", [200, 900])
def test_f9_topic_made_anew_while_it_was_down(stage: Stage, n_new: int) -> None:
    stage.settings |= SERVED
    stage.produce(events(600))
    run_to_the_end(stage)
    had = stage.kept()
    old = make_anew(stage)
    stage.produce(events(n_new, seed=1, start=1.8e9))
    fails = stage.daemon("fails", kafka__group_instance_id="one")
    assert fails.ended(60) == 5, fails.said()[-3000:]
    for p, at in had.items():
        assert f"{stage.topic}[{p}]: the topic was made anew since {at} records of it" in last_line(fails)
    goes_on_anew(stage, stage.daemon("skips", args=SKIP, kafka__group_instance_id="one"), had, old)


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_f9_topic_made_anew_while_it_ran(stage: Stage, policy: str) -> None:
    stage.settings |= SERVED
    stage.produce(events(600))
    member = stage.daemon("a", args=["--on-gap", policy])
    stage.wait_until_applied()
    had = stage.kept()
    old = make_anew(stage)
    stage.produce(events(900, seed=1, start=1.8e9))
    if policy == "skip":
        goes_on_anew(stage, member, had, old)
    else:
        assert member.ended(60) == 5, member.said()[-3000:]
        assert "was made anew since" in last_line(member)


def goes_on_anew(stage: Stage, member: Daemon, had: dict[int, int], old: Log) -> None:
    """It reads the new topic from its beginning; metric and journal say so."""
    stage.wait_until_applied(60)
    shown = metric(member, "offsets_skipped_total", topic=stage.topic, cause="recreated")
    assert shown == 0, "nobody knows how many, so that the series is there and counts none"
    stage.end()
    found = [entry for _, entry in entries_of(folder(stage)) if isinstance(entry, Rewound)]
    assert {entry.partition: (entry.next, entry.to, entry.cause) for entry in found} == {
        p: (at, 0, "recreated") for p, at in had.items()
    }
    assert equals_its_replay(stage, old, stage.log)
    n = sum(len(held) for log in (old, stage.log) for held in log.values())
    assert kept_lane(folder(stage)).n_events == n


def test_f9_partitions_added_while_it_ran(stage: Stage) -> None:
    stage.settings |= SERVED
    stage.produce(events(600))
    stage.daemon("a")
    stage.wait_until_applied()
    admin = stage.cluster.admin()
    admin.create_partitions({stage.topic: stage.partitions + 2})
    admin.close()
    fresh = [event._replace(user="new" + event.user) for event in events(300, seed=1, start=1.8e9)]
    for partition in (4, 5):
        mine = [event for event in fresh if len(event.user) % 2 == partition % 2]
        stage.log[partition] = [*mine]
        values = [encode_event(event) for event in mine]
        stage.cluster.send(stage.topic, values, partition=partition)
    stage.produce(events(300, seed=2, start=1.8e9))
    stage.wait_until_applied(60)
    stage.end()
    stage.check()
