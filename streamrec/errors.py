"""All errors of streamrec, as a tree, so that a caller can pick the branch to catch.

    StreamrecError            exit code 1
    ├── ConfigError           2   a setting, an argument or an input file cannot be used
    ├── BrokerError           3   the broker refused, or cannot be reached
    │   ├── UnavailableError  3   no answer for now; the daemon goes on and asks again
    │   ├── NotMemberError    3   the group has moved on without us
    │   ├── OutOfRangeError   3   a partition does not hold the offset that was to be read
    │   └── DeliveryError     3   a message was refused for good
    ├── StateError            4   the state on disk does not fit this program or these settings
    │   ├── FencedError       4   another owner has opened the lane since
    │   └── CorruptStateError 4   no generation of the state verifies
    ├── InvariantError        5   a promise of streamrec was about to be broken
    │   └── RetentionLossError 5  records are gone from the log before they were read
    └── DiskError             6   a write failed (disk full, read-only, I/O error)

A record that cannot be decoded is not in this tree: it goes to the dead letters with its reason.
Every message says where, what was wanted, what was found, and what to do next.
"""

from collections.abc import Mapping


class StreamrecError(Exception):
    """Root of all errors; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(StreamrecError):
    """A setting, an argument or an input cannot be used as given."""

    exit_code = 2


class BrokerError(StreamrecError):
    """The broker refused us or cannot be reached."""

    exit_code = 3


class UnavailableError(BrokerError):
    """No answer came in time; whoever can wait asks again."""


class NotMemberError(BrokerError):
    """The group has moved on without us, or has given our partitions to another member."""


class OutOfRangeError(BrokerError):
    """Partitions do not hold the offsets that they were to be read from.

    Parameters
    ----------
    message : one line
    places : (topic, partition) -> the offset that was wanted
    """

    def __init__(self, message: str, places: Mapping[tuple[str, int], int]) -> None:
        super().__init__(message)
        self.places = dict(places)


class DeliveryError(BrokerError):
    """A message was refused for good; what was to be written after it is not written."""


class StateError(StreamrecError):
    """The state on disk does not fit this program or these settings."""

    exit_code = 4


class FencedError(StateError):
    """Another owner has opened the lane since; nothing was written."""


class CorruptStateError(StateError):
    """No generation of the state verifies against its hash."""


class InvariantError(StreamrecError):
    """A promise of streamrec was about to be broken; the program stops instead."""

    exit_code = 5


class RetentionLossError(InvariantError):
    """Records are gone from the log before they were read."""


class DiskError(StreamrecError):
    """A write to the disk failed; what was accepted before it is safe."""

    exit_code = 6
