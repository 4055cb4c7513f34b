"""F5: a member that everybody believes dead goes on to work, and harms nothing; who takes over, how soon."""

import json
import re
import socket
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from brokers import wait_until
from daemons import Daemon
from owners import freeze_between_checkpoints, lock, wait_for_owner, wait_until_stable
from stage import Stage, events

SESSION_S = 3.0
QUICK = {"kafka.session_timeout_s": SESSION_S, "kafka.heartbeat_s": 0.5, "log.repeats": 1000}
CALM_S = 0.3
"""So long every cut of a zombie-to-be waits before it is begun: it is frozen in there, not in a poll."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def get(port: int, path: str) -> tuple[int, str]:
    """Status and text of what a member serves."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def metric(port: int, name: str) -> float:
    """Sum of a metric over its labels; 0 if it is not served yet."""
    found = re.findall(rf"^streamrec_{name}(?:{{.*}})? (\S+)$", get(port, "/metrics")[1], re.MULTILINE)
    return sum(map(float, found))


def frozen_in_a_cut(stage: Stage, zombie: Daemon, heir: Daemon, round_: int) -> None:
    """The zombie stands still for two sessions, while it has cuts to make; the heir takes its lane over."""
    before = heir.said().count("lane opened")
    stage.produce(events(600, seed=100 + round_, start=1.71e9 + round_ * 1e7))
    time.sleep(1.5 * CALM_S)
    freeze_between_checkpoints(zombie, stage.state)
    began = time.monotonic()
    wait_until(lambda: heir.said().count("lane opened") > before, 30, "a takeover")
    print(f"taken over {time.monotonic() - began:.1f} s after the freeze (session {SESSION_S:g} s)")
    stage.produce(events(200, seed=200 + round_, start=1.715e9 + round_ * 1e7))
    time.sleep(max(0.0, began + 2 * SESSION_S - time.monotonic()))


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.torture)])
def test_f5_a_zombie_is_refused_stands_by_and_may_take_over_again(stage: Stage, rounds: int) -> None:
    stage.settings |= QUICK
    stage.produce(events(300))
    port = free_port()
    zombie = stage.daemon("a", env={"STREAMREC_TEST_SLOW": f"before_cut:{CALM_S}"}, http__port=port)
    wait_for_owner(0, [zombie])
    for round_ in range(rounds):
        heir = stage.daemon(f"b{round_}")
        wait_until_stable(stage.cluster, stage.topic + "g", 2)
        frozen_in_a_cut(stage, zombie, heir, round_)
        zombie.thaw()
        wait_until(lambda n=round_: zombie.said().count("lane closed") > n, 20, "the zombie lets go")
        assert zombie.said().count("FencedError") > round_, zombie.said()[-3000:]
        wait_until(lambda n=round_: metric(port, "fenced_writes_total") > n, 10, "the refusal is counted")
        wait_until_stable(stage.cluster, stage.topic + "g", 2)  # it stands by
        wait_until(lambda: get(port, "/readyz")[0] == 200, 10, "it is ready, with no lane")
        stage.wait_until_applied(60)
        heir.terminate()
        assert heir.ended(15) == 0, heir.said()[-3000:]
        wait_for_owner(0, [zombie])
    stage.produce(events(200, seed=1, start=1.9e9))
    stage.wait_until_applied(60)
    stage.end()
    stage.check()


@pytest.mark.parametrize("where", ["before_cut", "in_cut"])
def test_f5_work_that_takes_longer_than_the_poll_interval(stage: Stage, where: str) -> None:
    stage.settings |= QUICK
    stage.produce(events(300))
    slow = {"STREAMREC_TEST_SLOW": f"{where}:7:1"}
    late = stage.daemon("a", env=slow, kafka__max_poll_interval_s=2.0)
    wait_for_owner(0, [late])
    heir = stage.daemon("b")
    wait_for_owner(0, [heir])  # while the other is still at its cut
    stage.wait_until_applied()
    wait_until(lambda: "lane closed" in late.said(), 20, "the late one lets go")
    assert "FencedError" in late.said()
    wait_until_stable(stage.cluster, stage.topic + "g", 2)
    heir.terminate()
    assert heir.ended(15) == 0
    wait_for_owner(0, [late])
    stage.produce(events(200, seed=1, start=1.9e9))
    stage.wait_until_applied()
    stage.end()
    stage.check()


