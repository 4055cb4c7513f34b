"""Ranges of records: as they are read, as they stand in a cut, and where a lane goes on."""

import msgspec

from streamrec.errors import ConfigError
from streamrec.packed import unpack
from streamrec.places import Place

Read = tuple[str, int, int, int]
"""Records read: topic, partition, first offset, next offset."""


class CutterState(msgspec.Struct, array_like=True):
    """A `Cutter` between two cuts; `places` holds (topic, partition, place)."""

    serial: int
    places: list[tuple[str, int, Place]]
    bins: bytes
    order: bytes


def positions_in(dumped: bytes) -> dict[tuple[str, int], int]:
    """Next offsets in what `Cutter.dump` wrote, for those who only look.

    Examples
    --------
    >>> from streamrec.packed import pack
    >>> positions_in(pack(CutterState(0, [("clicks", 0, Place(0, 7))], b"", b"")))
    {('clicks', 0): 7}
    """
    state = unpack(dumped, CutterState, "cutter")
    return {(topic, partition): place.next for topic, partition, place in state.places}


class Span:
    """A range of records that is being read, the value of its last record, and whose clock they move."""

    __slots__ = ("clock", "first", "last", "next", "partition", "topic")

    def __init__(self, topic: str, partition: int, first: int, clock: str) -> None:
        self.topic = topic
        self.partition = partition
        self.first = first
        self.next = first
        self.last: bytes | None = None
        self.clock = clock

    @property
    def read(self) -> Read:
        """As it goes into a cut."""
        return self.topic, self.partition, self.first, self.next


def fixed_shares(cut_events: int, partitions: int) -> tuple[int, ...]:
    """Accepted events that a round of the fixed mode takes from each partition, in partition order.

    Examples
    --------
    >>> fixed_shares(128, 3)
    (43, 43, 42)
    """
    if not 1 <= partitions <= cut_events:
        raise ConfigError(
            f"cut_events: wanted one or more for each of {partitions} partitions, got {cut_events}"
        )
    share, rest = divmod(cut_events, partitions)
    return tuple(share + (i < rest) for i in range(partitions))
