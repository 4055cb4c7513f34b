"""The same faults with the other client library, of which lanes are partitions: a few of each kind."""

import random
import time
from typing import Any

import pytest
from brokers import wait_until
from owners import freeze_between_checkpoints, wait_for_owner, wait_until_stable
from stage import Stage, events

pytest.importorskip("confluent_kafka", reason="the optional client confluent-kafka is not installed")

LANES = 4
SETTINGS: dict[str, Any] = {"kafka.client": "confluent", "kafka.lanes": LANES, "log.repeats": 1000}


@pytest.fixture
def confluent(stage: Stage) -> Stage:
    """A lane for each of four partitions."""
    stage.settings |= SETTINGS
    return stage


def test_f1_killed_at_random_moments_with_confluent(confluent: Stage) -> None:
    confluent.produce(events(3000))
    draw = random.Random(1)
    for kill in range(3):
        member = confluent.daemon(f"a{kill}", kafka__group_instance_id="one")
        confluent.wait_until_kept(400 * (kill + 1), lanes=LANES)
        time.sleep(draw.random() * 0.3)
        member.kill()
    last = confluent.daemon("last", args=["--until-end"], kafka__group_instance_id="one")
    assert last.ended(60) == 0, last.said()[-3000:]
    confluent.check(lanes=LANES)


def test_f3_sigterm_with_confluent(confluent: Stage) -> None:
    confluent.produce(events(1500))
    first = confluent.daemon("a")
    confluent.wait_until_kept(300, lanes=LANES)
    first.terminate()
    assert first.ended(10) == 0, first.said()[-3000:]
    confluent.daemon("b")
    confluent.produce(events(200, seed=1, start=1.8e9))
    confluent.wait_until_applied(lanes=LANES)
    confluent.end()
    confluent.check(lanes=LANES)
    assert max(confluent.forecasts_seen().values()) == 1  # nothing was done twice


@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_f4_members_come_and_go_with_confluent(confluent: Stage, rebalance: str) -> None:
    confluent.settings["kafka.rebalance"] = rebalance
    confluent.produce(events(800))
    group = confluent.topic + "g"
    alive = [confluent.daemon("m0")]
    wait_until_stable(confluent.cluster, group, 1)
    for change, size in enumerate((2, 3, 2, 1)):
        confluent.produce(events(100, seed=change + 1, start=1.75e9 + change * 1e6))
        if size > len(alive):
            alive.append(confluent.daemon(f"m{change + 1}"))
        else:
            gone = alive.pop(0)
            gone.terminate()
            assert gone.ended(15) == 0, gone.said()[-3000:]
        wait_until_stable(confluent.cluster, group, size)
    for lane in range(LANES):
        wait_for_owner(lane, alive)
    confluent.wait_until_applied(lanes=LANES)
    confluent.end()
    confluent.check(lanes=LANES)


def test_f5_a_zombie_with_confluent(confluent: Stage) -> None:
    confluent.settings |= {"kafka.session_timeout_s": 3.0, "kafka.heartbeat_s": 0.5}
    confluent.produce(events(300))
    zombie = confluent.daemon("a", env={"STREAMREC_TEST_SLOW": "before_cut:0.3"})
    wait_for_owner(LANES - 1, [zombie])
    confluent.produce(events(400, seed=1, start=1.75e9))
    time.sleep(0.4)
    freeze_between_checkpoints(zombie, confluent.state)
    heir = confluent.daemon("b")
    for lane in range(LANES):
        wait_for_owner(lane, [heir])
    time.sleep(3.0)
    zombie.thaw()
    confluent.wait_until_applied(lanes=LANES)
    wait_until_stable(confluent.cluster, confluent.topic + "g", 2)
    confluent.end()
    confluent.check(lanes=LANES)


def test_lanes_that_are_not_partitions_are_refused_with_confluent(confluent: Stage) -> None:
    member = confluent.daemon("a", kafka__lanes=2)
    assert member.ended(20) == 2
    assert "with the confluent client lanes are partitions" in member.said()


def test_members_that_split_a_lane_say_so_and_go_on_when_it_is_whole(confluent: Stage) -> None:
    confluent.settings |= {"kafka.lanes": 1, "kafka.session_timeout_s": 3.0, "kafka.heartbeat_s": 0.5}
    confluent.produce(events(600))
    first = confluent.daemon("a")
    wait_for_owner(0, [first])
    second = confluent.daemon("b")
    for member in (first, second):
        wait_until(lambda m=member: "of its 4 partitions" in m.said(), 30, "it says so")
    second.terminate()
    assert second.ended(15) == 0
    confluent.produce(events(200, seed=1, start=1.9e9))
    confluent.wait_until_applied()
    confluent.end()
    confluent.check()
