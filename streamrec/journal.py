"""The journal: what was done, in order, in one append-only file per epoch of a lane.

    append ──► journal-<epoch>.log ──► sync         a position is (epoch, byte): the place after an entry

An entry is written before it is applied, in one write, and fsynced later by the thread that writes
checkpoints. Opening a lane records how long the files of earlier epochs are (`accepted`); what a stalled
member appends to them afterwards is never read. After the last whole entry of a file without an accepted
length a torn tail may stand, as a crash leaves it: it is cut off, with a note in the log.

The file format is in `frames.py`. Source of the epochs: fencing tokens, as in Burrows (2006), OSDI.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import msgspec

from streamrec.entries import Entry
from streamrec.errors import CorruptStateError, DiskError, FencedError
from streamrec.failpoints import failpoint
from streamrec.frames import FRAME, HEADER, Scan, damaged, frame_of, header_of

log = logging.getLogger(__name__)

_DECODER: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


class Position(NamedTuple):
    """A place between two entries; positions of a lane compare in the order of writing."""

    epoch: int
    offset: int


def journal_path(directory: Path, epoch: int) -> Path:
    """The file of an epoch."""
    return directory / f"journal-{epoch}.log"


def epochs(directory: Path) -> list[int]:
    """The epochs that have a file, in order."""
    stems = (path.stem.removeprefix("journal-") for path in directory.glob("journal-*.log"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def read(
    directory: Path, accepted: Mapping[int, int], since: Position | None = None
) -> Iterator[tuple[Position, Entry]]:
    """The entries after `since` (all that are kept if None), each with the position after it.

    Parameters
    ----------
    directory : of the lane
    accepted : length of each earlier epoch's file, in positions; nothing after it is read. The file of the
        newest epoch has none yet and is read to its last whole entry.

    Raises
    ------
    CorruptStateError
        If an accepted entry, or one before `since`, is damaged or missing; names file and byte.
    """
    found = epochs(directory)
    if since is not None and since.epoch not in found and since.offset:
        raise damaged(journal_path(directory, since.epoch), 0, since.offset)
    first = since.epoch if since is not None else min(found, default=0)
    for epoch in sorted({epoch for epoch in {*found, *accepted} if epoch >= first}):
        begin = since.offset if since is not None and epoch == first else 0
        yield from _read_epoch(directory, epoch, accepted.get(epoch), begin, since is None and epoch == first)


def _read_epoch(
    directory: Path, epoch: int, accepted: int | None, begin: int, from_base: bool
) -> Iterator[tuple[Position, Entry]]:
    path = journal_path(directory, epoch)
    if not path.exists():
        if accepted:
            raise damaged(path, 0, accepted)
        return
    scan = Scan(path, epoch)
    if scan.base > begin and not from_base:
        raise CorruptStateError(
            f"{path}: wanted entries from position {begin}, but it was pruned up to {scan.base}; "
            "restore a newer generation."
        )
    for payload in scan.payloads(accepted):
        start = scan.end - FRAME.size - len(payload)
        if start >= begin:
            yield Position(epoch, scan.end), _entry(payload, scan)
        elif scan.end > begin:
            raise CorruptStateError(
                f"{path}: position {begin} is not between two entries; load another generation."
            )
    needed = max(begin, accepted or 0)
    if scan.end < needed:
        raise damaged(path, scan.byte, needed)
    if accepted is None and scan.end < scan.length:
        log.warning("%s: torn at byte %d, the rest is not a whole entry: ignored", path, scan.byte)


def _entry(payload: bytes, scan: Scan) -> Entry:
    try:
        entry: Entry = _DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise CorruptStateError(
            f"{scan.path} before byte {scan.byte}: an entry of a kind that this version does not know "
            f"({error}); use the version that wrote it."
        ) from error
    return entry


def whole_length(directory: Path, epoch: int, known: int = 0) -> int:
    """Position of the last whole entry of an epoch's file; it is fsynced first, for it is to be accepted.

    Raises
    ------
    CorruptStateError
        If it is before `known`, up to which a checkpoint says that there are entries.
    """
    path = journal_path(directory, epoch)
    end = byte = 0
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())
        scan = Scan(path, epoch)
        for _ in scan.payloads(None):
            pass
        end, byte = scan.end, scan.byte
    if end < known:
        raise damaged(path, byte, known)
    return end


def accepted_lengths(directory: Path, accepted: Mapping[int, int], epoch: int) -> dict[int, int]:
    """Accepted lengths of all epochs before `epoch`: the known ones, and what is whole in the others now."""
    known = {earlier: length for earlier, length in accepted.items() if earlier < epoch}
    fresh = [e for e in epochs(directory) if e < epoch and e not in known]
    return known | {earlier: whole_length(directory, earlier) for earlier in fresh}


class Journal:
    """The file of our own epoch, open for appending.

    `append` and `prune` belong to the loop, `sync` to the writer thread.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from streamrec.entries import Tick
    >>> with TemporaryDirectory() as directory:
    ...     journal = Journal.open(Path(directory), epoch=1)
    ...     position = journal.append(Tick("clicks", 0, 1700000000.0))
    ...     journal.close()
    ...     [entry for _, entry in read(Path(directory), accepted={})]
    [Tick(topic='clicks', partition=0, time=1700000000.0)]
    """

    def __init__(self, directory: Path, epoch: int) -> None:
        self.directory = directory
        self.epoch = epoch
        self.path = journal_path(directory, epoch)
        self._lock = Lock()
        self._base = 0
        self._end = 0
        self._fd = -1
        self._in_doubt = False  # an fsync failed

    @classmethod
    def open(cls, directory: Path, epoch: int, accepted: Mapping[int, int] | None = None) -> "Journal":
        """Begin the file of `epoch`, or go on with it after its last whole entry.

        Parameters
        ----------
        directory : of the lane
        epoch : ours
        accepted : lengths of the files by epoch; if ours is among them, it must be whole up to there

        Raises
        ------
        FencedError
            If a later epoch was opened already.
        CorruptStateError
            If our file is damaged before its accepted length.
        DiskError
            If the file cannot be made.
        """
        accepted = accepted or {}
        newest = max((*epochs(directory), *accepted), default=epoch)
        if newest > epoch:
            raise FencedError(
                f"{directory}: wanted to write the journal of epoch {epoch}, but epoch {newest} was opened "
                "since; another member owns this lane now."
            )
        journal = cls(directory, epoch)
        try:
            journal._start(accepted.get(epoch, 0))
        except OSError as error:
            raise journal._disk_error("cannot be opened", error) from error
        return journal

    def _start(self, accepted: int) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        scan = Scan(self.path, self.epoch)
        for _ in scan.payloads(None):
            pass
        if scan.end < accepted:
            raise damaged(self.path, scan.byte, accepted)
        if scan.end < scan.length:
            log.warning("%s: torn tail of %d bytes cut off", self.path, scan.length - scan.end)
        self._base, self._end = scan.base, scan.end
        if len(scan.data) < HEADER.size:
            os.pwrite(self._fd, header_of(0), 0)
        os.ftruncate(self._fd, self._byte(self._end))
        os.fsync(self._fd)
        _fsync_directory(self.directory)

    @property
    def position(self) -> Position:
        """The place after the last entry."""
        return Position(self.epoch, self._end)

    def append(self, entry: Entry) -> Position:
        """Write an entry; the position after it. It is on the disk only after `sync`.

        Raises
        ------
        DiskError
            If it could not be written whole; the file ends with its last whole entry then.
        """
        payload = msgspec.msgpack.encode(entry)
        with self._lock:
            frame = frame_of(self.epoch, self._end, payload)
            try:
                failpoint("before_journal")
                self._write(frame, self._byte(self._end))
            except OSError as error:
                raise self._disk_error("cannot take another entry", error) from error
            self._end += len(frame)
        failpoint("after_journal")
        return self.position

    def _write(self, frame: bytes, byte: int) -> None:
        try:
            n = os.pwrite(self._fd, frame, byte)
            if n < len(frame):
                raise OSError(f"only {n} of {len(frame)} bytes were written")
        except OSError:
            with suppress(OSError):  # else the next append writes over the torn tail; readers stop before it
                os.ftruncate(self._fd, byte)
            raise

    def sync(self) -> Position:
        """Bring what was appended so far to the disk; the position up to which that holds.

        After a failure the system may have dropped what it could not write, and would call the next fsync
        a success: so the next `sync` writes the whole file anew.

        Raises
        ------
        DiskError
            If the disk refuses.
        """
        with self._lock:
            if self._in_doubt:
                self._rewrite(self._base)
            position, fd = self.position, os.dup(self._fd)
        try:
            failpoint("before_sync")
            os.fsync(fd)
        except OSError as error:
            self._in_doubt = True
            raise self._disk_error("cannot be fsynced", error) from error
        finally:
            os.close(fd)
        return position

    def truncate(self, position: Position) -> None:
        """Drop every entry of this file after `position`, which must be a place between entries."""
        with self._lock:
            if position.epoch != self.epoch or not self._base <= position.offset <= self._end:
                raise CorruptStateError(
                    f"{self.path}: cannot be cut back to {position}, it holds {self._base} to {self._end}"
                )
            os.ftruncate(self._fd, self._byte(position.offset))
            self._end = position.offset

    def prune(self, before: Position) -> None:
        """Drop entries before `before`: whole files of earlier epochs, and the front of our own.

        Our own file is written anew and put in place by a rename, so that a crash leaves one or the other.
        """
        for epoch in epochs(self.directory):
            if epoch < min(before.epoch, self.epoch):
                journal_path(self.directory, epoch).unlink()
        with self._lock:
            if before.epoch == self.epoch and self._base < before.offset <= self._end:
                self._rewrite(before.offset)

    def _rewrite(self, base: int) -> None:
        """Write the file anew from position `base` on, put it in place and go on with it; holds the lock."""
        tail = os.pread(self._fd, self._end - base, self._byte(base))
        fresh = self.path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                file.write(header_of(base) + tail)
                file.flush()
                os.fsync(file.fileno())
            fd = os.open(fresh, os.O_RDWR | os.O_CLOEXEC)
            fresh.replace(self.path)
            self._fd, old = fd, self._fd
            self._base, self._in_doubt = base, False
            os.close(old)
            _fsync_directory(self.directory)
        except OSError as error:
            raise self._disk_error("cannot be written anew", error) from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _byte(self, offset: int) -> int:
        return HEADER.size + offset - self._base

    def _disk_error(self, what: str, error: OSError) -> DiskError:
        return DiskError(f"{self.path} {what}: {error}. Nothing before it is lost; make room and go on.")


def _fsync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
