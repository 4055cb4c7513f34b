"""The store of a lane: one SQLite file that holds the newest checkpoint, and its generations.

    open    in one transaction: read and verify everything, epoch := epoch + 1, record the accepted
            lengths of the earlier epochs' journal and sink files
    save    in one transaction, if the epoch is still ours: deltas, foldings, scalars, position, head
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

from streamrec.errors import DiskError, FencedError, StreamrecError
from streamrec.failpoints import failpoint
from streamrec.state import generations
from streamrec.state.blob import pack
from streamrec.state.fingerprint import machine_fingerprint, refuse_changes
from streamrec.state.generations import Generation
from streamrec.state.lanefile import Head, Key, LaneFile, translate
from streamrec.state.reading import Loaded, newest_good, read_loaded
from streamrec.state.snapshot import Snapshot, merge
from streamrec.state.stripes import drop_table, fold, write_table

LANE = "lane.sqlite"
EPOCH = "lane.epoch"
Accept = Callable[[int, Mapping[str, int]], Mapping[str, int]]


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

        Raises
        ------
        StateError
            If the state is of another schema, or made with other settings.
        CorruptStateError
            If neither the file nor any generation verifies.
        DiskError
            If the disk refuses.
        """
        folder = Path(directory)
        with _translated(folder / LANE):
            folder.mkdir(parents=True, exist_ok=True)
            highest = _highest_epoch(folder)
            file, head, loaded, notes = newest_good(folder / LANE, may_be_new=highest == 0)
        try:
            with _translated(file.path):
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
        return loaded.snapshot if self.head["saves"] else None

    def hold(self, snapshot: Snapshot) -> None:
        """Keep a snapshot for the next save, merged with what waits already."""
        with self._lock:
            self._pending = merge(self._pending, snapshot)

    def save(self, snapshot: Snapshot) -> Saved:
        """Commit a snapshot, and all that earlier failed saves left, in one transaction.

        Raises
        ------
        FencedError
            If the lane has another owner now; nothing was written.
        DiskError
            If the disk refused; nothing was written, and the snapshot waits for the next save.
        """
        self.hold(snapshot)
        saved = self.flush()
        assert saved is not None
        return saved

    def flush(self) -> Saved | None:
        """Commit what `hold` and failed saves left; None if there is nothing. Errors as for `save`."""
        with self._lock, _translated(self.directory / LANE):
            pending = self._pending
            if pending is None:
                return None
            failpoint("before_transaction")
            n_bytes = self._transact(pending)
            self._pending, self._loaded = None, None
            failpoint("after_transaction")
            due = self.head["saves"] % self.generation_every == 0
            made = self._try_generation() if due else None
            return Saved(self.head["saves"], n_bytes, made, pending.ticket)

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

    def _transact(self, snapshot: Snapshot) -> int:
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
            n_bytes = _write(file, snapshot, self.epoch, head["saves"] + 1)
            failpoint("mid_transaction")
            changed = {"saves": head["saves"] + 1, "serial": snapshot.serial, "n_events": snapshot.n_events}
            head = {**head, **changed, "saved_epoch": self.epoch}
            file.set_head(head)
            file.commit()
            self.head = head
        except BaseException:
            self._drop_connection()  # undoes the transaction; the next save starts from what is committed
            raise
        return n_bytes

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


def _write(file: LaneFile, snapshot: Snapshot, epoch: int, save: int) -> int:
    """Everything of a snapshot but the head; bytes written."""
    tables = {
        f"{c}/{t}": table
        for c, component in snapshot.components.items()
        for t, table in component.tables.items()
    }
    whole = {Key("scalars", name): pack(component.scalars) for name, component in snapshot.components.items()}
    whole |= {Key("blob", name): data for name, data in snapshot.blobs.items()}
    whole[Key("position", "")] = snapshot.position
    whole[Key("epoch", "lengths", epoch)] = json.dumps(snapshot.lengths, sort_keys=True).encode()
    for key in [key for key in file.manifest if key.kind == "spec" and key.name not in tables]:
        drop_table(file, key.name)
    file.delete([key for key in file.manifest if key.kind in ("scalars", "blob") and key not in whole])
    added = sum(file.put(key, data) for key, data in whole.items())
    in_tables = sum(write_table(file, name, table, save) for name, table in tables.items())
    return added + in_tables + fold(file, in_tables)


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
