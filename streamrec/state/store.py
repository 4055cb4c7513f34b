"""The store of a lane: one SQLite file that holds the newest checkpoint, and its generations.

    open    in one transaction: read and verify everything, epoch := epoch + 1, record the accepted
            lengths of the earlier epochs' journal and sink files
    save    in one transaction, if the epoch is still ours: deltas, foldings, scalars, position, head
    prepare a save that can be undone, until `confirm` or `undo` (see `undo`); it folds nothing, confirm does
    every `generation_every` saves a whole copy becomes a generation (see `generations`)

A damaged file is replaced by the newest generation that verifies, and `notes` says so. A save that
the disk refused is kept in memory and becomes part of the next one. `lane.epoch` holds the highest
epoch ever given out, so that none is used twice even when the file is lost.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from streamrec.errors import DiskError, FencedError, InvariantError, StreamrecError
from streamrec.failpoints import failpoint
from streamrec.state import generations, writing
from streamrec.state.fingerprint import machine_fingerprint, refuse_changes
from streamrec.state.generations import Generation
from streamrec.state.lanefile import PREPARED, Head, Key, LaneFile, translate
from streamrec.state.reading import Loaded, newest_good, read_loaded
from streamrec.state.snapshot import Snapshot, merge
from streamrec.state.undo import Decide, open_save, put_back

LANE = "lane.sqlite"
EPOCH = "lane.epoch"
Accept = Callable[[int, Mapping[str, int]], Mapping[str, int]]
Write = Callable[[LaneFile, Head, Snapshot, int], tuple[Head, int]]


class Saved(NamedTuple):
    """What a save did: number, bytes written, the generation it made, if one was due, the newest ticket."""

    number: int
    n_bytes: int
    generation: Generation | None
    ticket: int = 0


def as_recorded(epoch: int, lengths: Mapping[str, int]) -> Mapping[str, int]:
    """Accept of an earlier epoch's files what its last checkpoint says."""
    return lengths


