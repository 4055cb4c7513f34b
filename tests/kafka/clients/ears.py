"""What the tests of clients share: settings for a cluster, an assignee that writes down what it hears."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit, Member
from streamrec.settings import KafkaSettings

CLIENTS = ("kafka-python", "confluent")


def settings_for(bootstrap: str, client: str, **more: Any) -> KafkaSettings:
    """Settings with short times and a group of its own."""
    short = {
        "session_timeout_s": 6.0,
        "heartbeat_s": 0.5,
        "request_timeout_s": 5.0,
        "group": f"g-{time.time_ns()}",
    }
    return KafkaSettings(bootstrap=(bootstrap,), client=client, **{**short, **more})


class Ears:
    """Writes down what a member says; seeks what it gains to `start`, commits what it has to give up.

    Parameters
    ----------
    member : of whom it hears
    start : next offset per place; 0 where not named
    commits : offset to commit for what leaves; nothing is committed if None
    """

    def __init__(
        self, member: Member, start: Mapping[Place, int] | None = None, commits: int | None = None
    ) -> None:
        self.member, self.start, self.commits = member, start or {}, commits
        self.heard: list[tuple[str, list[Place]]] = []
        self.threads: set[int] = set()
        self.held: set[Place] = set()
        self.raises: Exception | None = None

    def gained(self, places: Sequence[Place]) -> None:
        """Seek and resume."""
        self._hear("gained", places)
        self.held |= set(places)
        self.member.seek({place: self.start.get(place, 0) for place in places})
        self.member.resume(places)
        if self.raises is not None:
            raise self.raises

    def leaving(self, places: Sequence[Place]) -> None:
        """Commit if told so."""
        self._hear("leaving", places)
        if self.commits is not None:
            self.member.commit({place: Commit(self.commits, "on leaving") for place in places})
        self.held -= set(places)

    def lost(self, places: Sequence[Place]) -> None:
        """Write it down."""
        self._hear("lost", places)
        self.held -= set(places)

    def _hear(self, what: str, places: Sequence[Place]) -> None:
        self.heard.append((what, list(places)))
        self.threads.add(threading.get_ident())


def poll_until(
    member: Any, holds: Callable[[list[Record]], object], timeout_s: float = 20.0, max_records: int = 500
) -> list[Record]:
    """Poll until `holds(all records so far)`; what was polled.

    Raises
    ------
    AssertionError
        If it does not hold within `timeout_s`.
    """
    deadline, records = time.monotonic() + timeout_s, list[Record]()
    while not holds(records):
        assert time.monotonic() < deadline, f"not within {timeout_s} s; polled {len(records)} records"
        records += member.poll(max_records, 0.1)
    return records


@contextmanager
def polling(member: Member) -> Iterator[list[Record]]:
    """A thread that polls a member meanwhile; what it got."""
    records: list[Record] = []
    problems: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            while not done.is_set():
                records.extend(member.poll(500, 0.1))
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield records
    finally:
        done.set()
        thread.join(20)
    if problems:
        raise problems[0]


def wait_until(holds: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return once `holds()` is true; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)
