"""Which partitions are held back, and why."""

from collections.abc import Collection, Iterable, Mapping

from streamrec.daemon.held import Held
from streamrec.daemon.observer import Observer, Pause
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Member

AHEAD = 10_000
"""Records of a partition that may wait to be read into a cut."""


class Pauses:
    """Pauses and resumes a member's partitions as their lanes can take more or not.

    Parameters
    ----------
    member : of the group
    max_pending : messages under way at which everything pauses, until half of them are gone
    observer : told when a reason comes or goes
    """

    def __init__(self, member: Member, max_pending: int, observer: Observer) -> None:
        self.member, self.max_pending, self.observer = member, max_pending, observer
        self._full = False
        self._paused: set[Place] = set()
        self._reasons: set[Pause] = set()

    def gained(self, places: Iterable[Place]) -> None:
        """The member paused these by itself."""
        self._paused |= set(places)

    def update(self, mine: Collection[Place], held: Mapping[int, Held], pending: int) -> None:
        """Bring the member in line with what can be taken now."""
        self._full = pending >= self.max_pending if not self._full else pending > self.max_pending // 2
        why = self._why(mine, held)
        wanted = set().union(*why.values())
        self._paused &= set(mine)
        self.member.pause(sorted(wanted - self._paused))
        self.member.resume(sorted(self._paused - wanted))
        self._paused = wanted
        self._tell({reason for reason, places in why.items() if places})

    def _why(self, mine: Collection[Place], held: Mapping[int, Held]) -> dict[Pause, set[Place]]:
        at_work = {place for lane in held.values() for place in lane.places}
        crowded = {place for lane in held.values() for place in lane.feed.crowded(AHEAD)}
        stalled = {place for lane in held.values() if lane.stalled for place in lane.places}
        return {
            "restoring": set(mine) - at_work,
            "backpressure": set(mine) if self._full else crowded,
            "disk": stalled,
        }

    def _tell(self, reasons: set[Pause]) -> None:
        for reason in sorted(self._reasons ^ reasons):
            self.observer.paused(reason, reason in reasons)
        self._reasons = reasons
