"""The five bins: every record that is read ends in exactly one.

ok           accepted into a tie set
late         before its user's last set, or behind the watermark
duplicate    its id was accepted lately in its partition
dead_letter  could not be decoded; counted by reason
skipped      never seen by the codec; counted by cause (log: markers, compaction; retention; forgotten)
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from streamrec.packed import pack, unpack


class Counts(NamedTuple):
    """Records by bin; every record ends in exactly one."""

    ok: int = 0
    late: int = 0
    duplicate: int = 0
    dead_letter: int = 0
    skipped: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """The sum, bin by bin."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class _Tally(msgspec.Struct, array_like=True):
    """`Bins` as it is written down."""

    counts: Counts
    reasons: list[tuple[str, int]]
    causes: list[tuple[str, int]]


class Bins:
    """How many records ended in which bin; dead letters also by reason, skipped ones by cause.

    Examples
    --------
    >>> bins = Bins()
    >>> bins.add(Counts(ok=2, dead_letter=1), ["not_json"])
    >>> bins.counts.ok, bins.total, bins.reasons["not_json"]
    (2, 3, 1)
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self.reasons: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Records in all bins."""
        return sum(self.counts)

    def add(
        self, counts: Counts, reasons: Iterable[str] = (), causes: Iterable[tuple[str, int]] = ()
    ) -> None:
        """Add records: by bin, the reasons of the dead letters among them, the causes of the skipped ones."""
        self.counts = self.counts.plus(counts)
        self.reasons.update(reasons)
        for cause, n in causes:
            self.causes[cause] += n

    def dump(self) -> bytes:
        """All counts; equal counts give equal bytes."""
        return pack(_Tally(self.counts, sorted(self.reasons.items()), sorted(self.causes.items())))

    def load(self, data: bytes) -> None:
        """Become what `dump` wrote down; CorruptStateError if it did not."""
        tally = unpack(data, _Tally, "bins")
        self.counts = tally.counts
        self.reasons, self.causes = Counter(dict(tally.reasons)), Counter(dict(tally.causes))
