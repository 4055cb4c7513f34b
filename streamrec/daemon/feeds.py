"""When a live lane's cuts close: what is read becomes steps, each a cut or an entry between two cuts.

    live    a cut closes when it is full, or when its first record has waited `linger_s`; its size follows the
            lag; a partition that was silent for `idle_tick_s` at the end of its log gets a tick
    fixed   rounds: the same share of accepted events from every partition, in partition order; no clock

Live cuts depend on the clock, and are journalled; fixed ones are a function of the log alone.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from streamrec.cut import Cut, Cutter
from streamrec.entries import Tick
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject
from streamrec.settings import CutSettings
from streamrec.spans import fixed_shares

Pair = tuple[Record, Event | Reject]
Clock = Callable[[], float]
Step = Cut | Tick


class Feed(Protocol):
    """Turns decoded records into steps; every step is applied before the next is asked for."""

    def crowded(self, limit: int) -> Sequence[Place]:
        """Partitions of which more than `limit` records wait to be read into a cut."""
        ...

    @property
    def resting(self) -> bool:
        """Whether the lane may be kept as it stands, so that a restart makes the same further steps."""
        ...

    def take(self, pairs: Iterable[Pair]) -> None:
        """More records, rising per partition."""
        ...

    def looked(self, lags: Mapping[Place, int]) -> None:
        """Records that the log holds beyond what was taken, per place."""
        ...

    def steps(self) -> Iterator[Step]:
        """The steps that are due now."""
        ...

    def finish(self, at_end: bool) -> Iterator[Step]:
        """The cut that is being made, as it is: the lane is to be given up, at the log's end or before."""
        ...


class LiveFeed:
    """Steps by lag and clock.

    Parameters
    ----------
    cutter : of the lane
    places : its partitions
    settings : sizes and times
    clock : s, monotonic
    """

    def __init__(self, cutter: Cutter, places: Sequence[Place], settings: CutSettings, clock: Clock) -> None:
        self.cutter, self.settings, self.clock = cutter, settings, clock
        self.places = tuple(places)
        self._queue: deque[Pair] = deque()
        self._began = math.inf
        self._n_cuts = 0
        self._heard: dict[Place, float] = dict.fromkeys(self.places, clock())
        self._lags: dict[Place, int] = {}

    def crowded(self, limit: int) -> Sequence[Place]:
        """All partitions or none: they share the queue."""
        return self.places if len(self._queue) > limit else ()

    @property
    def resting(self) -> bool:
        """Between two cuts: the journal says how it went on."""
        return not self.cutter.has_reads

    def take(self, pairs: Iterable[Pair]) -> None:
        """Queue records; their partitions are not silent."""
        fresh = list(pairs)
        self._queue.extend(fresh)
        self._heard |= dict.fromkeys((record[:2] for record, _ in fresh), self.clock())

    def looked(self, lags: Mapping[Place, int]) -> None:
        """Size the cuts by the lag."""
        self._lags = dict(lags)

    def steps(self) -> Iterator[Step]:
        """Full cuts, a cut that waited long enough, ticks of silent partitions."""
        while self._queue:
            self._resize()
            yield from self._noting(self.cutter.feed(self._drawn()))
        if self._is_late():
            yield from self._close()
        yield from self._ticks()

    def finish(self, at_end: bool) -> Iterator[Step]:
        """What was read, as one cut."""
        self._queue.clear()
        if self.cutter.has_reads:
            yield from self._close()

    def _resize(self) -> None:
        if not self.cutter.has_reads:
            lag = len(self._queue) + sum(self._lags.values())
            least, most = self.settings.live_min_events, self.settings.live_max_events
            self.cutter.resize(min(most, max(least, lag)))

    def _drawn(self) -> Iterator[Pair]:
        """Records out of the queue until a cut closes, so that the next may have another size."""
        queue, before = self._queue, self._n_cuts
        if queue and not self.cutter.has_work:
            self._began = self.clock()
        while queue and self._n_cuts == before:
            yield queue.popleft()

    def _noting(self, cuts: Iterator[Cut]) -> Iterator[Cut]:
        """Cuts as they come; sets that did not go into one wait from now on."""
        for cut in cuts:
            self._n_cuts += 1
            yield cut
            self._began = self.clock() if self.cutter.has_work else math.inf

    def _is_late(self) -> bool:
        return self.cutter.has_work and self.clock() - self._began >= self.settings.linger_s

    def _close(self) -> Iterator[Cut]:
        yield from self._noting(iter([self.cutter.close()]))

    def _ticks(self) -> Iterator[Step]:
        if self.cutter.has_reads:
            return
        now = self.clock()
        for place in sorted(self._heard):
            if now - self._heard[place] < self.settings.idle_tick_s or self._lags.get(place, 1) > 0:
                continue
            del self._heard[place]
            latest = self.cutter.order.latest(place[1], self.cutter.clock_of(place[0]))
            if latest > -math.inf:
                yield Tick(*place, math.nextafter(latest, math.inf))
                while self.cutter.has_work:
                    yield from self._close()


class FixedFeed:
    """Rounds of equal shares.

    Parameters
    ----------
    cutter : of the lane
    places : its partitions, in order
    """

    def __init__(self, cutter: Cutter, places: Sequence[Place]) -> None:
        self.cutter = cutter
        self.places = sorted(places)
        self.shares = fixed_shares(cutter.cut_events, len(self.places))
        self._queues: dict[Place, deque[Pair]] = {place: deque() for place in self.places}
        self._turn = 0
        self._round = cutter.order.n_ok
        self._target = self._round + self.shares[0]

    def crowded(self, limit: int) -> Sequence[Place]:
        """Those that are ahead while others are waited for."""
        return [place for place, queue in self._queues.items() if len(queue) > limit]

    @property
    def resting(self) -> bool:
        """Between two rounds, whether or not the next has begun to be looked for.

        One record may release more than its partition's share, so the count alone says nothing.
        """
        ok = self.cutter.order.n_ok
        at_the_end = self._turn == len(self.places) - 1 and ok >= self._target
        return not self.cutter.has_work and (ok == self._round or at_the_end)

    def take(self, pairs: Iterable[Pair]) -> None:
        """Queue records by partition."""
        for pair in pairs:
            self._queues[pair[0][:2]].append(pair)

    def looked(self, lags: Mapping[Place, int]) -> None:
        """Nothing: rounds do not know of lags."""

    def steps(self) -> Iterator[Step]:
        """The cuts of all rounds that are complete, and those that fill up within one."""
        while True:
            yield from self.cutter.feed(self._drawn())
            if self.cutter.order.n_ok < self._target:
                return
            if self._turn == len(self.places) - 1:
                while self.cutter.has_work:
                    yield self.cutter.close()
                self._round = self.cutter.order.n_ok
            self._turn = (self._turn + 1) % len(self.places)
            self._target = self.cutter.order.n_ok + self.shares[self._turn]

    def finish(self, at_end: bool) -> Iterator[Step]:
        """At the end of the log its last round, though it is not whole; before, nothing: it is made again."""
        while at_end and self.cutter.has_work:
            yield self.cutter.close()
        if at_end:
            self._round = self.cutter.order.n_ok

    def _drawn(self) -> Iterator[Pair]:
        queue = self._queues[self.places[self._turn]]
        while queue and self.cutter.order.n_ok < self._target:
            yield queue.popleft()
