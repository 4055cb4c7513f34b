"""What a judge keeps between two runs: one SQLite file, written in one transaction per checkpoint.

    head      positions in both logs, sums, counts, length of the outcomes file     one row, with its sha256
    users     what is open of each user                                             a row each, with its crc32

A checkpoint writes the head and the users that changed, all or nothing, and waits for the disk. Whoever holds
the file holds it alone. Loading executes no code.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import msgspec

from streamrec.errors import CorruptStateError, DiskError, StateError
from streamrec.judge.join import Tally, User
from streamrec.judge.sums import WindowState
from streamrec.packed import pack, unpack

FILE = "judge.sqlite"
FORMAT = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS head
    (id INTEGER PRIMARY KEY CHECK (id = 1), data BLOB NOT NULL, sha256 BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS users
    (name BLOB PRIMARY KEY, data BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
"""


class Head(msgspec.Struct):
    """All of a judge but its users.

    Parameters
    ----------
    settings : what the state was made with, as JSON; another value is refused
    cutter : order and positions of the events
    forecasts : (topic, partition, next offset, check sum of the record before) of the other log
    numbered : events numbered so far
    serial : changes of users so far
    outcomes : length and check sum of the outcomes file, if there is one
    """

    format: int
    settings: str
    cutter: bytes
    forecasts: list[tuple[str, int, int, int]]
    numbered: int
    serial: int
    tally: Tally
    windows: list[WindowState]
    outcomes: tuple[int, int] | None


class Keeper:
    """The file of a judge.

    Parameters
    ----------
    folder : made if it is not there

    Raises
    ------
    StateError
        If another judge holds the folder.
    DiskError
        If the file cannot be opened or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        with self._disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=0.2, isolation_level=None)
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")

    def load(self) -> tuple[Head, dict[str, User]] | None:
        """What the last checkpoint kept; None before the first.

        Raises
        ------
        CorruptStateError
            If the file is damaged.
        StateError
            If it was made by another version.
        """
        with self._disk_errors():
            row = self._db.execute("SELECT data, sha256 FROM head").fetchone()
            kept = self._db.execute("SELECT name, data, crc FROM users").fetchall()
        if row is None:
            return None
        if sha256(row[0]).digest() != row[1] or any(crc32(data) != crc for _, data, crc in kept):
            raise CorruptStateError(
                f"{self.path}: a row does not fit its check sum: damaged; restore the file from a backup, "
                "or remove it and judge both logs again from their beginning"
            )
        head = unpack(row[0], Head, str(self.path))
        if head.format != FORMAT:
            raise StateError(
                f"{self.path}: wanted format {FORMAT}, got {head.format}: made by another version; use "
                "that one, or remove the file and judge both logs again from their beginning"
            )
        return head, {name.decode(): unpack(data, User, str(self.path)) for name, data, _ in kept}

    def keep(self, head: Head, users: Mapping[str, User], changed: set[str]) -> None:
        """Make a checkpoint: it is on the disk when this returns, or nothing of it is."""
        packed = [(name.encode(), pack(users[name])) for name in sorted(changed) if name in users]
        gone = [(name.encode(),) for name in sorted(changed) if name not in users]
        data = pack(head)
        with self._disk_errors():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("DELETE FROM users WHERE name = ?", gone)
                rows = [(name, blob, crc32(blob)) for name, blob in packed]
                self._db.executemany("INSERT OR REPLACE INTO users VALUES (?, ?, ?)", rows)
                self._db.execute(
                    "INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (data, sha256(data).digest())
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Give the file back; may be called twice."""
        self._db.close()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise StateError(
                    f"{self.path}: another judge holds it; stop that, or use another --state"
                ) from error
            if "malformed" in str(error) or "not a database" in str(error):
                raise CorruptStateError(
                    f"{self.path}: damaged ({error}); restore the file from a backup, or remove it and judge "
                    "both logs again from their beginning"
                ) from error
            raise DiskError(
                f"{self.path}: {error}; make space or choose another --state, then start again"
            ) from error
        except OSError as error:
            raise DiskError(f"{self.path}: {error.strerror or error}; choose another --state") from error
