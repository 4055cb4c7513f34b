"""Which records were read for a lane and wait to be applied: what their places and timestamps tell.

    read ahead ──► offsets, timestamps, event or not ──► a cut closes over a range of them

A live feed reads ahead of its cuts, so that nobody sees here which record the order stage finds late. Exact
per place: records, dead letters, skipped ones, and every outcome of a cut that read one partition or dropped
no event. Late and duplicate events of other cuts are shared out by numbers of events; sums over partitions
are exact.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from streamrec.arrays import Floats
from streamrec.cut import Cut
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject

KEPT = 8192
"""Applied records of a partition that are remembered, for tie sets that close later."""


class _Read:
    """Records of one partition, in order; those before `at` are in cuts."""

    __slots__ = ("at", "events", "offsets", "stamps")

    def __init__(self) -> None:
        self.offsets, self.stamps, self.events = array("q"), array("q"), bytearray()
        self.at = 0

    def advance(self, next_offset: int) -> tuple[int, int]:
        """Everything below an offset is in a cut: its events, and the last one's timestamp, ms."""
        until = bisect_left(self.offsets, next_offset, self.at)
        n_events = sum(self.events[self.at : until])
        stamp = self.stamps[until - 1] if until > self.at else -1
        self.at = until
        if until > 2 * KEPT:
            self._forget(until - KEPT)
        return n_events, stamp

    def stamp_of(self, offset: int) -> int:
        """Timestamp of a record, ms; -1 if it has none or is not remembered."""
        i = bisect_left(self.offsets, offset, 0, self.at)
        return self.stamps[i] if i < self.at and self.offsets[i] == offset else -1

    def _forget(self, n: int) -> None:
        del self.offsets[:n], self.stamps[:n], self.events[:n]
        self.at -= n


class Trail:
    """Counts a lane's records by place and bin, and times them, from what was read ahead of its cuts.

    Examples
    --------
    >>> from streamrec.bins import Counts
    >>> trail = Trail()
    >>> records = [Record("clicks", 0, i, b"x", None, 1000 * i) for i in range(3)]
    >>> _ = trail.reading([(record, Event("u", "a", 1.0)) for record in records])
    >>> trail.cut(Cut(0, (("clicks", 0, 0, 2),), [], Counts(ok=2), []))
    >>> trail.counts[("clicks", 0), "ok"], trail.stamps
    (2, {('clicks', 0): 1.0})
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Place, str]] = Counter()
        self.reasons: Counter[str] = Counter()
        self.n_bytes: Counter[str] = Counter()
        self.stamps: dict[Place, float] = {}
        self._reads: dict[Place, _Read] = {}

    def reading(
        self, pairs: Sequence[tuple[Record, Event | Reject]]
    ) -> Sequence[tuple[Record, Event | Reject]]:
        """Decoded records on their way into the lane; they pass as they are."""
        place, read = ("", -1), _Read()
        for (topic, partition, offset, value, key, stamp), decoded in pairs:
            if partition != place[1] or topic != place[0]:
                place = topic, partition
                read = self._reads.setdefault(place, _Read())
            read.offsets.append(offset)
            read.stamps.append(stamp)
            read.events.append(isinstance(decoded, Event))
            self.n_bytes[topic] += len(value or b"") + len(key or b"")
        return pairs

    def cut(self, cut: Cut) -> None:
        """A cut was applied."""
        rejects = Counter((record.topic, record.partition) for record, _ in cut.rejects)
        self.reasons.update(refusal.reason for _, refusal in cut.rejects)
        events: Counter[Place] = Counter()
        for topic, partition, first, next_offset in cut.reads:
            place = topic, partition
            n, stamp = self._reads.setdefault(place, _Read()).advance(next_offset)
            events[place] += n
            self.counts[place, "skipped"] += next_offset - first - n
            if stamp >= 0:
                self.stamps[place] = stamp / 1000
        for place in events:
            self.counts[place, "dead_letter"] += rejects[place]
            self.counts[place, "skipped"] -= rejects[place]
        weights = events if events.total() else Counter(dict.fromkeys(self._reads, 1))
        for outcome in ("ok", "late", "duplicate"):
            parts = shared(getattr(cut.counts, outcome), weights)
            for place in weights:
                self.counts[place, outcome] += parts.get(place, 0)

    def delays(self, cut: Cut, now: float) -> Floats:
        """Time since the broker's timestamps of a cut's tie sets, s; of those that have one."""
        stamps = [
            read.stamp_of(tie_set.offset)
            for tie_set in cut.sets
            if (read := self._reads.get((tie_set.topic, tie_set.partition))) is not None
        ]
        found = np.array([stamp for stamp in stamps if stamp >= 0], np.float64)
        return np.maximum(now - found / 1000, 0.0)


def shared(total: int, weights: Mapping[Place, int]) -> dict[Place, int]:
    """A number shared out in whole parts, in proportion to weights; the largest remainders round up.

    Examples
    --------
    >>> shared(5, {("a", 0): 3, ("a", 1): 6})
    {('a', 0): 2, ('a', 1): 3}
    """
    whole = sum(weights.values())
    if not total or not whole:
        return {}
    parts = {place: divmod(total * weight, whole) for place, weight in weights.items()}
    left = total - sum(n for n, _ in parts.values())
    first = sorted(parts, key=lambda place: (-parts[place][1], place))[:left]
    return {place: n + (place in first) for place, (n, _) in parts.items()}
