"""F1, F2, F3: a daemon that is killed anywhere, or stopped, goes on as if nothing had been."""

import random
import time
from typing import Any

import pytest
from brokers import wait_until
from stage import Stage, events

from streamrec.failpoints import FAILPOINTS

FIXED = {"cut.mode": "fixed", "cut.cut_events": 64}
MODES: dict[str, dict[str, Any]] = {"live": {}, "fixed": FIXED}
KILLS = 8


def run_to_the_end(stage: Stage) -> None:
    """A member that nobody disturbs any more; it ends by itself."""
    last = stage.daemon("last", args=["--until-end"], kafka__group_instance_id="one")
    assert last.ended(60) == 0, last.said()[-3000:]


@pytest.mark.parametrize("mode", MODES)
def test_f1_killed_at_random_moments(stage: Stage, mode: str) -> None:
    stage.settings |= MODES[mode]
    stage.produce(events(6000))
    draw = random.Random(mode)
    for kill in range(KILLS):
        member = stage.daemon(f"a{kill}", kafka__group_instance_id="one")
        stage.wait_until_kept(300 * (kill + 1))
        time.sleep(draw.random() * 0.3)
        member.kill()
    run_to_the_end(stage)
    stage.check()
    if mode == "fixed":
        assert stage.learned() == stage.undisturbed()


def test_f3_sigterm_keeps_everything_and_ends_within_ten_seconds(stage: Stage) -> None:
    stage.produce(events(3000))
    member = stage.daemon("a")
    stage.wait_until_kept(500)
    began = time.monotonic()
    member.terminate()
    assert member.ended(10) == 0, member.said()[-3000:]
    assert time.monotonic() - began < 10
    before = stage.forecasts_seen()
    stage.daemon("b")
    stage.wait_until_applied()
    stage.end()
    stage.check()
    assert max(stage.forecasts_seen().values()) == 1 and before  # nothing was done twice


def test_f3_a_member_that_left_is_replaced_at_once(stage: Stage) -> None:
    stage.produce(events(2000))
    first = stage.daemon("a")
    stage.wait_until_kept(200)
    stage.daemon("b")
    time.sleep(1.0)
    first.terminate()
    assert first.ended(10) == 0
    stage.produce(events(500, seed=1, start=1.8e9))
    stage.wait_until_applied(20)
    stage.end()
    stage.check()


def test_f3_a_second_signal_ends_it_at_once(stage: Stage) -> None:
    stage.produce(events(3000))
    member = stage.daemon("a")
    stage.wait_until_kept(300)
    member.terminate()
    member.terminate()
    assert member.ended(10) in (0, 130, -15)
    run_to_the_end(stage)
    stage.check()


OF_TRANSACTIONS = {"before_prepare", "after_prepare", "after_transaction_end"}
OF_TOPICS = {"after_poll", "before_produce", "after_produce", "before_commit", "after_commit"}
ONCE = {"in_revoke", "after_revoke", "in_restore"}
"""Steps that a member takes once or twice in its life."""

STEPS = [(name, n) for name in sorted(OF_TOPICS) for n in (1, 2, 5)] + [(name, 1) for name in sorted(ONCE)]
OTHERS = [(n, k) for n in sorted(set(FAILPOINTS) - OF_TOPICS - ONCE - OF_TRANSACTIONS) for k in (1, 2, 5)]


def killed_at(stage: Stage, name: str, n: int) -> None:
    """A member works in batches until it comes to the step, and dies there; another one goes on."""
    stage.settings |= {"checkpoint.every_events": 100, "checkpoint.generation_every": 1}
    env = {"STREAMREC_FAILPOINT": f"{name}:{n}"}
    member = stage.daemon("a", env=env, kafka__group_instance_id="one")
    for batch in range(8):
        stage.produce(events(250, seed=batch, start=1.7e9 + batch * 1e6))
        wait_until(lambda: member.code is not None or stage.kept() == stage.ends(), 30, "the batch")
        if member.code is not None:
            break
    member.terminate()
    assert member.ended(30) == -9, f"{name}:{n} was not reached\n{member.said()[-2000:]}"
    run_to_the_end(stage)
    stage.check()


@pytest.mark.parametrize(("name", "n"), STEPS)
def test_f2_killed_at_every_step_of_a_topic(stage: Stage, name: str, n: int) -> None:
    killed_at(stage, name, n)


@pytest.mark.torture
@pytest.mark.parametrize(("name", "n"), OTHERS)
def test_f2_killed_at_every_other_step(stage: Stage, name: str, n: int) -> None:
    killed_at(stage, name, n)
