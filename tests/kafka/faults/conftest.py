"""A warm host for all daemons of a worker, and a stage per test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import brokers
import pytest
from brokers import AbsentError, Cluster, OwnBroker
from daemons import Host
from proxy import Proxy
from stage import Stage


class Stages(Protocol):
    """Makes the stage of a test."""

    def __call__(self, partitions: int = 4, cluster: Cluster | None = None) -> Stage:
        """On the shared broker, or on one of the test's own."""
        ...


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Warm, for the whole run."""
    made = Host(tmp_path_factory.mktemp("host") / "host.log")
    yield made
    made.close()


@pytest.fixture
def stages(host: Host, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stages]:
    """Stages of this test; their daemons are ended after it."""
    made: list[Stage] = []

    def make(partitions: int = 4, cluster: Cluster | None = None) -> Stage:
        where: Cluster = cluster or request.getfixturevalue("broker")
        sizes = {"events": partitions, "forecasts": 2, "letters": 1}
        names = [where.topic(name, n) for name, n in sizes.items()]
        folder = tmp_path / f"stage-{len(made)}"
        folder.mkdir()
        made.append(Stage(host, where, *names, partitions, folder))
        return made[-1]

    yield make
    for stage in made:
        for daemon in stage.daemons:
            daemon.kill()


@pytest.fixture
def stage(stages: Stages) -> Stage:
    """A topic of four partitions on the shared broker."""
    return stages()


@pytest.fixture(scope="module")
def hurt_broker(kafka_run: Path) -> Iterator[OwnBroker]:
    """A broker behind a proxy, that the tests of one file hurt one after another."""
    try:
        kind = brokers.choose(["eviction", "transactions", "admin", "durable", "proxied"], own=True)
    except AbsentError as error:
        pytest.skip(str(error))
    made = brokers.own(kind, kafka_run, proxied=True)
    yield made
    made.close()


@pytest.fixture
def proxied(stages: Stages, hurt_broker: OwnBroker) -> Iterator[Stage]:
    """A stage on it: daemons go through the proxy, the test does not. It is whole again afterwards."""
    stage, proxy = stages(cluster=hurt_broker.direct), hurt_broker.proxy
    assert proxy is not None
    stage.bootstrap = hurt_broker.bootstrap
    yield stage
    hurt_broker.resume()
    if hurt_broker.process is not None and hurt_broker.process.poll() is not None:
        hurt_broker.start()
    if proxy.listener.fileno() < 0:
        proxy.reopen()
    proxy.heal()
    assert not proxy.broken


@pytest.fixture
def proxy(hurt_broker: OwnBroker) -> Proxy:
    """Its proxy."""
    assert hurt_broker.proxy is not None
    return hurt_broker.proxy
