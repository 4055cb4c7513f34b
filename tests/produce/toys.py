"""A broker in memory that can be killed and can lose answers, and a clock that nobody waits for."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamrec.errors import FencedError, UnavailableError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds, Commit, Message
from streamrec.produce.sending import Line
from streamrec.produce.shipping import Position

TOPIC = "clicks"
PLACE = (TOPIC, 0)


class Killed(BaseException):
    """The process died here."""


@dataclass
class ToyClock:
    """Time passes when somebody sleeps."""

    time: float = 1000.0
    naps: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.naps.append(seconds)


class ToyBroker:
    """What readers with read_committed see, and who may write."""

    def __init__(self) -> None:
        self.log: list[Message] = []
        self.commits: dict[Place, Commit] = {}
        self.batches: list[int] = []
        self.epoch = 0
        self.topic_id = "id-1"


class ToyMember:
    """The part of a member that a shipper uses."""

    def __init__(self, broker: ToyBroker) -> None:
        self.broker = broker

    def committed(self, places: Sequence[Place]) -> dict[Place, Commit]:
        return {place: self.broker.commits[place] for place in places if place in self.broker.commits}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(topics, self.broker.topic_id)

    def close(self) -> None: ...

    def join(self, topics: Sequence[str], assignee: object) -> None:
        raise AssertionError("a producer's group is never joined")

    def poll(self, max_records: int, timeout_s: float) -> list[object]:
        raise AssertionError

    def places(self, topics: Sequence[str]) -> list[Place]:
        raise AssertionError

    def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        raise AssertionError

    seek = pause = resume = commit = join


class ToyTransactor:
    """Transactions on the toy broker; with `trouble`, every call may lose its answer or be the last."""

    def __init__(self, broker: ToyBroker, trouble: random.Random | None = None, share: float = 0.0) -> None:
        self.broker, self.trouble, self.share = broker, trouble, share
        self.epoch = -1
        self.open: list[Message] | None = None
        self.recovered = False

    def _strike(self) -> None:
        if self.trouble is not None and self.trouble.random() < self.share:
            if self.trouble.random() < 0.5:
                raise Killed
            self.recovered = False
            raise UnavailableError("no answer")

    def recover(self) -> None:
        self._strike()
        self.broker.epoch += 1
        self.epoch, self.open, self.recovered = self.broker.epoch, None, True

    def begin(self) -> None:
        assert self.recovered and self.open is None, "wanted recover before begin"
        self._strike()
        self.open = []

    def send(self, messages: Sequence[Message]) -> None:
        assert self.open is not None
        self._strike()
        self.open.extend(messages)

    def commit(self, commits: Mapping[Place, Commit], member: object) -> None:
        assert self.open is not None
        self._strike()
        if self.epoch != self.broker.epoch:
            raise FencedError("another one uses our transactional id")
        self.broker.log += self.open
        self.broker.batches.append(len(self.open))
        self.broker.commits.update(commits)
        self.open = None
        self._strike()

    def abort(self) -> None:
        self.open = None

    def close(self, timeout_s: float = 5.0) -> None: ...

    @property
    def pending(self) -> int:
        return len(self.open or ())

    def flush(self, timeout_s: float) -> None: ...


class ToyFeed:
    """n lines; every fifth gives no message, every seventh has no time."""

    def __init__(self, n: int, text: str = "line", live_at: int = -1) -> None:
        self.n, self.text, self.at, self.live_at = n, text, 0, live_at

    def _raw(self, i: int) -> bytes:
        return f"{self.text} {i}".encode()

    def pass_over(self, lines: int) -> int:
        position = Position()
        for i in range(lines):
            position = position.after(self._raw(i), 0)
        self.at = lines
        return position.check

    def lines(self, most: int, stamp_ms: int) -> list[Line]:
        if self.at == self.live_at:
            self.live_at = -1
            return []
        first, self.at = (
            self.at,
            min(self.n, self.at + most, self.live_at if self.live_at > self.at else self.n),
        )
        return [self._line(i) for i in range(first, self.at)]

    def _line(self, i: int) -> Line:
        message = None if i % 5 == 4 else Message(TOPIC, self._raw(i), b"u", (), i, i % 2)
        return Line(self._raw(i), message, None if i % 7 == 6 else float(i), i)

    def at_end(self) -> bool:
        return self.at >= self.n

    def wanted(self) -> list[bytes]:
        """Values that the topic has to hold in the end."""
        return [self._raw(i) for i in range(self.n) if i % 5 != 4]
