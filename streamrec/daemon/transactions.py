"""Checkpoints that are one with a Kafka transaction: forecasts become visible once, with their checkpoint.

    prepare   SQLite holds checkpoint N, and what it takes to go back from it
    commit    the broker makes forecasts and offsets visible; the offsets carry the name of N
    confirm   N counts; the next transaction begins
    crash     whoever opens the lane next shuts us out, then looks whether the offsets carry N's name

All of it happens between two cuts, in the loop's thread: a transaction holds what was sent before its
checkpoint and nothing after it, so the loop waits for the disk and the broker here. Source: two-phase
commit with the broker as coordinator, as in Kafka's KIP-98 and in Flink's `TwoPhaseCommitSinkFunction`.
"""

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from streamrec.errors import BrokerError, DiskError, FencedError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit, Member, Transactor
from streamrec.failpoints import failpoint
from streamrec.state.generations import write_whole
from streamrec.state.store import LaneStore
from streamrec.state.writer import Take

NAME = "lane.name"
CLOSE_S = 1.0
"""Most time that closing a transactor takes."""


def name_of(folder: Path) -> str:
    """A name that no other state folder has, made when it is first asked for."""
    path = folder / NAME
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, uuid.uuid4().hex.encode())
        return path.read_text()
    except OSError as error:
        raise DiskError(f"{path}: {error}; make room or give the right to write") from error


def last_committed(name: str, committed: Mapping[Place, Commit]) -> int:
    """Number of the last checkpoint of this folder whose transaction was committed; 0 if there is none.

    Examples
    --------
    >>> last_committed("a", {("clicks", 0): Commit(7, "a:3"), ("clicks", 1): Commit(5, "b:9")})
    3
    """
    tags = (commit.metadata.rpartition(":") for commit in committed.values())
    return max((int(number) for owner, _, number in tags if owner == name and number.isdecimal()), default=0)


class TransactionWriter:
    """A checkpoint writer (see `state.writer.Writer`) that ends a transaction with every checkpoint.

    Parameters
    ----------
    store : of the lane
    sync : brings journal and messages out, before the checkpoint is prepared
    transactor : recovered, with no transaction begun
    member : for whose group offsets are committed
    positions : what the checkpoint that is being taken has read
    name : of the folder, see `name_of`
    """

    def __init__(
        self,
        store: LaneStore,
        sync: Callable[[], object],
        transactor: Transactor,
        member: Member,
        positions: Callable[[], Mapping[Place, int]],
        name: str,
    ) -> None:
        self.store, self.sync, self.transactor, self.member = store, sync, transactor, member
        self.positions, self.name = positions, name
        self.failed: DiskError | None = None
        self.last_success: int | None = None
        self.last_ticket = 0
        self.n_saved = self.n_failed = self.n_skipped = self.n_bytes = 0
        transactor.begin()

    def try_submit(self, take: Take) -> bool:
        """Prepare, commit, confirm; False if the disk refused: the transaction is open for the next time.

        Raises
        ------
        FencedError
            If another one writes for this lane.
        UnavailableError
            If the transaction's outcome is not known; the lane has to be opened anew.
        """
        snapshot = take()
        self.store.hold(snapshot)
        try:
            self._end(snapshot.serial)
        except DiskError as error:
            self.failed, self.n_failed = error, self.n_failed + 1
        return self.failed is None

    def drain(self, timeout_s: float | None = None) -> bool:
        """Nothing waits: what was refused needs a snapshot of its own, taken when it is tried again."""
        return True

    def close(self) -> None:
        """Drop what was sent since the last checkpoint, and the transactor: an opening makes its own."""
        try:
            with suppress(BrokerError, FencedError):
                self.transactor.abort()
        finally:
            self.transactor.close(CLOSE_S)

    def _end(self, serial: int) -> None:
        if self.store.prepared is not None:  # the last one counts, but the disk refused to say so
            self.store.confirm()
        positions = self.positions()
        self.sync()
        saved = self.store.flush(prepared=True)
        if saved is None:
            return
        tag = _tag(self.name, saved.number)
        self.transactor.commit({place: Commit(at, tag) for place, at in positions.items()}, self.member)
        failpoint("after_transaction_end")
        self.transactor.begin()
        self.store.confirm()
        self.failed, self.last_success, self.last_ticket = None, serial, saved.ticket
        self.n_saved, self.n_bytes = self.n_saved + 1, saved.n_bytes


def _tag(name: str, number: int) -> str:
    return f"{name}:{number}"
