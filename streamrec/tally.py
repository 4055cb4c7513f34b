"""Which partition's records ended in which bin, for the metrics of this process; never part of the state.

    per place   ok, late, duplicate    what the order stage counted while records of the place were read
                dead_letter            refused records of the place
                skipped                read - refused - what the order stage took in

The order stage counts for the whole lane, so its counters are looked at whenever the place of the records
changes and when a cut closes: nothing is done per record but one comparison. With lateness an event that was
held counts where a record released it; the sums over all places are the lane's bins in any case.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from streamrec.cut import Cut, Cutter
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject

Pairs = Iterable[tuple[Record, Event | Reject]]
Seen = tuple[int, int, int, int]
OUTCOMES = ("ok", "late", "duplicate", "dead_letter", "skipped")


class Tally:
    """Counts records by place and bin while they walk by.

    Every record must come through `reading`, and every cut of the cutter through `cut`.

    Parameters
    ----------
    cutter : as it stands now; what it did before is not counted

    Examples
    --------
    >>> from streamrec.order import Order
    >>> cutter = Cutter(Order(), lambda user: float("nan"))
    >>> tally = Tally(cutter)
    >>> pairs = [(Record("log", 0, i, b""), Event("u", "a", t)) for i, t in enumerate([5.0, 6.0, 1.0])]
    >>> cuts = [*cutter.feed(tally.reading(pairs)), *cutter.finish()]
    >>> tally.cut(cuts[0])
    >>> {outcome: n for (_, outcome), n in tally.counts.items() if n}
    {'ok': 2, 'late': 1}
    """

    def __init__(self, cutter: Cutter) -> None:
        self.cutter = cutter
        self.counts: Counter[tuple[Place, str]] = Counter()
        self.reasons: Counter[str] = Counter()
        self._place: Place = ("", -1)
        first: Place = next(iter(cutter.positions), self._place)
        self._held: Counter[Place] = Counter({first: cutter.order.n_held})
        self._taken: Counter[Place] = Counter()  # by the order stage, and not in a cut yet
        self._seen = self._look()

    def reading(self, pairs: Pairs) -> Iterator[tuple[Record, Event | Reject]]:
        """The pairs, as they are."""
        for pair in pairs:
            record = pair[0]
            if record.partition != self._place[1] or record.topic != self._place[0]:
                self._settle()
                self._place = record.topic, record.partition
            yield pair
        self._settle()

    def cut(self, cut: Cut) -> None:
        """A cut closed."""
        if cut.flushed:
            self._settle_flush()
        self._settle()
        rejects = Counter((record.topic, record.partition) for record, _ in cut.rejects)
        self.reasons.update(refusal.reason for _, refusal in cut.rejects)
        read: Counter[Place] = Counter()
        for topic, partition, first, next_offset in cut.reads:
            read[topic, partition] += next_offset - first
        for place, n in read.items():
            self.counts[place, "dead_letter"] += rejects[place]
            self.counts[place, "skipped"] += n - rejects[place] - self._taken.pop(place, 0)

    def _look(self) -> Seen:
        order = self.cutter.order
        return order.n_ok, order.n_late, order.n_duplicate, order.n_held

    def _settle(self) -> None:
        """What the order stage counted since the last look belongs to the place that was read."""
        now, place = self._look(), self._place
        gains = [a - b for a, b in zip(now, self._seen, strict=True)]
        self._seen = now
        if any(gains):
            for outcome, n in zip(OUTCOMES, gains[:3], strict=False):
                self.counts[place, outcome] += n
            self._held[place] += gains[3]
            self._taken[place] += sum(gains)

    def _settle_flush(self) -> None:
        """Held events of all places were released; those that turned out late are not told apart by place."""
        left, late = self._seen[3], self._look()[1] - self._seen[1]
        for place, held in sorted(self._held.items()):
            n = min(max(held, 0), left)  # below 0: released here, held elsewhere when the process began
            n_late = min(n, late)
            self.counts[place, "late"] += n_late
            self.counts[place, "ok"] += n - n_late
            left, late = left - n, late - n_late
        self._held.clear()
        self._seen = self._look()
