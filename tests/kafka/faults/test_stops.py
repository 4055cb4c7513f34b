"""F3 in bad company: a stop ends within ten seconds though a lane is being restored or the broker is away."""

import time
from typing import Any

import pytest
from brokers import wait_until
from stage import Stage, events
from test_transactions import TRANSACTIONS, check_once, run_to_the_end

EXIT_S = 10.0


def stop(member: Any) -> int:
    """SIGTERM; the exit code, within ten seconds."""
    began = time.monotonic()
    member.terminate()
    code: int = member.ended(EXIT_S)
    print(f"ended with {code} after {time.monotonic() - began:.1f} s")
    return code


@pytest.mark.parametrize("transactions", [False, True])
def test_f3_stopped_while_a_lane_is_being_restored(stage: Stage, transactions: bool) -> None:
    stage.settings |= TRANSACTIONS if transactions else {}
    stage.produce(events(800))
    for name in "ab":  # the first restore makes the folder, the second loads it
        member = stage.daemon(name, env={"STREAMREC_TEST_SLOW": "restore:4"}, kafka__group_instance_id="one")
        wait_until(lambda m=member: "partitions assigned" in m.said(), 20, "an assignment")
        time.sleep(1.0)
        assert stop(member) == 0, member.said()[-3000:]
    run_to_the_end(stage)
    stage.check()


SHORT = [(False, "shut"), (True, "blackhole")]
LONG = [(False, "blackhole"), (True, "shut")]


@pytest.mark.needs("proxied")
@pytest.mark.parametrize(
    ("transactions", "how"), [*SHORT, *(pytest.param(*one, marks=pytest.mark.torture) for one in LONG)]
)
def test_f3_stopped_while_the_broker_is_away(
    stages: Any, own_broker: Any, transactions: bool, how: str
) -> None:
    own = own_broker(proxied=True)
    stage: Stage = stages(4, own.direct)
    stage.bootstrap = own.bootstrap
    stage.settings |= TRANSACTIONS if transactions else {}
    stage.produce(events(600))
    member = stage.daemon("a", kafka__group_instance_id="one")
    stage.wait_until_applied()
    getattr(own.proxy, how)()
    stage.produce(events(200, seed=1, start=1.9e9))
    time.sleep(2.0)
    assert stop(member) == 0, member.said()[-3000:]
    own.proxy.reopen() if how == "shut" else own.proxy.heal()
    run_to_the_end(stage)
    if transactions:
        check_once(stage)
    else:
        stage.check()
