"""What the journal records: whatever changes the state and is not in the log itself.

Each kind is a tagged, frozen struct; msgspec writes it as a short array and refuses unknown tags.
"""

import msgspec

from streamrec.cut import Cut
from streamrec.spans import Read


class CutEntry(msgspec.Struct, frozen=True, array_like=True, tag="cut"):
    """A cut: what was read, how many sets it took, and whether the rest was flushed after reading."""

    reads: tuple[Read, ...]
    n_sets: int
    serial: int
    flushed: bool

    @classmethod
    def of(cls, cut: Cut) -> "CutEntry":
        """The entry of a cut.

        Examples
        --------
        >>> from streamrec.bins import Counts
        >>> CutEntry.of(Cut(128, (("clicks", 0, 40, 60),), [], Counts(ok=20), []))
        CutEntry(reads=(('clicks', 0, 40, 60),), n_sets=0, serial=128, flushed=False)
        """
        return cls(cut.reads, len(cut.sets), cut.serial, cut.flushed)


class Tick(msgspec.Struct, frozen=True, array_like=True, tag="tick"):
    """The clock of an idle partition went to `time`."""

    topic: str
    partition: int
    time: float


class GapSkip(msgspec.Struct, frozen=True, array_like=True, tag="gap"):
    """Records [first, next) of a partition are gone and were skipped, because of `cause`."""

    topic: str
    partition: int
    first: int
    next: int
    cause: str


class Rewound(msgspec.Struct, frozen=True, array_like=True, tag="rewound"):
    """A partition goes on at `to` instead of at `next`: the log was made anew, or lost its end (`cause`)."""

    topic: str
    partition: int
    next: int
    to: int
    cause: str


class ForgetUser(msgspec.Struct, frozen=True, array_like=True, tag="forget"):
    """A user's rows were zeroed."""

    user: str


class Promote(msgspec.Struct, frozen=True, array_like=True, tag="promote"):
    """A challenger became the served model."""

    model: str


class ModelAdded(msgspec.Struct, frozen=True, array_like=True, tag="add"):
    """A model joined the bank, asleep at first."""

    model: str


class ModelRemoved(msgspec.Struct, frozen=True, array_like=True, tag="remove"):
    """A model left the bank."""

    model: str


class SettingsFingerprint(msgspec.Struct, frozen=True, array_like=True, tag="settings"):
    """The settings that shape the state, as a hash, hold from here on."""

    sha256: str


class Assigned(msgspec.Struct, frozen=True, array_like=True, tag="assign"):
    """Partitions were taken over: topic, partition, next offset."""

    places: tuple[tuple[str, int, int], ...]


class Revoked(msgspec.Struct, frozen=True, array_like=True, tag="revoke"):
    """Partitions were given up."""

    places: tuple[tuple[str, int, int], ...]


Entry = (
    CutEntry
    | Tick
    | GapSkip
    | Rewound
    | ForgetUser
    | Promote
    | ModelAdded
    | ModelRemoved
    | SettingsFingerprint
    | Assigned
    | Revoked
)
