"""A lane of which others have a part is nobody's, which is said as long as it is so."""

from collections.abc import Sequence
from typing import cast

from streamrec.daemon.holdings import Holdings, Workshop
from streamrec.daemon.observer import Unobserved
from streamrec.errors import StreamrecError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Member
from streamrec.settings import KafkaSettings

PLACES = [("clicks", p) for p in range(4)]


class Observer(Unobserved):
    """Writes down what failed."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def failed(self, api: str, error: StreamrecError) -> None:
        self.said.append(f"{api}: {error}")


class ToyMember:
    """Knows the topic."""

    def places(self, topics: Sequence[str]) -> list[Place]:
        return list(PLACES)


def test_a_split_lane_is_told_of_once_a_session_until_it_is_whole_or_gone() -> None:
    now, observer = [0.0], Observer()
    settings = KafkaSettings(session_timeout_s=30.0, lanes=2)
    holdings = Holdings(
        cast(Member, ToyMember()), ["clicks"], settings, cast(Workshop, None), lambda: now[0], observer
    )
    holdings.gained([("clicks", 0)])
    for second in range(61):
        now[0] = float(second)
        holdings.settle()
        assert len(observer.said) == second // 30
    assert observer.said[0].startswith("lane: lane 0: ours are 1 of its 2 partitions: nobody can work on it;")
    holdings.lost([("clicks", 0)])
    now[0] = 200.0
    holdings.settle()
    holdings.gained([("clicks", 0)])
    holdings.settle()
    assert len(observer.said) == 2
