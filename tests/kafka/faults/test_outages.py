"""F6: the broker is away, hangs or is slow; the daemon stays, says so, and goes on where it was.

pause       the broker's process is suspended: connections are there, nothing is answered
blackhole   nothing passes the proxy
shut        connections are cut and refused
stop, kill  the broker ends, and is started again on its data
slow        every answer comes 0.4 to 5 s late
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from brokers import OwnBroker
from hurt import SERVED, is_ready, last_line, metric, probe, until
from proxy import Proxy
from stage import Stage, events

QUICK: dict[str, Any] = {**SERVED, "kafka.unreachable_s": 1.5, "kafka.answer_s": 1.0}
"""So that seconds show what takes half a minute by default."""


class Outage(NamedTuple):
    """How a broker goes away, and how it comes back."""

    begin: Callable[[OwnBroker, Proxy], object]
    end: Callable[[OwnBroker, Proxy], object]


OUTAGES = {
    "pause": Outage(lambda own, _: own.pause(), lambda own, _: own.resume()),
    "blackhole": Outage(lambda _, proxy: proxy.blackhole(), lambda _, proxy: proxy.heal()),
    "shut": Outage(lambda _, proxy: proxy.shut(), lambda _, proxy: proxy.reopen()),
    "kill": Outage(lambda own, _: own.kill(), lambda own, _: own.start()),
    "stop": Outage(lambda own, _: own.stop(), lambda own, _: own.start()),
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "transactions": {"kafka.transactions": True},
    "confluent": {"kafka.client": "confluent"},
}
LONG = pytest.param(30.0, marks=pytest.mark.torture)


def sound(stage: Stage) -> None:
    """End what runs; nothing is lost or doubled, every event has its forecast."""
    stage.end()
    stage.check()


@pytest.mark.parametrize("seconds", [2.0, LONG])
def test_f6_five_outages_one_after_another(
    proxied: Stage, hurt_broker: OwnBroker, proxy: Proxy, seconds: float
) -> None:
    proxied.settings |= QUICK
    member = proxied.daemon("a")
    for number, (name, outage) in enumerate(OUTAGES.items()):
        proxied.produce(events(300, seed=number, start=1.7e9 + 1e7 * number))
        proxied.wait_until_kept(300 * number + 50)
        outage.begin(hurt_broker, proxy)
        until(lambda: not is_ready(member), 20, lambda: probe(member, "/statusz"))
        assert "degraded" in probe(member, "/readyz")[1]
        time.sleep(seconds)
        assert probe(member, "/livez")[0] == 200
        outage.end(hurt_broker, proxy)
        took = until(lambda: is_ready(member), 30, member.said)
        proxied.wait_until_applied(30)
        print(f"{name}: ready {took:.1f} s after the broker came back")
    assert member.code is None
    sound(proxied)
    seen = proxied.forecasts_seen()
    print(f"{sum(seen.values()) - len(seen)} forecasts of {len(seen)} were sent twice")


@pytest.mark.parametrize("delay_s", [0.4, 5.0])
def test_f6_a_slow_broker_slows_but_stops_nothing(proxied: Stage, proxy: Proxy, delay_s: float) -> None:
    proxied.produce(events(600))
    member = proxied.daemon("a", http__port=0)
    proxied.wait_until_kept(100)
    slow = proxy.delay(delay_s)
    proxied.produce(events(600, seed=1, start=1.8e9))
    time.sleep(2 * delay_s)
    assert probe(member, "/livez")[0] == 200
    if delay_s < 1:
        proxied.wait_until_applied(30)
    slow.cancel()
    proxied.wait_until_applied(30)
    until(lambda: is_ready(member), 20, member.said)
    sound(proxied)


@pytest.mark.parametrize("seconds", [3.0, LONG])
def test_f6_with_transactions_every_forecast_is_seen_once(
    proxied: Stage, proxy: Proxy, seconds: float
) -> None:
    proxied.settings |= {**QUICK, "kafka.transactions": True, "kafka.request_timeout_s": 2.0}
    proxied.produce(events(600))
    member = proxied.daemon("a")
    proxied.wait_until_kept(100)
    for number, (begin, end) in enumerate(((proxy.blackhole, proxy.heal), (proxy.shut, proxy.reopen))):
        begin()
        time.sleep(seconds)
        assert probe(member, "/livez")[0] == 200
        end()
        proxied.produce(events(300, seed=1 + number, start=1.8e9 + 1e7 * number))
        proxied.wait_until_applied(60)
    sound(proxied)
    seen = proxied.forecasts_seen()
    assert set(seen.values()) == {1}


@pytest.mark.parametrize(
    ("how", "kind"),
    [("blackhole", "plain"), ("shut", "plain"), ("blackhole", "transactions"), ("blackhole", "confluent")],
)
def test_f6_sigterm_while_the_broker_is_away_ends_within_ten_seconds(
    proxied: Stage, hurt_broker: OwnBroker, proxy: Proxy, how: str, kind: str
) -> None:
    if kind == "confluent":
        pytest.importorskip("confluent_kafka")
    proxied.settings |= {**SERVED, **KINDS[kind]}
    proxied.produce(events(600))
    member = proxied.daemon("a")
    proxied.wait_until_kept(100)
    OUTAGES[how].begin(hurt_broker, proxy)
    time.sleep(4.0)
    began = time.monotonic()
    member.terminate()
    assert member.ended(10) == 0, member.said()[-3000:]
    print(f"ended {time.monotonic() - began:.1f} s after SIGTERM")
    OUTAGES[how].end(hurt_broker, proxy)
    proxied.produce(events(100, seed=1, start=1.8e9))
    proxied.daemon("b")
    proxied.wait_until_applied(60)
    sound(proxied)


@pytest.mark.parametrize("how", ["blackhole", "shut"])
def test_f6_a_broker_that_is_away_at_the_start_is_said_in_one_line(
    proxied: Stage, hurt_broker: OwnBroker, proxy: Proxy, how: str
) -> None:
    OUTAGES[how].begin(hurt_broker, proxy)
    began = time.monotonic()
    member = proxied.daemon("a", kafka__request_timeout_s=3.0)
    assert member.ended(15) == 3, member.said()[-3000:]
    assert proxied.bootstrap in last_line(member)
    print(f"ended {time.monotonic() - began:.1f} s after its start: {last_line(member)}")


def test_f6_a_standby_says_too_that_the_broker_is_away(proxied: Stage, proxy: Proxy) -> None:
    proxied.settings |= QUICK
    proxied.produce(events(300))
    proxied.daemon("a")
    proxied.wait_until_applied()
    standby = proxied.daemon("b")
    until(lambda: is_ready(standby), 30, standby.said)
    assert metric(standby, "assigned_partitions") in (0, pytest.approx(float("nan"), nan_ok=True))
    proxy.shut()
    until(lambda: not is_ready(standby), 20, lambda: probe(standby, "/statusz"))
    assert probe(standby, "/livez")[0] == 200
    proxy.reopen()
    until(lambda: is_ready(standby), 30, standby.said)
    proxied.produce(events(300, seed=1, start=1.8e9))
    proxied.wait_until_applied(30)
    sound(proxied)
