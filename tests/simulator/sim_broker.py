"""A broker in memory: partitions with transactions in them, retention, topics made anew, an output topic.

    offset     0 1 2 | 3 4 5 [6 marker] 7 8 9        records of a transaction are followed by a marker, which
               gone  | first              end        has an offset and is no record

Everything that ever was in a partition stays in its history, so that a check can read what retention took.
"""

from collections.abc import Iterator
from typing import NamedTuple

from streamrec.errors import BrokerError, UnavailableError
from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds, Message


class Transaction:
    """Open, committed or aborted."""

    def __init__(self) -> None:
        self.outcome = "open"


class Entry(NamedTuple):
    """What stands at an offset; a marker has no value and is not visible."""

    value: bytes | None
    transaction: Transaction | None = None
    marker: bool = False

    @property
    def visible(self) -> bool:
        """Whether a reader with isolation read_committed gets it."""
        return not self.marker and (self.transaction is None or self.transaction.outcome == "committed")


class Partition:
    """One log."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.first = 0
        self.firsts = {0}

    @property
    def end(self) -> int:
        """Offset after the last entry, however its transaction ends."""
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """First offset of an open transaction, the end if there is none."""
        for offset in range(self.first, self.end):
            transaction = self.entries[offset].transaction
            if transaction is not None and transaction.outcome == "open":
                return offset
        return self.end

    def trim(self, first: int) -> None:
        """Retention takes what is before `first`."""
        self.first = max(self.first, min(first, self.stable_end))
        self.firsts.add(self.first)

    def visible_from(self, offset: int) -> Iterator[int]:
        """Offsets that a reader gets."""
        return (at for at in range(offset, self.stable_end) if self.entries[at].visible)


class Topic:
    """Partitions under a name; a topic made anew has another id."""

    def __init__(self, id_: str, partitions: int) -> None:
        self.id = id_
        self.partitions = [Partition() for _ in range(partitions)]


class Sent(NamedTuple):
    """A message that is in the output topic: who sent it, and in which transaction."""

    message: Message
    sender: str
    transaction: Transaction | None


class Broker:
    """Topics by name, all their earlier lives, and what was sent to it."""

    def __init__(self) -> None:
        self.lives: dict[str, list[Topic]] = {}
        self.sent: list[Sent] = []
        self.epochs: dict[str, int] = {}
        self.open: dict[str, tuple[Transaction, float]] = {}
        self.down_until = 0.0

    def make(self, name: str, partitions: int) -> None:
        """Make a topic, perhaps anew."""
        lives = self.lives.setdefault(name, [])
        lives.append(Topic(f"{name}-{len(lives)}", partitions))

    def topic(self, name: str) -> Topic:
        """A topic as it is now."""
        if name not in self.lives:
            raise BrokerError(f"topic {name} does not exist")
        return self.lives[name][-1]

    def partition(self, place: Place) -> Partition:
        """A partition as it is now."""
        return self.topic(place[0]).partitions[place[1]]

    def places(self) -> list[Place]:
        """All partitions."""
        return [(name, p) for name in sorted(self.lives) for p in range(len(self.topic(name).partitions))]

    def bounds(self, place: Place) -> Bounds:
        """What a reader with isolation read_committed can see of it."""
        partition = self.partition(place)
        return Bounds(partition.first, partition.stable_end)

    def record(self, place: Place, offset: int, life: int = -1) -> Record:
        """A record, also one that is gone by now."""
        entry = self.lives[place[0]][life].partitions[place[1]].entries[offset]
        return Record(*place, offset, entry.value)

    def check_up(self, now: float) -> None:
        """Nobody answers while the broker is down."""
        if now < self.down_until:
            raise UnavailableError("the broker is down")

    def shut_out(self, transactional_id: str) -> int:
        """Give out the next epoch of a transactional id, and abort what its last user left open."""
        self.end(transactional_id, "aborted")
        self.epochs[transactional_id] = self.epochs.get(transactional_id, 0) + 1
        return self.epochs[transactional_id]

    def end(self, transactional_id: str, outcome: str) -> None:
        """End the open transaction, if there is one."""
        found = self.open.pop(transactional_id, None)
        if found is not None:
            found[0].outcome = outcome

    def expire(self, now: float) -> None:
        """Abort transactions that were open too long, and shut out who began them."""
        for transactional_id in [name for name, (_, deadline) in self.open.items() if now > deadline]:
            self.shut_out(transactional_id)
