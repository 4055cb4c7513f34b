"""F8: one partition gives nothing, the others go on; what stands still is seen in the metrics."""

import time

import pytest
from hurt import SERVED, metric, until
from proxy import Proxy
from stage import Stage, events

STALLED = 2


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.torture)])
def test_f8_a_partition_that_stalls_stops_no_other(proxied: Stage, proxy: Proxy, seconds: float) -> None:
    proxied.settings |= SERVED
    proxied.produce(events(600))
    member = proxied.daemon("a")
    proxied.wait_until_applied(30)
    before = proxied.kept()
    starved = proxy.starve(proxied.topic, STALLED, client="streamrec")
    stalled_at, began = time.time(), time.monotonic()
    seed = 0
    while time.monotonic() - began < seconds:
        seed += 1
        proxied.produce(events(200, seed=seed, start=1.7e9 + 1e7 * seed))
        time.sleep(0.5)
    ends = proxied.ends()

    def others_are_done() -> bool:
        kept = proxied.kept()
        return all(kept[p] == end for p, end in ends.items() if p != STALLED)

    until(others_are_done, 20, lambda: (proxied.kept(), ends, member.said()[-2000:]))
    assert proxied.kept()[STALLED] == before[STALLED] < ends[STALLED]

    def seen(name: str) -> dict[int, float]:
        return {p: metric(member, name, topic=proxied.topic, partition=p) for p in ends}

    def shows_it() -> bool:
        lags = seen("consumer_lag_records")
        return lags == {p: ends[p] - before[p] if p == STALLED else 0 for p in ends}

    until(shows_it, 10, lambda: seen("consumer_lag_records"))
    moved = seen("partition_last_progress_timestamp_seconds")
    assert moved.pop(STALLED) < stalled_at + 1 < min(moved.values())
    assert seen("consumer_lag_seconds")[STALLED] >= seconds / 2
    assert not metric(member, "rebalances_total", reason="lost") > 0
    starved.cancel()
    proxied.wait_until_applied(20)
    proxied.end()
    proxied.check()
