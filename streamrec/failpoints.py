"""Named places where a test can kill the program or break the disk.

    STREAMREC_FAILPOINT=after_update          SIGKILL at the first hit
    STREAMREC_FAILPOINT=after_update:3        SIGKILL at the third hit
    STREAMREC_FAILPOINT=before_journal:1:raise  OSError(ENOSPC) there, once, as from a full disk
    STREAMREC_FAILPOINT=before_sync:1:EIO     another OSError, once

The environment is read once, at import; an unarmed failpoint costs one comparison.
"""

import errno
import os
import signal

from streamrec.errors import ConfigError

OF_LANES = {
    "after_read": "records were read from the source, nothing was done with them",
    "before_journal": "a cut is closed, its journal entry not yet written",
    "after_journal": "the journal entry is written, the cut not yet applied",
    "mid_cut": "waiting times of the cut are forecast and scored, its marks not",
    "before_update": "all forecasts of the cut are issued, nothing is learned",
    "after_update": "the cut is learned",
    "before_emit": "forecasts are ready, none is written",
    "after_emit": "forecasts are written, the cut is not in a checkpoint",
    "before_transaction": "the checkpoint is copied, its transaction not begun",
    "mid_transaction": "some rows of the checkpoint are written, nothing is committed",
    "after_transaction": "the checkpoint is committed, nobody was told",
    "before_generation": "a generation is due, its file not begun",
    "mid_generation": "the generation's file is partly written",
    "in_restore": "the state is partly loaded",
    "before_produce": "forecasts of a cut are about to be sent to a topic",
    "after_produce": "forecasts of a cut are sent, perhaps not acknowledged",
    "before_sync": "journal entries are written, not yet fsynced",
}
"""Steps of every lane, whatever it reads."""

OF_TOPICS = {
    "after_poll": "records were polled from a topic, none is in a cut",
    "before_commit": "a checkpoint is on the disk, its offsets not committed to the group",
    "after_commit": "the offsets are committed to the group",
    "in_revoke": "partitions are being given up, their lane not kept yet",
    "after_revoke": "the lane that is given up is on the disk, its offsets not committed to the group",
}
"""Steps of the daemon."""

OF_TRANSACTIONS = {
    "before_prepare": "a transaction's checkpoint is due, none of it is on the disk",
    "after_prepare": "the prepared checkpoint is on the disk, the transaction not committed",
    "after_transaction_end": "the transaction is committed, the checkpoint still called prepared",
}
"""Steps of a checkpoint that ends a transaction."""

FAILPOINTS = {**OF_LANES, **OF_TOPICS, **OF_TRANSACTIONS}


ERRORS = {"": 0, "raise": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}
"""What a failpoint raises; 0: it kills."""


class _Armed:
    """Which failpoint fires, at which hit, and with which error, 0 for SIGKILL."""

    __slots__ = ("code", "hits_left", "name")

    def __init__(self, name: str, hits_left: int, code: int) -> None:
        self.name = name
        self.hits_left = hits_left
        self.code = code


_ARMED: list[_Armed] = []
"""None or one; a list, so that the hot path reads a constant."""


def arm(spec: str) -> None:
    """Arm one failpoint: `name`, `name:n` or `name:n:ERROR` (`ERRORS`); an empty text disarms.

    Raises
    ------
    ConfigError
        If the name is unknown or the rest cannot be read: a misspelt failpoint would never fire.
    """
    _ARMED.clear()
    if not spec:
        return
    name, _, rest = spec.partition(":")
    count, _, how = rest.partition(":")
    if name not in FAILPOINTS or not (count or "1").isdecimal() or int(count or 1) < 1 or how not in ERRORS:
        raise ConfigError(
            f"STREAMREC_FAILPOINT: wanted name[:n[:error]] with n >= 1, error one of raise, EIO, "
            f"EROFS, and one of {', '.join(FAILPOINTS)}; "
            f"got {spec!r}"
        )
    _ARMED.append(_Armed(name, int(count or 1), ERRORS[how]))


def failpoint(name: str) -> None:
    """Die here, or raise an OSError, if this failpoint is armed and due.

    Examples
    --------
    >>> arm("before_journal:2:raise")
    >>> failpoint("before_journal"), failpoint("before_sync")
    (None, None)
    >>> failpoint("before_journal")
    Traceback (most recent call last):
    OSError: [Errno 28] failpoint before_journal: No space left on device
    >>> failpoint("before_journal")
    """
    if _ARMED and _ARMED[0].name == name:
        _hit(_ARMED[0])


def _hit(armed: _Armed) -> None:
    armed.hits_left -= 1
    if armed.hits_left:
        return
    _ARMED.clear()
    if armed.code:
        raise OSError(armed.code, f"failpoint {armed.name}: {os.strerror(armed.code)}")
    os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("STREAMREC_FAILPOINT", ""))
