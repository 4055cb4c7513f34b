"""Transactions: whatever happens, whoever reads what is committed sees every forecast once."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from brokers import wait_until
from proxy import Proxy, Rule
from stage import Stage, events
from wire import Api

FIXED = {"cut.mode": "fixed", "cut.cut_events": 64}
TRANSACTIONS = {
    "kafka.transactions": True, "checkpoint.every_events": 100, "checkpoint.generation_every": 1,
}  # fmt: skip
STEPS = ("before_prepare", "after_prepare", "after_transaction_end")
AROUND = ("before_produce", "after_produce", "before_transaction", "after_transaction", "mid_transaction")
ONCE = ("in_revoke", "after_revoke")
SHORT = [
    *(("before_prepare", 2), ("after_prepare", 1), ("after_prepare", 5)),
    *(("after_transaction_end", 1), ("after_transaction_end", 2)),
]
ALL = [(name, n) for name in (*STEPS, *AROUND) for n in (1, 2, 5)] + [(name, 1) for name in ONCE]
LONG = [one for one in ALL if one not in SHORT]

pytestmark = pytest.mark.needs("transactions")


def run_to_the_end(stage: Stage, **settings: Any) -> None:
    """A member that nobody disturbs any more; it ends by itself."""
    last = stage.daemon("last", args=["--until-end"], kafka__group_instance_id="one", **settings)
    assert last.ended(60) == 0, last.said()[-3000:]


def check_once(stage: Stage) -> Counter[str]:
    """Promises of the state, and every forecast stands in the topic once; their ids."""
    stage.check()
    seen = stage.forecasts_seen()
    assert set(seen.values()) == {1}, [one for one, n in seen.items() if n > 1][:5]
    return seen


def check_same_as_undisturbed(stage: Stage) -> None:
    """Rounds are fixed: an undisturbed run learns the same, and issues the same forecasts."""
    seen = check_once(stage)
    assert stage.undisturbed() == stage.learned()
    assert stage.forecasts_seen() == Counter(dict.fromkeys(seen, 2))  # it wrote to the same topic


def killed_at(stage: Stage, name: str, n: int) -> None:
    """A member dies at a step; another one goes on, as if it had not."""
    stage.settings |= TRANSACTIONS | FIXED
    stage.produce(events(1000))
    env = {"STREAMREC_FAILPOINT": f"{name}:{n}"}
    member = stage.daemon("a", env=env, args=["--until-end"], kafka__group_instance_id="one")
    assert member.ended(60) == -9, f"{name}:{n} was not reached\n{member.said()[-2000:]}"
    run_to_the_end(stage)
    check_same_as_undisturbed(stage)


@pytest.mark.parametrize(("name", "n"), SHORT)
def test_f2_killed_at_a_step_of_a_transaction(stage: Stage, name: str, n: int) -> None:
    killed_at(stage, name, n)


@pytest.mark.torture
@pytest.mark.parametrize(("name", "n"), LONG)
def test_f2_killed_at_every_other_step_of_a_transaction(stage: Stage, name: str, n: int) -> None:
    killed_at(stage, name, n)


@pytest.mark.parametrize(
    ("mode", "kills"),
    [
        ("fixed", 4),
        pytest.param("fixed", 20, marks=pytest.mark.torture),
        pytest.param("live", 20, marks=pytest.mark.torture),
    ],
)
def test_f1_killed_at_random_moments_with_transactions(stage: Stage, mode: str, kills: int) -> None:
    stage.settings |= TRANSACTIONS | (FIXED if mode == "fixed" else {})
    stage.produce(events(500 * kills + 500))
    draw = random.Random(mode)
    for kill in range(kills):
        member = stage.daemon(f"a{kill}", kafka__group_instance_id="one")
        stage.wait_until_kept(300 * (kill + 1))
        time.sleep(draw.random() * 0.3)
        member.kill()
    run_to_the_end(stage)
    if mode == "fixed":
        check_same_as_undisturbed(stage)
    else:
        check_once(stage)


def test_f3_sigterm_ends_the_transaction(stage: Stage) -> None:
    stage.settings |= TRANSACTIONS
    stage.produce(events(1500))
    for name, n in (("a", 300), ("b", 900)):
        member = stage.daemon(name, kafka__group_instance_id="one")
        stage.wait_until_kept(n)
        member.terminate()
        assert member.ended(10) == 0, member.said()[-3000:]
        assert set(stage.forecasts_seen().values()) == {1}
    run_to_the_end(stage)
    check_once(stage)


UNKNOWN: dict[str, Callable[[Proxy], Rule]] = {
    "answer-lost": lambda proxy: proxy.cut_after(Api.END_TXN, times=2),
    "request-lost": lambda proxy: proxy.cut_before(Api.END_TXN, times=2),
    "hangs": lambda proxy: proxy.swallow(Api.END_TXN, times=1),
    "answer-late": lambda proxy: proxy.delay(6.0, Api.END_TXN, times=1),
    "offsets-hang": lambda proxy: proxy.swallow(Api.TXN_OFFSET_COMMIT, times=1),
    "offsets-answer-lost": lambda proxy: proxy.cut_after(Api.TXN_OFFSET_COMMIT, times=2),
}


@pytest.mark.needs("proxied", "settings")
@pytest.mark.parametrize(
    "names", [("answer-lost", "hangs"), pytest.param(tuple(UNKNOWN), marks=pytest.mark.torture)]
)
def test_f7_nobody_knows_how_a_transaction_ended(stages: Any, own_broker: Any, names: Sequence[str]) -> None:
    own = own_broker(proxied=True)
    for i, name in enumerate(names):
        stage: Stage = stages(4, own.direct)
        stage.bootstrap = own.bootstrap
        stage.settings |= TRANSACTIONS | FIXED | {"kafka.request_timeout_s": 3.0}
        stage.produce(events(1200, seed=i))
        member = stage.daemon("a", kafka__group_instance_id="one")
        stage.wait_until_kept(200)
        hurt = UNKNOWN[name](own.proxy)
        wait_until(partial(getattr, hurt, "hits"), 20, f"{name}: the fault fires")
        stage.wait_until_kept(700, 60)
        own.proxy.heal()
        member.terminate()
        assert member.ended(15) == 0, f"{name}: {member.said()[-3000:]}"
        run_to_the_end(stage)
        check_same_as_undisturbed(stage)
    assert not own.proxy.broken, own.proxy.broken


@pytest.mark.needs("settings")
def test_f5_a_transaction_that_the_broker_gave_up(stage: Stage) -> None:
    stage.settings |= TRANSACTIONS | {
        "kafka.transaction_timeout_s": 2.0, "checkpoint.every_events": 100_000, "checkpoint.every_s": 6.0,
    }  # fmt: skip
    stage.produce(events(800))
    member = stage.daemon("a", kafka__group_instance_id="one")
    wait_until(lambda: "fenced failed" in member.said(), 30, "the transaction is gone")
    member.terminate()
    assert member.ended(15) == 0, member.said()[-3000:]
    run_to_the_end(stage, checkpoint__every_s=0.5)
    check_once(stage)