class LaneStore:
    """The newest checkpoint of a lane and its generations; made by `LaneStore.open`.

    All methods may be called from any thread, one at a time; writing happens under a lock.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory, LaneStore.open(directory) as store:
    ...     _ = store.save(Snapshot(serial=128, position=b"clicks:0:128"))
    ...     store.load().serial, store.epoch
    (128, 1)
    """

    def __init__(self, directory: Path, file: LaneFile, head: Head, loaded: Loaded | None) -> None:
        self.directory = directory
        self.epoch: int = head["epoch"]
        self.head = head
        self.notes: list[str] = []
        self.generation_every = 16
        self.keep = 3
        self.generation_error: StreamrecError | None = None
        self.accepted: dict[int, dict[str, int]] = {}
        self._file: LaneFile | None = file
        self._loaded = loaded
        self._pending: Snapshot | None = None
        self._due = False
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        directory: str | Path,
        settings: Mapping[str, Any] | None = None,
        *,
        may_change: Collection[str] = (),
        accept: Accept = as_recorded,
        generation_every: int = 16,
        keep: int = 3,
        decide: Decide | None = None,
        above: int = 0,
    ) -> Self:
        """Become the owner of a lane: a new epoch, which shuts out every earlier owner.

        Parameters
        ----------
        directory : folder of the lane, made if absent
        settings : settings that shape the state (JSON values, nested or flat)
        may_change : dotted paths that may differ from what is stored
        accept : given an earlier epoch and the file lengths its last checkpoint recorded, the lengths
            (bytes by file name) that readers shall accept from now on
        generation_every : saves between generations
        keep : generations kept, at least 3
        decide : given the number of a prepared save that was left open, whether it counts; asked while the
            file is locked, so it should know the answer already. What it raises is passed on, and nothing
            has changed
        above : later saves get numbers above this one: the highest that was ever told to the group, so
            that none is used twice, not even after falling back to a generation

        Raises
        ------
        StateError
            If the state is of another schema, or made with other settings, or a prepared save was left
            open and there is no `decide`.
        CorruptStateError
            If neither the file nor any generation verifies.
        DiskError
            If the disk refuses.
        """
        folder = Path(directory)
        with _translated(folder / LANE):
            folder.mkdir(parents=True, exist_ok=True)
            highest = _highest_epoch(folder)
            file, head, loaded, notes = newest_good(folder / LANE, highest == 0, decide)
        try:
            with _translated(file.path):
                head = {**head, "saves": max(head["saves"], above)}
                store = cls._begin_epoch(folder, file, head, loaded, highest, settings, may_change, accept)
        except BaseException:
            file.close()
            raise
        store.notes += notes
        store.generation_every, store.keep = generation_every, max(3, keep)
        if notes:
            store._try_generation()
        return store

    def load(self) -> Snapshot | None:
        """The newest checkpoint, all of it, or None for a lane that has none.

        What `open` verified is handed out once and not kept; a later call reads the file again.

        Raises
        ------
        CorruptStateError
            If a hash does not verify any more.
        """
        with self._lock, _translated(self.directory / LANE):
            loaded, self._loaded = self._loaded, None
            loaded = loaded or read_loaded(self._opened())
        failpoint("in_restore")
        return loaded.snapshot if self.head["saved_epoch"] else None

    def hold(self, snapshot: Snapshot) -> None:
        """Keep a snapshot for the next save, merged with what waits already."""
        with self._lock:
            self._pending = merge(self._pending, snapshot)

    @property
    def prepared(self) -> int | None:
        """Number of the prepared save that is neither confirmed nor undone, if there is one."""
        return open_save(self.head)

    def save(self, snapshot: Snapshot, prepared: bool = False) -> Saved:
        """Commit a snapshot, and all that earlier failed saves left, in one transaction.

        Parameters
        ----------
        snapshot : what to save
        prepared : whether it can be undone, and counts only after `confirm`; no generation is made of it

        Raises
        ------
        FencedError
            If the lane has another owner now; nothing was written.
        DiskError
            If the disk refused; nothing was written, and the snapshot waits for the next save.
        InvariantError
            If a prepared save is open; the snapshot waits for the next save.
        """
        self.hold(snapshot)
        saved = self.flush(prepared)
        assert saved is not None
        return saved

    def flush(self, prepared: bool = False) -> Saved | None:
        """Commit what `hold` and failed saves left; None if there is nothing. Otherwise as `save`."""
        with self._lock, _translated(self.directory / LANE):
            pending = self._pending
            if pending is None:
                return None
            if self.prepared is not None:
                raise InvariantError(
                    f"{self.directory}: save {self.prepared} is prepared and open; confirm or undo it first"
                )
            _about_to_save(prepared)
            n_bytes = self._transact(pending, writing.prepare if prepared else writing.write)
            self._pending, self._loaded = None, None
            self._due = self._due or self.head["saves"] % self.generation_every == 0
            _saved(prepared)
            return Saved(self.head["saves"], n_bytes, self._due_generation(), pending.ticket)

    def confirm(self) -> None:
        """Let the prepared save count; fold what is due, and make a generation, if one is due.

        Raises
        ------
        FencedError
            If the lane has another owner now, who has settled it.
        DiskError
            If the disk refused: the save is still open, and this may be called again.
        InvariantError
            If no prepared save is open.
        """
        with self._lock, _translated(self.directory / LANE):
            self._settle(writing.confirm)
            failpoint("after_transaction")
            self._due_generation()

    def undo(self) -> None:
        """Go back to the state before the prepared save; `load` hands it out.

        What waits for the next save is dropped: it goes on from a state that does not count. Components
        must be restored from `load` before the next snapshot is taken.

        Raises
        ------
        CorruptStateError
            If what was kept of the state before is damaged; the save is still open.
        FencedError, DiskError, InvariantError
            As for `confirm`.
        """
        with self._lock, _translated(self.directory / LANE):
            self._settle(put_back)
            self._pending, self._loaded = None, None
            failpoint("after_transaction")

    def check_owner(self) -> None:
        """Stop early if the lane has another owner now; every save makes sure of it in its transaction.

        Raises
        ------
        FencedError
            If a later epoch was begun.
        """
        newest = _highest_epoch(self.directory)
        if newest > self.epoch:
            raise FencedError(
                f"{self.directory}: opened as epoch {newest} since, we are {self.epoch}; nothing was "
                "written; stop this process, the other one owns the lane"
            )

    def close(self) -> None:
        """Close the file; what is committed stays."""
        with self._lock:
            self._drop_connection()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @classmethod
    def _begin_epoch(
        cls,
        folder: Path,
        file: LaneFile,
        head: Head,
        loaded: Loaded,
        highest: int,
        settings: Mapping[str, Any] | None,
        may_change: Collection[str],
        accept: Accept,
    ) -> Self:
        """Inside the transaction that `newest_good` began: everything is read, nothing changed yet."""
        if head["epoch"]:
            refuse_changes(head["settings"], settings or {}, may_change)
        failpoint("in_restore")
        epoch = max(head["epoch"], highest) + 1
        accepted = dict(loaded.lengths)
        for earlier in range(max(1, head["epoch"]), epoch):
            accepted[earlier] = dict(accept(earlier, loaded.lengths.get(earlier, {})))
            file.put(Key("epoch", "lengths", earlier), json.dumps(accepted[earlier], sort_keys=True).encode())
        head = {**head, "epoch": epoch, "settings": settings or {}, "machine": machine_fingerprint()}
        file.set_head(head)
        if epoch > 1:
            generations.write_whole(folder / EPOCH, str(epoch).encode())
        file.commit()
        if epoch == 1:  # only after the file exists for good: the note alone would look like a lost file
            generations.write_whole(folder / EPOCH, str(epoch).encode())
        store = cls(folder, file, head, loaded)
        store.accepted = accepted
        return store

    def _transact(self, snapshot: Snapshot, how: Write) -> int:
        with self._transaction() as (file, found):
            refused = PREPARED in found  # a prepared save that the disk refused, and kept nevertheless
            head, n_bytes = how(file, put_back(file, found) if refused else found, snapshot, self.epoch)
            self._commit(file, head)
        return n_bytes

    def _settle(self, how: Callable[[LaneFile, Head], Head]) -> None:
        if self.prepared is None:
            raise InvariantError(f"{self.directory}: no prepared save is open, there is nothing to settle")
        with self._transaction() as (file, head):
            self._commit(file, how(file, head) if PREPARED in head else head)  # else: refused, yet kept

    @contextmanager
    def _transaction(self) -> Iterator[tuple[LaneFile, Head]]:
        """A write transaction, if the epoch is still ours; the block has to commit."""
        file = self._opened()
        try:
            head = file.begin()
            newest = max(head["epoch"], _highest_epoch(self.directory))  # the note: our file may be set aside
            if newest != self.epoch:
                raise FencedError(
                    f"{file.path}: opened as epoch {newest} since, we are {self.epoch}; nothing was "
                    "written; stop this process, the other one owns the lane"
                )
            if not file.manifest:
                file.read_manifest(head)
            yield file, head
        except BaseException:
            self._drop_connection()  # undoes the transaction; the next save starts from what is committed
            raise

    def _commit(self, file: LaneFile, head: Head) -> None:
        failpoint("mid_transaction")
        file.set_head(head)
        file.commit()
        self.head = head

    def _due_generation(self) -> Generation | None:
        """Make a generation if one is due, of what counts."""
        if not self._due or self.prepared is not None:
            return None
        self._due = False
        return self._try_generation()

    def _try_generation(self) -> Generation | None:
        """Make a generation; if that fails the checkpoint stands, and `generation_error` says why."""
        try:
            with _translated(self.directory):
                made = generations.make(self._opened(), self.epoch, self.keep)
        except DiskError as error:
            self.generation_error = error
            return None
        self.generation_error = None
        return made

    def _opened(self) -> LaneFile:
        if self._file is None:
            self._file = LaneFile(self.directory / LANE)
        return self._file

    def _drop_connection(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _about_to_save(prepared: bool) -> None:
    if prepared:
        failpoint("before_prepare")
    else:
        failpoint("before_transaction")


def _saved(prepared: bool) -> None:
    if prepared:
        failpoint("after_prepare")
    else:
        failpoint("after_transaction")


def _highest_epoch(folder: Path) -> int:
    noted = folder / EPOCH
    return int(noted.read_text()) if noted.exists() else 0


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into one line of our own."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(path, error) from error
    except OSError as error:
        raise DiskError(
            f"{path}: {error}; nothing was written; make room or give the right to write"
        ) from error
