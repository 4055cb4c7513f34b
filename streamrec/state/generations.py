"""Generations: whole copies of a lane's file, each beside its sha256, for the day the file is damaged.

    generation-<epoch>-<save>.sqlite            made by SQLite's backup API from what is committed
    generation-<epoch>-<save>.sqlite.sha256     written last; a copy without it does not count

Write to a temporary file, fsync, rename, fsync the directory. The name comes from the head inside the
copy, so that two copies that were swapped are found out; a later epoch beats any save of an earlier
one. Older copies go only when `keep` newer ones have verified. No copy holds a save that can still be
undone: copies are what a lane goes back to.
"""

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from streamrec.errors import CorruptStateError, DiskError, FencedError, StreamrecError
from streamrec.failpoints import failpoint
from streamrec.state.lanefile import PREPARED, LaneFile, translate

PATTERN = "generation-*-*.sqlite"


class Generation(NamedTuple):
    """One copy: epoch and number of the save it holds, and where it lies. Sorts from old to new."""

    epoch: int
    save: int
    path: Path


def listed(directory: Path) -> list[Generation]:
    """Complete copies in a directory, newest first; nothing is verified yet."""
    paths = [p for p in directory.glob(PATTERN) if _side(p).exists()]
    return sorted((_named(path) for path in paths), reverse=True)


def verify(generation: Generation) -> None:
    """Read a copy through and compare it with its sha256.

    Raises
    ------
    CorruptStateError
        If it does not verify, or holds another epoch or save than its name says, or one that is open.
    """
    try:
        wanted, got = _side(generation.path).read_text().strip(), sha256_of(generation.path)
        if wanted != got:
            raise CorruptStateError(f"{generation.path}: sha256 is {got[:12]}, expected {wanted[:12]}")
        if _content(generation.path)[:2] != generation[:2]:
            raise CorruptStateError(f"{generation.path}: holds another save than its name says")
    except sqlite3.Error as error:
        raise CorruptStateError(f"{generation.path}: {error}") from error
    except OSError as error:
        raise CorruptStateError(f"{generation.path}: cannot be read: {error}") from error


def make(file: LaneFile, epoch: int, keep: int) -> Generation:
    """Copy what is committed into a new generation, and let the oldest go.

    Raises
    ------
    FencedError
        If the lane was opened by another owner since.
    DiskError
        If the copy cannot be written; those that were there stay.
    """
    failpoint("before_generation")
    directory = file.path.parent
    partial = directory / "generation.partial"
    try:
        _copy(file, partial)
        generation = _place(partial, epoch)
        file.truncate_wal()
    except OSError as error:
        raise DiskError(f"{partial}: {error}; no generation was made, older ones stay") from error
    except sqlite3.Error as error:
        raise _not_made(partial, error) from error
    _prune(directory, keep)
    return generation


def install(generation: Generation, target: Path) -> None:
    """Put a verified copy in the place of the lane's file; the damaged one stays beside it as `*.damaged`.

    Raises
    ------
    DiskError
        If there is no room for it.
    """
    partial = target.with_suffix(".restoring")
    try:
        with generation.path.open("rb") as source, partial.open("wb") as copy:
            while block := source.read(1 << 22):
                copy.write(block)
            _sync(copy.fileno())
        _set_aside(target)
        failpoint("in_restore")
        partial.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise DiskError(f"{target}: {error}; the generation was not put in place; make room") from error


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that after any crash it is the old one or the new one, whole."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        _sync(file.fileno())
    partial.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames in a directory durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy(file: LaneFile, partial: Path) -> None:
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as copy:
        copy.execute("PRAGMA journal_mode=OFF")
        file.connection.backup(copy)
    failpoint("mid_generation")
    with partial.open("rb+") as written:
        _sync(written.fileno())


def _place(partial: Path, epoch: int) -> Generation:
    """Give a finished copy its name and its side record; the side record makes it count."""
    held = _content(partial)
    if held.epoch != epoch:
        partial.unlink()
        raise FencedError(f"{partial.parent}: opened as epoch {held.epoch} since; we are {epoch}; stop")
    path = partial.with_name(f"generation-{held.epoch:08d}-{held.save:010d}.sqlite")
    digest = sha256_of(partial)
    _side(path).unlink(missing_ok=True)
    partial.rename(path)
    failpoint("mid_generation")
    write_whole(_side(path), digest.encode())
    return Generation(held.epoch, held.save, path)


def _prune(directory: Path, keep: int) -> None:
    """Delete what is older than the `keep` newest copies that verify; with fewer of those, nothing."""
    good = 0
    for path in sorted(directory.glob(PATTERN), reverse=True):
        if good == keep:
            _side(path).unlink(missing_ok=True)
            path.unlink()
        elif _side(path).exists() and _verifies(_named(path)):
            good += 1


def _verifies(generation: Generation) -> bool:
    try:
        verify(generation)
    except StreamrecError:
        return False
    return True


def _content(path: Path) -> Generation:
    with closing(LaneFile(path, "ro&immutable=1")) as file:
        head = file.head()
    if PREPARED in head:
        raise CorruptStateError(f"{path}: save {head['saves']} is prepared and may not count")
    return Generation(head["epoch"], head["saves"], path)


def _named(path: Path) -> Generation:
    _, epoch, save = path.stem.split("-")
    return Generation(int(epoch), int(save), path)


def _side(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _set_aside(target: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        old = target.with_name(target.name + suffix)
        if old.exists():
            old.rename(target.with_name(target.name + ".damaged" + suffix))


def _not_made(partial: Path, error: sqlite3.Error) -> StreamrecError:
    translated = translate(partial, error)
    return translated if isinstance(translated, CorruptStateError) else DiskError(str(translated))


def _sync(handle: int) -> None:
    os.fsync(handle)
