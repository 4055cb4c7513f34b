"""What a lane's surviving journal says was done, and what had to come of it by the log alone.

The lineage walks the journal once: ranges of every partition have to follow each other without a hole or a
double, and the records in them give, by rules written down here a second time, bins, users and tie sets.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from log_memory import History, is_skipped
from sim_broker import Broker

from streamrec.bins import Counts
from streamrec.entries import Assigned, CutEntry, Entry, GapSkip, Rewound, Tick
from streamrec.event import Event
from streamrec.eventlog.base import Codec, Place
from streamrec.journal import Position

Entries = Sequence[tuple[Position, Entry]]
Set = tuple[str, float, tuple[str, ...]]


class Segment:
    """Entries during which no topic was made anew, and the log as it was."""

    def __init__(self, log: History) -> None:
        self.log = log
        self.entries: list[tuple[Position, Entry]] = []


class Lineage:
    """The journal of a lane, walked.

    Parameters
    ----------
    broker : whose log it is about
    places : of the lane
    entries : of the journal, in order
    codec : reads records
    begun : epoch -> topic -> the life that it had when the lane was opened
    """

    def __init__(
        self,
        broker: Broker,
        places: Sequence[Place],
        entries: Entries,
        codec: Codec,
        begun: Mapping[int, Mapping[str, int]],
    ) -> None:
        self.broker, self.codec, self.places, self.begun = broker, codec, places, begun
        self.lives = dict.fromkeys(places, 0)
        self.at: dict[Place, int] = {}
        self.counts: Counter[str] = Counter()
        self.users: Counter[str] = Counter()
        self.sets: Counter[Set] = Counter()
        self.undisturbed = True
        self.segments = [Segment(History(broker, self.lives, codec))]
        self._ids: dict[Place, set[str]] = {}
        self._last: dict[str, float] = {}
        self._open: dict[Place, dict[tuple[str, float], list[str]]] = {}
        for position, entry in entries:
            self._walk(position, entry)
        for place in list(self._open):
            self._close(place)

    @property
    def bins(self) -> Counts:
        """What had to become of the records."""
        names = ("ok", "late", "duplicate", "dead_letter", "skipped")
        return Counts(*(self.counts[name] for name in names))

    def _walk(self, position: Position, entry: Entry) -> None:
        if isinstance(entry, Rewound):
            self._rewind(position.epoch, entry)
        elif isinstance(entry, CutEntry):
            for topic, partition, first, last in entry.reads:
                self._read((topic, partition), first, last)
        elif isinstance(entry, Tick):
            self._close((entry.topic, entry.partition))
        elif isinstance(entry, GapSkip):
            self._skip(entry)
        elif isinstance(entry, Assigned):
            self._begin(position.epoch, entry)
        self.segments[-1].entries.append((position, entry))

    def _begin(self, epoch: int, entry: Assigned) -> None:
        for topic, partition, at in entry.places:
            place = topic, partition
            if place not in self.at:
                self._live(place, epoch)
                assert at in self.segments[-1].log.partition(place).firsts, (
                    f"{place}: the log never began at {at}"
                )
                self.undisturbed = self.undisturbed and at == self.lives[place] == 0
                self.at[place] = at
            assert self.at[place] == at, (
                f"{place}: taken over at {at}, but the lane stood at {self.at[place]}"
            )

    def _rewind(self, epoch: int, entry: Rewound) -> None:
        place = entry.topic, entry.partition
        self.undisturbed = False
        assert entry.cause == "recreated", f"{entry}: nothing was cut off"
        self._live(place, epoch)
        self.at[place] = entry.to

    def _live(self, place: Place, epoch: int) -> None:
        """Go on in the life of the topic that was there when the lane was opened in this epoch."""
        life = self.begun[epoch][place[0]]
        if life != self.lives[place]:
            self.lives[place] = life
            self.segments.append(Segment(History(self.broker, self.lives, self.codec)))

    def _skip(self, entry: GapSkip) -> None:
        place = entry.topic, entry.partition
        partition = self.segments[-1].log.partition(place)
        assert self.at[place] == entry.first, f"{entry}: the lane stood at {self.at[place]}"
        assert entry.next in partition.firsts, f"{entry}: the log never began there"
        self.undisturbed = False
        self.at[place] = entry.next
        self.counts["skipped"] += entry.next - entry.first

    def _read(self, place: Place, first: int, last: int) -> None:
        assert self.at.get(place) == first, (
            f"{place}: reads {first} to {last}, but stood at {self.at.get(place)}"
        )
        self.at[place] = last
        records = list(self.segments[-1].log.records(place, first, last))
        self.counts["skipped"] += last - first - len(records)
        for decoded in self.codec.decode_many(records):
            verdict = self._verdict(place, decoded) if isinstance(decoded, Event) else "dead_letter"
            self.counts["skipped" if is_skipped(decoded) else verdict] += 1

    def _verdict(self, place: Place, event: Event) -> str:
        ids = self._ids.setdefault(place, set())
        if event.id in ids:
            return "duplicate"
        last = self._last.get(event.user, float("-inf"))
        if event.time < last:
            return "late"
        if event.id is not None:
            ids.add(event.id)
        self._last[event.user] = event.time
        self.users[event.user] += 1
        self._close(place, event.time)
        self._open.setdefault(place, {}).setdefault((event.user, event.time), []).append(event.mark)
        return "ok"

    def _close(self, place: Place, before: float = math.inf) -> None:
        opened = self._open.get(place, {})
        for user, time in [one for one in opened if one[1] < before]:
            self.sets[user, time, tuple(sorted(opened.pop((user, time))))] += 1
