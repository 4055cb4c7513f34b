"""Fixtures of the conformance suite: every test runs with each client, on the broker of the run."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ears import CLIENTS, settings_for

from streamrec.eventlog.topics import Clients, connect


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """Name of the client library."""
    return str(request.param)


@pytest.fixture
def clients(broker: Any, client: str) -> Clients:
    """Makes clients of a group that no other test knows."""
    return connect(settings_for(broker.bootstrap, client))


@pytest.fixture
def opened() -> Iterator[Callable[[Any], Any]]:
    """`opened(client)` closes it after the test, even if it failed."""
    with ExitStack() as stack:

        def keep(one: Any) -> Any:
            stack.callback(one.close)
            return one

        yield keep
