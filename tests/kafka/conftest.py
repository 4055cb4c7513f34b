"""Fixtures of the tests that need a broker; `brokers.py` says which one a test gets, and why it is left out.

broker      Cluster of the whole run with what the test needs
topics      topics("events", partitions=2, configs={...}) -> name, on `broker`, deleted afterwards
own_broker  own_broker(settings={...}, proxied=True) -> OwnBroker, that the test may hurt; 2 s each
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import brokers
import pytest
import reaper
from brokers import AbsentError, Cluster, Own, OwnBroker, Topics


def pytest_configure(config: pytest.Config) -> None:
    """The one mark of these tests."""
    config.addinivalue_line("markers", "needs(*what): what a broker has to serve; see tests/kafka/brokers.py")


def kind_for(request: pytest.FixtureRequest, own: bool = False) -> str:
    """The kind of broker that has what the test needs; leaves the test out if there is none."""
    needs = [what for mark in request.node.iter_markers("needs") for what in mark.args]
    try:
        return brokers.choose(needs, own)
    except AbsentError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The directory of this run's brokers, for all workers; they end when the last worker is gone."""
    base = tmp_path_factory.getbasetemp()
    run = (base.parent if hasattr(request.config, "workerinput") else base) / "kafka"
    reaper.join(run)
    return run


@pytest.fixture
def broker(request: pytest.FixtureRequest, kafka_run: Path) -> Cluster:
    """The broker that all tests of the run share; nobody may stop it."""
    return brokers.shared(kind_for(request), kafka_run)


@pytest.fixture
def topics(broker: Cluster) -> Iterator[Topics]:
    """Makes topics on `broker` that no other test knows."""
    yield broker.topic
    if broker.made:
        broker.drop(broker.made)


@pytest.fixture
def own_broker(request: pytest.FixtureRequest, kafka_run: Path) -> Iterator[Own]:
    """Starts brokers that only this test knows, and ends them after it."""
    kind = kind_for(request, own=True)
    started: list[OwnBroker] = []

    def start(settings: Mapping[str, object] | None = None, proxied: bool = False) -> OwnBroker:
        started.append(brokers.own(kind, kafka_run, settings, proxied))
        return started[-1]

    yield start
    for one in started:
        one.close()
