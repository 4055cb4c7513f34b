"""Whether somebody else has a lane's file open, and whether it has changed since it was looked at.

An owner keeps its connection open as long as it lives, and with it SQLite's shared lock. Leaving the WAL mode
needs the file alone, so that trying to is a question that the operating system answers.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from streamrec.errors import StateError
from streamrec.state.lanefile import Head, LaneFile, translate

WAIT_S = 2.0
"""Longest wait for those who only look."""


class Stamp(NamedTuple):
    """What changes with every owner and every checkpoint."""

    epoch: int
    saves: int


def stamp_of(head: Head) -> Stamp:
    """The stamp of a head."""
    return Stamp(head["epoch"], head["saves"])


def refuse_in_use(folder: Path, wait_s: float = WAIT_S) -> None:
    """Make sure that no process has a lane open.

    Raises
    ------
    StateError
        If one has.
    DiskError
        If the file cannot be written to.
    """
    path = folder / "lane.sqlite"
    try:
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=rw", uri=True, timeout=wait_s)) as file:
            file.execute("PRAGMA journal_mode=DELETE").fetchall()
            file.execute("PRAGMA journal_mode=WAL").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise translate(path, error) from error
        raise StateError(
            f"{folder}: a process has this state open; stop the daemon, and begin again"
        ) from error


def refuse_moved(folder: Path, seen: Stamp) -> None:
    """Make sure that a lane is as it was when its head was seen.

    Raises
    ------
    StateError
        If it had another owner, or a checkpoint, since.
    """
    path = folder / "lane.sqlite"
    try:
        with closing(LaneFile(path, "ro")) as file:
            now = stamp_of(file.head())
    except sqlite3.Error as error:
        raise translate(path, error) from error
    if now != seen:
        raise StateError(
            f"{folder}: somebody has used this state meanwhile (epoch {seen.epoch} save {seen.saves}, now "
            f"epoch {now.epoch} save {now.saves}); stop the daemon, and begin again"
        )
