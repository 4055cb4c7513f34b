"""F18: the topic of the forecasts takes nothing, or takes it late: reading waits, memory does not grow.

A Produce answer that is held back holds back all later ones of its connection, as a broker does that waits
for its disk. `max_pending` messages are under way at most, and those of the cuts that were read already.
"""

import time

import pytest
from hurt import SERVED, metric, until
from proxy import Proxy
from stage import Stage, events
from wire import Api

MAX_PENDING = 300
AHEAD = 4 * 128 + 64
"""Forecasts of what one poll gives and of a cut that had begun, beyond the bound."""

MANY = 6000


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.torture)])
@pytest.mark.parametrize("transactions", [False, True])
def test_f18_a_sink_that_blocks_holds_back_reading(
    proxied: Stage, proxy: Proxy, transactions: bool, seconds: float
) -> None:
    proxied.settings |= {**SERVED, "kafka.max_pending": MAX_PENDING, "kafka.transactions": transactions}
    proxied.produce(events(600))
    member = proxied.daemon("a")
    proxied.wait_until_applied(30)
    rebalances = metric(member, "rebalances_total", reason="assigned")
    blocked = proxy.delay(1e6, Api.PRODUCE, client="streamrec")
    proxied.produce(events(MANY, seed=1, start=1.8e9))

    def waits() -> bool:
        return transactions or metric(member, "paused", reason="backpressure") == 1

    until(waits, 20, member.said)
    most, ends = 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        most = max(most, metric(member, "producer_queue_records"))
        time.sleep(0.2)
    read = sum(proxied.kept().values())
    assert transactions or 0 < most <= MAX_PENDING + AHEAD  # with them the loop waits, and shows nothing
    assert read < 600 + MANY
    blocked.cancel()
    proxied.wait_until_applied(60)
    until(lambda: metric(member, "paused", reason="backpressure") != 1, 10, member.said)
    assert metric(member, "rebalances_total", reason="assigned") == rebalances
    assert not metric(member, "rebalances_total", reason="lost") > 0
    proxied.end()
    proxied.check()
    seen = proxied.forecasts_seen()
    assert max(seen.values()) == 1
    print(f"{most:.0f} messages were under way at most")
