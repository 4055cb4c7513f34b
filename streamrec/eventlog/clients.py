"""What the daemon needs of a Kafka client: a member of a group, a reader outside of groups, an outlet.

    Member   joins a group; records come out of `poll`, in which the `Assignee` hears of rebalances
    Reader   reads named ranges, and says what the cluster holds; nobody in the group hears of it
    Outlet   takes messages and says how many are under way; a `Transactor` ends them all or none

`kafka_python.py` and `confluent.py` keep these, and so does the simulator of the tests; the loop never
learns which one it has. None of them commits or resets an offset by itself. Positions are next offsets, as
everywhere. Nothing here blocks longer than it was told to.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from streamrec.errors import BrokerError
from streamrec.event import Record
from streamrec.eventlog.base import Place


class AbsentTopicError(BrokerError):
    """A topic does not exist: never, not yet, or not any more."""


class Bounds(NamedTuple):
    """What a partition holds: its first record that is still there, and the offset after its last one."""

    first: int
    end: int


class Commit(NamedTuple):
    """An offset of a group, and what was written beside it."""

    offset: int
    metadata: str = ""


class Message(NamedTuple):
    """What goes to a topic; `timestamp_ms` and `partition` are the client's choice if None."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None
    partition: int | None = None


class Assignee(Protocol):
    """Whoever holds partitions; called by a member from inside `poll`, `join` or `close`, by no thread."""

    def gained(self, places: Sequence[Place]) -> None:
        """These are ours from now on; they are paused, and have to be sought before they are resumed."""
        ...

    def leaving(self, places: Sequence[Place]) -> None:
        """These are ours until this returns; commits for them are still taken."""
        ...

    def lost(self, places: Sequence[Place]) -> None:
        """These are somebody else's already."""
        ...


@runtime_checkable
class Cluster(Protocol):
    """What can be asked of a cluster without reading a record.

    Every method raises UnavailableError if no answer came in time, BrokerError if the broker refuses.
    """

    def places(self, topics: Sequence[str]) -> list[Place]:
        """All partitions of topics, in order; AbsentTopicError if a topic does not exist."""
        ...

    def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        """What partitions hold now."""
        ...

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The cluster's own id of each topic, which a topic made anew under its old name does not have."""
        ...

    def close(self) -> None:
        """Give the connections back; may be called twice."""
        ...


@runtime_checkable
class Member(Cluster, Protocol):
    """A member of a consumer group; every call is made by one thread."""

    def join(self, topics: Sequence[str], assignee: Assignee) -> None:
        """Become a member; partitions come later, during `poll`."""
        ...

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Records of partitions that are not paused, rising per partition; rebalances happen in here.

        Raises
        ------
        OutOfRangeError
            If a partition does not hold the offset that it was to be read from.
        UnavailableError
            If the cluster cannot be reached for now; poll again.
        BrokerError
            If it refuses for good.
        """
        ...

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Read on from these offsets; only for places that are ours."""
        ...

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        """Where `poll` reads on, also past transaction markers, which are no records; no request is made."""
        ...

    def pause(self, places: Sequence[Place]) -> None:
        """Give no records of these until they are resumed; places that are not ours are passed over."""
        ...

    def resume(self, places: Sequence[Place]) -> None:
        """Give their records again; places that are not ours are passed over."""
        ...

    def commit(self, commits: Mapping[Place, Commit]) -> None:
        """Write offsets of the group, and wait for the answer.

        Raises
        ------
        NotMemberError
            If the group has moved on without us, or given the place to another member; nothing was written.
        UnavailableError
            If no answer came: written or not, nobody knows.
        """
        ...

    def committed(self, places: Sequence[Place]) -> dict[Place, Commit]:
        """What the group has committed; places without a commit are left out.

        Offsets of a transaction that is neither committed nor aborted are waited for.
        """
        ...


@runtime_checkable
class Reader(Cluster, Protocol):
    """Reads partitions without being in a group."""

    def assign(self, positions: Mapping[Place, int]) -> None:
        """Read these places, and no other, from these offsets on."""
        ...

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """At most so many records of the assigned places; errors as for `Member.poll`."""
        ...

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        """As `Member.positions`: a partition is read to its end when this is its end, whatever came out."""
        ...


@runtime_checkable
class Outlet(Protocol):
    """Sends messages, each partition's in order and without doubles; may be flushed by another thread."""

    @property
    def pending(self) -> int:
        """Messages taken and not acknowledged yet."""
        ...

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages, without waiting for the broker.

        Raises
        ------
        DeliveryError
            If an earlier message was refused for good: too large, no right to write, or shut out by another.
        """
        ...

    def flush(self, timeout_s: float) -> None:
        """Every message taken so far is acknowledged when this returns.

        Raises
        ------
        UnavailableError
            If that did not happen in time; they are still under way.
        DeliveryError
            If one of them was refused for good.
        """
        ...

    def close(self, timeout_s: float = 5.0) -> None:
        """Give back the connections, waiting at most so long for what is under way; may be called twice."""
        ...


@runtime_checkable
class Transactor(Outlet, Protocol):
    """An outlet whose messages become visible together with offsets, or not at all."""

    def recover(self) -> None:
        """Shut out whoever used our transactional id before, and have what it left open aborted or ended.

        When this returns, what `Member.committed` says is final.
        """
        ...

    def begin(self) -> None:
        """Begin a transaction; messages are sent inside of it."""
        ...

    def commit(self, commits: Mapping[Place, Commit], member: Member) -> None:
        """Write offsets for the member's group, and end the transaction: all becomes visible.

        Raises
        ------
        FencedError
            If another one uses our transactional id, or the group has moved on; nothing becomes visible.
        UnavailableError
            If no answer came: ended or not, nobody knows before the next `recover`.
        """
        ...

    def abort(self) -> None:
        """Drop the transaction: nothing of it becomes visible."""
        ...
