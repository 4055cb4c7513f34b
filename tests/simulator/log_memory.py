"""The broker's history as a replay wants it, one life of every topic at a time."""

from collections.abc import Iterator, Mapping, Sequence

from sim_broker import Broker, Partition

from streamrec.cut import Read
from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec, Place, Reject
from streamrec.eventlog.reasons import SKIPPED


class History:
    """A `Finder` (see `streamrec.replay`) of what was visible, what is gone by now included.

    Parameters
    ----------
    broker : whose history it is
    lives : place -> which life of its topic
    codec : of the records
    """

    def __init__(self, broker: Broker, lives: Mapping[Place, int], codec: Codec) -> None:
        self.broker, self.lives, self.codec = broker, dict(lives), codec

    def partition(self, place: Place) -> Partition:
        """A partition in its life."""
        return self.broker.lives[place[0]][self.lives[place]].partitions[place[1]]

    def records(self, place: Place, first: int, last: int) -> Iterator[Record]:
        """Visible records of a range."""
        entries = self.partition(place).entries
        return (
            self.broker.record(place, at, self.lives[place])
            for at in range(first, min(last, len(entries)))
            if entries[at].visible
        )

    def pairs(self, reads: Sequence[Read]) -> Iterator[tuple[Record, Event | Reject]]:
        """Decoded records of ranges, in their order."""
        for topic, partition, first, last in reads:
            records = list(self.records((topic, partition), first, last))
            yield from zip(records, self.codec.decode_many(records), strict=True)


def is_skipped(decoded: Event | Reject) -> bool:
    """Whether a record is passed over in silence, as a tombstone is."""
    return isinstance(decoded, Reject) and decoded.reason in SKIPPED
