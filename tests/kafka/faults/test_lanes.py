"""Lanes in a group: members that keep their names, standbys, numbers of partitions that do not fit (F9)."""

import time
from typing import Any

import pytest
from brokers import wait_until
from owners import lanes_of, wait_for_owner, wait_until_stable
from stage import Stage, events
from test_zombies import free_port, get

LANES = {"kafka.lanes": 2}


def wait_for_lanes(stage: Stage, *members: Any) -> None:
    """Both lanes are somebody's, and nothing moves any more."""
    wait_until_stable(stage.cluster, stage.topic + "g", len(members))
    for lane in range(2):
        wait_for_owner(lane, members)


def test_a_static_member_that_was_killed_gets_its_lanes_back_and_nobody_else_notices(stage: Stage) -> None:
    stage.settings |= LANES | {"kafka.session_timeout_s": 20.0}
    stage.produce(events(800))
    a = stage.daemon("a", kafka__group_instance_id="a")
    b = stage.daemon("b", kafka__group_instance_id="b")
    wait_for_lanes(stage, a, b)
    wait_until(lambda: len(lanes_of(a)) == len(lanes_of(b)) == 1, 20, "a lane each")
    moved, had = b.said().count("partitions "), lanes_of(a)
    a.kill()
    stage.produce(events(200, seed=1, start=1.9e9))
    again = stage.daemon("a2", kafka__group_instance_id="a")
    stage.wait_until_applied(lanes=2)
    assert lanes_of(again) == had
    assert b.said().count("partitions ") == moved
    stage.end()
    stage.check(lanes=2)


def test_a_hot_standby_without_a_lane_is_ready(stage: Stage) -> None:
    port = free_port()
    stage.produce(events(300))
    first = stage.daemon("a")
    wait_for_owner(0, [first])
    standby = stage.daemon("b", http__port=port)
    wait_until(lambda: get(port, "/readyz")[0] == 200, 20, "the standby is ready")
    assert "lane opened" not in standby.said()
    stage.wait_until_applied()
    stage.end()
    stage.check()


def test_more_lanes_than_partitions_are_refused(stage: Stage) -> None:
    member = stage.daemon("a", kafka__lanes=5)
    assert member.ended(20) == 2
    assert "kafka.lanes: 5 are more than" in member.said()


@pytest.mark.needs("admin")
def test_f9_partitions_that_were_added_are_refused_by_several_lanes(stage: Stage) -> None:
    stage.settings |= LANES
    stage.produce(events(400))
    member = stage.daemon("a")
    stage.wait_until_applied(lanes=2)
    add_partitions(stage, 6)
    assert member.ended(60) == 4, member.said()[-3000:]
    assert "had 4 partitions, now 6" in member.said() and "repartition" in member.said()
    again = stage.daemon("b")
    assert again.ended(20) == 4, again.said()[-3000:]


@pytest.mark.needs("admin")
@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_f9_partitions_that_were_added_are_taken_in_by_one_lane(stages: Any, rebalance: str) -> None:
    stage: Stage = stages(8)
    stage.settings["kafka.rebalance"] = rebalance
    stage.produce(events(400))
    member = stage.daemon("a")
    standby = stage.daemon("b")
    stage.wait_until_applied()
    add_partitions(stage, 12)
    stage.produce(events(800, seed=1, start=1.9e9))
    began = time.monotonic()
    stage.wait_until_applied(60)
    print(f"partitions that were added are read {time.monotonic() - began:.1f} s later")
    assert member.code is None and standby.code is None
    stage.end()
    stage.check()


def add_partitions(stage: Stage, total: int) -> None:
    """Have the topic grow; users are spread anew."""
    admin = stage.cluster.admin()
    admin.create_partitions({stage.topic: total})
    admin.close()
    for partition in range(stage.partitions, total):
        stage.log[partition] = []
    stage.partitions = total
    wait_until(lambda: len(stage.ends()) == total, 20, "the new partitions")
