"""The command line's clients, replaced by topics in memory."""

from collections.abc import Callable

import pytest
from fake_topics import Cluster, FakeClients

Serve = Callable[[Cluster], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """From now on the verbs reach this cluster, whatever they are told of brokers."""

    def begin(cluster: Cluster) -> None:
        for verb in ("keeping", "opening"):
            monkeypatch.setattr(f"streamrec.verbs.{verb}.connect", lambda settings: FakeClients(cluster))

    return begin
