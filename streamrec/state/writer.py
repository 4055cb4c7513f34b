"""Checkpoint writers: the loop hands a snapshot over between two cuts and goes on.

    loop      try_submit(take) ── a buffer is free: copy (the only pause), True
                               └─ both are busy: skipped and counted, False; nothing is copied
    thread    sync (fsync of the journal) -> one transaction -> a generation, when due

A disk that refuses is reported in `failed` until a save succeeds; the rows wait in the store and go with
the next save. Anything else (another owner, a damaged file, a bug) is raised in the loop at its
next call.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from streamrec.errors import DiskError
from streamrec.failpoints import failpoint
from streamrec.state.snapshot import Snapshot
from streamrec.state.store import LaneStore

Take = Callable[[], Snapshot]
BUFFERS = 2


class Writer(Protocol):
    """What the loop needs of a checkpoint writer."""

    @property
    def failed(self) -> DiskError | None:
        """Why the last save failed; None once one succeeds."""
        ...

    @property
    def last_success(self) -> int | None:
        """Serial of the last snapshot that is safely on the disk."""
        ...

    @property
    def last_ticket(self) -> int:
        """Ticket of the last snapshot that is safely on the disk; 0 before the first."""
        ...

    def try_submit(self, take: Take) -> bool:
        """Take a snapshot and have it written; False (and nothing taken) if no buffer is free."""
        ...

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until everything submitted is written, at most so long; whether it is.

        Raises what went wrong.
        """
        ...

    def close(self) -> None:
        """Write what was submitted, and end."""
        ...


class InlineWriter:
    """Writes at once, in the caller's thread: for tests and for small states.

    Parameters
    ----------
    store : where snapshots go
    sync : called before every transaction, to make the journal durable first

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory, LaneStore.open(directory) as store:
    ...     writer = InlineWriter(store)
    ...     writer.try_submit(lambda: Snapshot(serial=7)), writer.last_success, writer.n_saved
    (True, 7, 1)
    """

    def __init__(self, store: LaneStore, sync: Callable[[], object] | None = None) -> None:
        self.store = store
        self.sync = sync
        self.failed: DiskError | None = None
        self.last_success: int | None = None
        self.last_ticket = 0
        self.n_saved = 0
        self.n_failed = 0
        self.n_skipped = 0
        self.n_bytes = 0

    def try_submit(self, take: Take) -> bool:
        """Take a snapshot and write it; a disk error is kept in `failed`."""
        self.write(take())
        return True

    def drain(self, timeout_s: float | None = None) -> bool:
        """Write what a failed save left, if anything; True.

        Raises
        ------
        DiskError
            If the disk still refuses.
        """
        if self.failed is not None:
            self._attempt(None)
        if self.failed is not None:
            raise self.failed
        return True

    def close(self) -> None:
        """Nothing waits."""

    def write(self, snapshot: Snapshot) -> None:
        """Write one snapshot; it is kept for the next save if the disk refuses."""
        self.store.hold(snapshot)
        self._attempt(snapshot.serial)

    def _attempt(self, serial: int | None) -> None:
        try:
            failpoint("before_sync")
            if self.sync is not None:
                self.sync()
            saved = self.store.flush()
        except DiskError as error:
            self._note_failure(error)
        except OSError as error:
            self._note_failure(DiskError(f"journal: {error}; the checkpoint waits; make room"))
        else:
            self.failed = None
            self.last_success = self.store.head["serial"] if serial is None else serial
            self.last_ticket = saved.ticket if saved else self.last_ticket
            self.n_saved += 1
            self.n_bytes = saved.n_bytes if saved else 0

    def _note_failure(self, error: DiskError) -> None:
        self.failed = error
        self.n_failed += 1


class ThreadWriter:
    """Writes in a thread of its own; holds at most two snapshots and never makes the loop wait.

    Parameters
    ----------
    store : where snapshots go; nobody else may write to it
    sync : called in the thread before every transaction, to make the journal durable first
    """

    def __init__(self, store: LaneStore, sync: Callable[[], object] | None = None) -> None:
        self.inner = InlineWriter(store, sync)
        self.n_skipped = 0
        self._waiting: deque[Snapshot] = deque()
        self._busy = 0
        self._closing = False
        self._fatal: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> DiskError | None:
        """Why the last save failed; None once one succeeds."""
        return self.inner.failed

    @property
    def last_success(self) -> int | None:
        """Serial of the last snapshot that is safely on the disk."""
        return self.inner.last_success

    @property
    def last_ticket(self) -> int:
        """Ticket of the last snapshot that is safely on the disk."""
        return self.inner.last_ticket

    @property
    def n_saved(self) -> int:
        """Snapshots written."""
        return self.inner.n_saved

    @property
    def n_failed(self) -> int:
        """Snapshots that the disk refused at first."""
        return self.inner.n_failed

    @property
    def n_bytes(self) -> int:
        """Bytes that the last save wrote."""
        return self.inner.n_bytes

    def check(self) -> None:
        """Raise what stopped the thread, if anything did (another owner, damage, a bug)."""
        if self._fatal is not None:
            raise self._fatal

    def try_submit(self, take: Take) -> bool:
        """Take a snapshot if a buffer is free and hand it to the thread; never waits for the disk."""
        self.check()
        with self._changed:
            if self._busy >= BUFFERS or self._closing:
                self.n_skipped += 1
                return False
        snapshot = take()  # only this thread submits, so the buffer stays free
        with self._changed:
            self._busy += 1
            self._waiting.append(snapshot)
            self._changed.notify_all()
        return True

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until everything submitted is written, at most so long; raises what went wrong."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._busy == 0 or self._fatal is not None, timeout_s)
        self.check()
        return done and self.inner.drain()

    def close(self) -> None:
        """Drain, and end the thread."""
        try:
            self.drain()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._thread.join()

    def _run(self) -> None:
        while (snapshot := self._next()) is not None:
            try:
                self.inner.write(snapshot)
            except BaseException as error:  # whatever it is, the loop has to hear of it
                self._fatal = error
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()
            if self._fatal is not None:
                return

    def _next(self) -> Snapshot | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closing)
            return self._waiting.popleft() if self._waiting else None
