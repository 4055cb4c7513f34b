"""F4: members come and go without a rest, and every lane goes on where the one before it stood."""

import itertools
import random
import time
from typing import Any

import pytest
from brokers import wait_until
from daemons import Daemon
from owners import assignments, longest_gaps, owner_of, wait_for_owner, wait_until_stable
from stage import Stage, events

PARTITIONS = 8
SIZES = (1, 2, 3, 2)
"""Members, again and again."""

GAP_S = 15.0
"""Most time that a partition may be nobody's."""

FIXED = {"cut.mode": "fixed", "cut.cut_events": 64}


class Storm:
    """Members that come and go.

    Parameters
    ----------
    stage : of eight partitions
    lanes : their number
    killing : whether some members are killed instead of stopped
    """

    def __init__(self, stage: Stage, lanes: int, killing: bool = False) -> None:
        self.stage, self.lanes, self.killing = stage, lanes, killing
        stage.settings |= {"kafka.lanes": lanes, "log.repeats": 10_000}
        self.draw = random.Random(lanes)
        self.alive: list[Daemon] = []
        self.died: dict[int, float] = {}
        self.n_changes = 0
        self.clock = 1.7e9

    def change(self, members: int) -> None:
        """Bring the group to so many members, one change; wait until it has settled."""
        self.n_changes += 1
        self.more(120)
        if members > len(self.alive):
            self.join()
        else:
            self.go(self.alive.pop(self.draw.randrange(len(self.alive))))
        wait_until_stable(self.stage.cluster, self.stage.topic + "g", members)

    def join(self) -> Daemon:
        """Another member."""
        self.alive.append(self.stage.daemon(f"m{len(self.stage.daemons)}"))
        return self.alive[-1]

    def go(self, member: Daemon) -> None:
        """A member goes, in order or not."""
        if self.killing and self.draw.random() < 0.3:
            self.died[member.pid] = time.time()
            member.kill()
            return
        member.terminate()
        assert member.ended(15) == 0, member.said()[-3000:]

    def more(self, n: int) -> None:
        """Events that come meanwhile."""
        self.stage.produce(events(n, seed=self.n_changes, start=self.clock))
        self.clock += 1e6

    def check(self) -> None:
        """Nobody was without an owner for long; lanes moved whole; and all that `Stage.check` says."""
        gaps = longest_gaps(self.stage.daemons, self.died)
        print(f"lanes {self.lanes}: {self.n_changes} changes, longest gaps {gaps}")
        assert sorted(gaps) == list(range(self.lanes))
        assert max(gaps.values()) <= GAP_S, gaps
        for given in itertools.chain.from_iterable(map(assignments, self.stage.daemons)):
            lanes = {partition % self.lanes for partition in given}
            assert given == {p for p in range(PARTITIONS) if p % self.lanes in lanes}
        self.stage.check(lanes=self.lanes)


def rage(storm: Storm, changes: int, pause_s: float) -> None:
    """The storm; in the end one member reads what is left."""
    storm.more(1500)
    storm.join()
    wait_for_owner(0, storm.alive)
    for _, members in zip(range(changes), itertools.cycle([*SIZES[1:], SIZES[0]]), strict=False):
        storm.change(members)
        time.sleep(storm.draw.random() * pause_s)


@pytest.mark.parametrize(("lanes", "rebalance"), [(1, "cooperative"), (2, "eager"), (4, "cooperative")])
def test_f4_members_come_and_go(stages: Any, lanes: int, rebalance: str) -> None:
    stage = stages(PARTITIONS)
    stage.settings["kafka.rebalance"] = rebalance
    storm = Storm(stage, lanes)
    rage(storm, 8, 0.5)
    stage.wait_until_applied(lanes=lanes)
    stage.end()
    storm.check()


@pytest.mark.torture
@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_f4_members_come_and_go_and_die_for_long(stages: Any, lanes: int, rebalance: str) -> None:
    stage = stages(PARTITIONS)
    stage.settings["kafka.rebalance"] = rebalance
    storm = Storm(stage, lanes, killing=True)
    rage(storm, 32, 5.0)
    stage.wait_until_applied(lanes=lanes)
    stage.end()
    storm.check()


@pytest.mark.parametrize(("lanes", "changes"), [(2, 8), pytest.param(1, 32, marks=pytest.mark.torture)])
def test_f4_rounds_are_those_of_a_run_that_nobody_disturbed(stages: Any, lanes: int, changes: int) -> None:
    stage = stages(PARTITIONS)
    stage.settings |= FIXED
    storm = Storm(stage, lanes)
    rage(storm, changes, 0.5)
    stage.end()
    last = stage.daemon("last", args=["--until-end"])
    assert last.ended(60) == 0, last.said()[-3000:]
    storm.check()
    assert stage.learned(lanes=lanes) == stage.undisturbed(lanes)


@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_f4_a_member_joins_while_lanes_are_being_restored(stages: Any, rebalance: str) -> None:
    stage = stages(PARTITIONS)
    stage.settings |= {"kafka.lanes": 4, "kafka.rebalance": rebalance, "log.repeats": 10_000}
    stage.produce(events(2000))
    slow = {"STREAMREC_TEST_SLOW": "restore:3"}
    members = [stage.daemon("m0", env=slow)]
    for name in ("m1", "m2"):
        wait_until(lambda: "partitions assigned" in members[-1].said(), 20, "an assignment")
        members.append(stage.daemon(name, env=slow))
    for lane in range(4):
        wait_for_owner(lane, members)
    stage.wait_until_applied(lanes=4)
    stage.end()
    stage.check(lanes=4)
    assert max(longest_gaps(members).values()) <= GAP_S


def test_f4_a_storm_during_restores_ends_nobody(stages: Any) -> None:
    stage = stages(PARTITIONS)
    stage.settings |= {"kafka.lanes": 2, "log.repeats": 10_000}
    stage.produce(events(2000))
    slow = {"STREAMREC_TEST_SLOW": "restore:1.5"}
    members = [stage.daemon("m0", env=slow)]
    for change in range(6):
        time.sleep(0.7)
        if change % 2:
            wait_until(lambda: "loop is" in members[-1].said(), 20, "a loop")  # before that it is not warm
            members[-1].terminate()
            assert members[-1].ended(15) == 0, members[-1].said()[-3000:]
        else:
            members.append(stage.daemon(f"m{len(members)}", env=slow))
    stage.wait_until_applied(lanes=2)
    assert all(m.code in (None, 0) for m in members), [(m.code, m.said()[-800:]) for m in members]
    assert owner_of(0, members) is not None
    stage.end()
    stage.check(lanes=2)
