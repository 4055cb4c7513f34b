"""A lane that this member holds: what was read for it, the steps that it makes, and what the group may know.

    records ─► decode ─► feed ─► steps ─► lane ─► checkpoint, when due ─► commits for the group

A journal that cannot be written stops the lane where it stands: the step is tried again, and nothing is read
for it meanwhile. An error in the middle of a step leaves the lane unsound: it is given back as the last
checkpoint left it, and opened anew.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from streamrec.cut import Cut
from streamrec.daemon.feeds import Feed, Step
from streamrec.daemon.observer import Observer
from streamrec.entries import Revoked
from streamrec.errors import DiskError, StreamrecError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject
from streamrec.failpoints import failpoint
from streamrec.lane import Lane
from streamrec.state.writer import ThreadWriter

DONE_S = 0.5
"""Most time that a writer is waited for whose work is not wanted any more."""

Clock = Callable[[], float]
Decode = Callable[[Sequence[Record]], list[Event | Reject]]


class Held:
    """One lane, from the moment it is ours until it is not.

    Parameters
    ----------
    number : of the lane
    lane : open
    places : its partitions, in order
    feed : makes its steps
    decode : reads records
    clock : s, monotonic
    every_s : time between two checkpoints
    observer : told of cuts
    """

    def __init__(
        self,
        number: int,
        lane: Lane,
        places: Sequence[Place],
        feed: Feed,
        decode: Decode,
        clock: Clock,
        every_s: float,
        observer: Observer,
    ) -> None:
        self.number, self.lane, self.places = number, lane, tuple(places)
        self.feed, self.decode, self.observer = feed, decode, observer
        self.clock, self.every_s = clock, every_s
        self.stalled: DiskError | None = None
        self.committed: Mapping[Place, int] = {}
        self.read: dict[Place, int] = {place: lane.positions.get(place, 0) for place in self.places}
        self._steps: Iterator[Step] = iter(())
        self._refused: Step | None = None
        self._kept_at, self._serial_kept = clock(), lane.cutter.offsets_advanced

    def take(self, records: Sequence[Record]) -> None:
        """Records of our partitions, just read."""
        for record in records:
            self.read[record[:2]] = record.offset + 1
        pairs = list(zip(records, self.decode(records), strict=True))
        self.feed.take(self.observer.reading(self.number, pairs))

    def work(self) -> None:
        """Make every step that is due, and a checkpoint if that is.

        Raises
        ------
        DiskError
            If the lane is unsound now.
        FencedError
            If another member has opened the lane since.
        BrokerError
            If forecasts cannot be sent.
        """
        if self._stays_refused() or not self._go_on():
            return
        self._steps = self.feed.steps()
        if self._go_on():
            self.keep_if_due()

    def keep_if_due(self) -> None:
        """Make a checkpoint if enough events or time went by and something is new, or not on the disk yet."""
        if not self.feed.resting:
            return
        self.lane.keep_if_due()
        writer = self.lane.writer
        refused = writer is not None and writer.failed is not None
        new = refused or self.lane.cutter.offsets_advanced != self._serial_kept
        if new and self.clock() - self._kept_at >= self.every_s:
            self.keep()

    def keep(self) -> bool:
        """Make a checkpoint now; False if the writer is busy."""
        taken = self.lane.checkpoint()
        if taken:
            self._kept_at, self._serial_kept = self.clock(), self.lane.cutter.offsets_advanced
        return taken

    def commits(self) -> Mapping[Place, int]:
        """What the group is to be told: positions of the newest checkpoint that is on the disk, if new."""
        kept = {place: at for place, at in self.lane.kept.items() if place in self.read}
        return {} if kept == self.committed else kept

    def applied(self, at: Mapping[Place, int]) -> dict[Place, int]:
        """Next offsets of what is learned; where nothing waits that is where the member stands (`at`).

        The member has gone past transaction markers, which are no records.
        """
        learned = self.lane.positions
        return {p: at.get(p, n) if n == self.read.get(p) else n for p, n in learned.items() if p in self.read}

    def finish(self, at_end: bool = False) -> bool:
        """Before the lane is given up, at the log's end or before: finish the cut, and journal that it goes.

        Returns whether the lane stands where it may be kept; if not, its last checkpoint is what counts.
        """
        failpoint("in_revoke")
        if (
            self._stays_refused()
            or not all(map(self._made, self.feed.finish(at_end)))
            or not self.feed.resting
        ):
            return False
        at = self.lane.positions
        self.lane.turn(Revoked(tuple((*place, at.get(place, 0)) for place in self.places)))
        return self.lane.sound

    def abandon(self) -> None:
        """Give the lane back as its last checkpoint left it; nobody waits for a writer that waits itself."""
        if isinstance(self.lane.writer, ThreadWriter) and not _is_done(self.lane.writer):
            threading.Thread(target=self.lane.abandon, name="closing", daemon=True).start()
        else:
            self.lane.abandon()

    def _go_on(self) -> bool:
        """Make the steps that are left; a step that is refused leaves the others for later."""
        return all(self._made(step) for step in self._steps)

    def _stays_refused(self) -> bool:
        if self._refused is None:
            return False
        step, self._refused = self._refused, None
        return not self._made(step)

    def _made(self, step: Step) -> bool:
        """Make a step; False if the journal refused it, so that it is to be made again."""
        try:
            self._make(step)
        except DiskError as error:
            if not self.lane.sound:
                raise
            self.stalled, self._refused = error, step
            return False
        self.stalled = None
        return True

    def _make(self, step: Step) -> None:
        if not isinstance(step, Cut):
            self.lane.turn(step)
            return
        self.observer.applying(self.number, step)
        result = self.lane.apply(step)
        self.observer.applied(self.number, step, result)
        self.observer.between()
        if self.feed.resting:
            self.keep_if_due()


def _is_done(writer: ThreadWriter) -> bool:
    """Whether it has nothing to write, has failed, or comes to its end right now."""
    try:
        return writer.drain(DONE_S)
    except StreamrecError:
        return True
