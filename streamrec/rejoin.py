"""Going on with a log where it was left, and only if it is still the same log."""

from collections.abc import Mapping

from streamrec.errors import StateError
from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.places import check_sum


class Rejoin:
    """Goes on with a log one record early, and makes sure that it is the record that was read last.

    Parameters
    ----------
    positions : next offset per place
    checks : `check_sum` of the record before it, where it is known

    Examples
    --------
    >>> rejoin = Rejoin({("log.csv", 0): 7}, {("log.csv", 0): check_sum(b"u1,a,5")})
    >>> rejoin.start
    {('log.csv', 0): 6}
    >>> [r.offset for r in rejoin.fresh([Record("log.csv", 0, 6, b"u1,a,5"), Record("log.csv", 0, 7, b"")])]
    [7]
    """

    def __init__(self, positions: Mapping[Place, int], checks: Mapping[Place, int]) -> None:
        self.start = {place: offset - (place in checks) for place, offset in positions.items()}
        self._open = dict(checks)

    def fresh(self, records: list[Record]) -> list[Record]:
        """The records that were not read before.

        Raises
        ------
        StateError
            If another record is where the last one was.
        """
        if not self._open:
            return records
        return [record for record in records if not self._is_known(record)]

    def end(self) -> None:
        """The log has ended; StateError if it ended before a record that was read."""
        for (topic, _), offset in self.start.items():
            if (topic, _) in self._open:
                raise _changed(topic, f"ends before record {offset}, which was read")

    def _is_known(self, record: Record) -> bool:
        place = record.topic, record.partition
        if place not in self._open:
            return False
        if record.offset != self.start[place] or check_sum(record.value) != self._open.pop(place):
            raise _changed(record.topic, f"record {self.start[place]} is not the one that was read there")
        return True


def _changed(topic: str, what: str) -> StateError:
    return StateError(
        f"{topic}: not the log that the state has read, or changed other than by adding to its end: {what}; "
        "give the log as it was, or start with an empty state directory"
    )