def test_f5_a_zombie_with_transactions(stage: Stage) -> None:
    stage.settings |= QUICK | {"kafka.transactions": True}
    stage.produce(events(300))
    zombie = stage.daemon("a", env={"STREAMREC_TEST_SLOW": f"before_cut:{CALM_S}"})
    wait_for_owner(0, [zombie])
    heir = stage.daemon("b")
    wait_until_stable(stage.cluster, stage.topic + "g", 2)
    frozen_in_a_cut(stage, zombie, heir, 0)
    zombie.thaw()
    wait_until(lambda: "lane closed" in zombie.said(), 20, "the zombie lets go")
    stage.wait_until_applied()
    heir.terminate()
    assert heir.ended(15) == 0, heir.said()[-3000:]
    wait_for_owner(0, [zombie])
    stage.end()
    stage.check()
    assert set(stage.forecasts_seen().values()) == {1}


@pytest.mark.parametrize("transactions", [False, True])
def test_f5_a_zombie_that_was_frozen_in_a_restore(stage: Stage, transactions: bool) -> None:
    stage.settings |= QUICK | {"kafka.transactions": transactions}
    stage.produce(events(600))
    zombie = stage.daemon("a", env={"STREAMREC_TEST_SLOW": "restore:1:1"})
    wait_until(lambda: "partitions assigned" in zombie.said(), 20, "an assignment")
    freeze_between_checkpoints(zombie, stage.state)
    heir = stage.daemon("b")
    wait_for_owner(0, [heir])
    time.sleep(SESSION_S)
    zombie.thaw()  # goes on to open what is another's by now
    time.sleep(1.5)
    stage.produce(events(300, seed=1, start=1.9e9))
    stage.wait_until_applied()
    assert zombie.code is None and heir.code is None
    stage.end()
    stage.check()


def test_f5_takeover_by_a_hot_standby_after_a_kill(stage: Stage) -> None:
    stage.produce(events(1000))
    first = stage.daemon("a")
    wait_for_owner(0, [first])
    standby = stage.daemon("b")
    wait_until_stable(stage.cluster, stage.topic + "g", 2)
    stage.wait_until_applied()
    first.kill()
    killed = time.monotonic()
    stage.produce(events(200, seed=1, start=1.9e9))
    wait_for_owner(0, [standby], 30)
    opened = time.monotonic() - killed
    stage.wait_until_applied(30)
    print(
        f"session 6 s: lane open {opened:.1f} s, all applied {time.monotonic() - killed:.1f} s after SIGKILL"
    )
    stage.end()
    stage.check()


def test_f5_takeover_of_many_lanes(stages: Any) -> None:
    stage: Stage = stages(8)
    stage.settings |= QUICK | {"kafka.lanes": 4}
    stage.produce(events(800))
    first = stage.daemon("a")
    wait_for_owner(3, [first])
    second = stage.daemon("b")
    wait_until_stable(stage.cluster, stage.topic + "g", 2)
    first.kill()
    stage.produce(events(200, seed=1, start=1.9e9))
    for lane in range(4):
        wait_for_owner(lane, [second])
    stage.wait_until_applied(lanes=4)
    stage.end()
    stage.check(lanes=4)


def test_f5_a_zombie_that_keeps_the_file_of_forecasts(stage: Stage) -> None:
    stage.settings |= QUICK
    stage.produce(events(300))
    out = stage.folder / "forecasts.jsonl"
    to_file = ["--sink", f"jsonl:{out}"]
    zombie = stage.daemon("a", env={"STREAMREC_TEST_SLOW": f"before_cut:{CALM_S}"}, args=to_file)
    wait_for_owner(0, [zombie])
    stage.produce(events(600, seed=1, start=1.8e9))
    heir = stage.daemon("b", args=to_file)
    wait_until_stable(stage.cluster, stage.topic + "g", 2)
    freeze_between_checkpoints(zombie, stage.state)
    wait_until(lambda: "another process writes to this file" in heir.said(), 30, "the file is taken")
    assert heir.code is None
    zombie.thaw()
    stage.wait_until_applied()
    stage.end()
    stage.check()
    assert b"\0" not in out.read_bytes()
    ids = [json.loads(line)["id"] for line in out.read_bytes().splitlines()]
    assert len(ids) == len(set(ids)) > 300


@pytest.mark.parametrize("seconds", [2.0, pytest.param(25.0, marks=pytest.mark.torture)])
def test_f5_a_lane_whose_file_is_locked_is_taken_over_when_it_is_free(stage: Stage, seconds: float) -> None:
    stage.settings |= QUICK
    stage.produce(events(300))
    first = stage.daemon("a")
    stage.wait_until_applied()
    heir = stage.daemon("b")
    wait_until_stable(stage.cluster, stage.topic + "g", 2)
    first.kill()
    held = lock(stage.state / "lane.sqlite")  # as by a member that was frozen in the middle of a checkpoint
    wait_until(lambda: "partitions assigned" in heir.said(), 30, "an assignment")
    time.sleep(seconds)
    assert "lane opened" not in heir.said() and heir.code is None
    held.close()
    stage.produce(events(200, seed=1, start=1.9e9))
    stage.wait_until_applied()
    stage.end()
    stage.check()
