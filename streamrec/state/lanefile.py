"""The SQLite file of a lane: chunks of bytes under a key, each with its hash, and one head.

    chunk   (kind, name, part, serial) -> data, sha256 over key and data
    head    one JSON row with its own sha256: schema, epoch, saves, serial, settings, and `sum`, the sum
            of all chunk hashes modulo 2^256, so that a chunk that vanished or came back is noticed too
    undo    what a save that can still be undone has changed (see `undo`)

WAL, synchronous=FULL; every write is one transaction that begins by reading the head. Nothing here
knows what a chunk means.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from streamrec.errors import CorruptStateError, DiskError, StateError, StreamrecError

SCHEMA = 1
"""Version of the layout; a file of another version is refused."""

PREPARED = "prepared"
PREPARED_SCHEMA = 2
"""Version of a file while its head has the entry `prepared`: its newest save can still be undone."""

PAGE = 16_384
WAL_LIMIT = 64 << 20
TABLES = (
    "CREATE TABLE lane (id INTEGER PRIMARY KEY CHECK (id = 1), head TEXT NOT NULL, hash TEXT NOT NULL)",
    "CREATE TABLE chunks (kind TEXT NOT NULL, name TEXT NOT NULL, part INTEGER NOT NULL, "
    "serial INTEGER NOT NULL, hash BLOB NOT NULL, data BLOB NOT NULL, UNIQUE (kind, name, part, serial))",
)
Head = dict[str, Any]


class Key(NamedTuple):
    """Where a chunk belongs."""

    kind: str
    name: str
    part: int = 0
    serial: int = 0


class Entry(NamedTuple):
    """What is known of a chunk without reading it: its hash as a number, and its size in bytes."""

    hash: int
    size: int


def fresh_head() -> Head:
    """Head of a lane that nobody has opened yet."""
    counters = dict.fromkeys(("epoch", "saved_epoch", "saves", "serial", "n_events"), 0)
    return {"schema": SCHEMA, **counters, "settings": {}, "machine": {}}


def chunk_hash(key: Key, data: bytes | memoryview) -> int:
    """sha256 over key and data as a number."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode() + b"\0")
    digest.update(data)
    return int.from_bytes(digest.digest(), "big")


def translate(path: Path, error: sqlite3.Error) -> StreamrecError:
    """The error of our tree, one line that says what to do, for one of SQLite's.

    Examples
    --------
    >>> error = sqlite3.OperationalError("database or disk is full")
    >>> error.sqlite_errorcode = sqlite3.SQLITE_FULL
    >>> type(translate(Path("lane.sqlite"), error)).__name__
    'DiskError'
    """
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # none: a text that is not UTF-8
    code = sqlite3.SQLITE_CORRUPT if extended == sqlite3.SQLITE_IOERR_SHORT_READ else extended & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return DiskError(f"{path}: {error}; nothing was written; make room or give the right to write")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DiskError(f"{path}: {error}: another process holds it; nothing was written; try again")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return CorruptStateError(f"{path}: {error}")
    return StateError(f"{path}: {error}")


class LaneFile:
    """One connection to a lane's file.

    Parameters
    ----------
    path : the SQLite file
    mode : SQLite's URI mode: `rwc` creates it, `rw` does not, `ro` reads; `ro&immutable=1` for generations

    Raises
    ------
    sqlite3.Error
        From every method; callers `translate` it.
    """

    def __init__(self, path: Path, mode: str = "rw") -> None:
        self.path = path
        self.manifest: dict[Key, Entry] = {}
        self.sum = 0
        self.before_change: Callable[[Key], None] | None = None
        uri = f"{path.resolve().as_uri()}?mode={mode}"
        self.connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10
        )
        try:
            if not mode.startswith("ro"):
                self._set_up()
        except sqlite3.Error:
            self.connection.close()
            raise

    def begin(self) -> Head:
        """Begin a write transaction and read the head."""
        self.connection.execute("BEGIN IMMEDIATE")
        if not self._has_tables():
            for statement in TABLES:
                self.connection.execute(statement)
            self.set_head(fresh_head())
        return self.head()

    def commit(self) -> None:
        """End the transaction; the data is on the disk when this returns."""
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; an open transaction is undone."""
        self.connection.close()

    def is_empty(self) -> bool:
        """Nothing was ever committed to this file."""
        return not self._has_tables()

    def head(self) -> Head:
        """The head, if its hash verifies and its schema is ours.

        Raises
        ------
        CorruptStateError
            If the head is missing or its hash does not verify.
        StateError
            If it was written by another version.
        """
        row = self.connection.execute("SELECT head, hash FROM lane WHERE id = 1").fetchone()
        if row is None or hashlib.sha256(str(row[0]).encode()).hexdigest() != row[1]:
            raise CorruptStateError(f"{self.path}: the head does not verify")
        head: Head = json.loads(row[0])
        if head["schema"] != (PREPARED_SCHEMA if PREPARED in head else SCHEMA):
            raise StateError(
                f"{self.path}: state of schema {head['schema']}, but this program reads and writes "
                f"schema {SCHEMA}; use the version of streamrec that wrote it, or an empty state directory"
            )
        return head

    def set_head(self, head: Head) -> None:
        """Replace the head; the sum of the chunks is filled in."""
        text = json.dumps({**head, "sum": f"{self.sum:064x}"}, sort_keys=True)
        values = (text, hashlib.sha256(text.encode()).hexdigest())
        self.connection.execute("INSERT OR REPLACE INTO lane VALUES (1, ?, ?)", values)

    def put(self, key: Key, data: bytes) -> int:
        """Write a chunk, and answer with the bytes written: 0 if it stands there already."""
        entry = Entry(chunk_hash(key, data), len(data))
        if self.manifest.get(key) == entry:
            return 0
        self._note([key])
        values = (*key, entry.hash.to_bytes(32, "big"), data)
        self.connection.execute("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)", values)
        self._forget(key)
        self.manifest[key] = entry
        self.sum = (self.sum + entry.hash) % 2**256
        return len(data)

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete chunks."""
        self._note(keys)
        where = "kind = ? AND name = ? AND part = ? AND serial = ?"
        self.connection.executemany(f"DELETE FROM chunks WHERE {where}", keys)
        for key in keys:
            self._forget(key)

    def get(self, key: Key) -> bytes:
        """Data of one chunk, verified."""
        where = "kind = ? AND name = ? AND part = ? AND serial = ?"
        row = self.connection.execute(f"SELECT hash, data FROM chunks WHERE {where}", key).fetchone()
        if row is None or chunk_hash(key, row[1]) != int.from_bytes(row[0], "big"):
            raise CorruptStateError(f"{self.path}: chunk {'/'.join(map(str, key))} does not verify")
        data: bytes = row[1]
        return data

    def read_manifest(self, head: Head) -> None:
        """Learn which chunks there are, and that none is missing."""
        rows = self.connection.execute("SELECT kind, name, part, serial, hash, length(data) FROM chunks")
        self.manifest = {Key(*row[:4]): Entry(int.from_bytes(row[4], "big"), row[5]) for row in rows}
        self.sum = sum(entry.hash for entry in self.manifest.values()) % 2**256
        if f"{self.sum:064x}" != head["sum"]:
            raise CorruptStateError(f"{self.path}: the chunks do not add up to what the head says")

    def chunks(self) -> Iterator[tuple[Key, bytes]]:
        """All chunks by kind, name, part and serial, each verified as it is read."""
        order = "ORDER BY kind, name, part, serial"
        with closing(self.connection.cursor()) as cursor:
            for row in cursor.execute(f"SELECT kind, name, part, serial, hash, data FROM chunks {order}"):
                key = Key(*row[:4])
                if chunk_hash(key, row[5]) != int.from_bytes(row[4], "big"):
                    raise CorruptStateError(f"{self.path}: chunk {'/'.join(map(str, key))} does not verify")
                yield key, row[5]

    def truncate_wal(self) -> None:
        """Move everything that was committed into the main file."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _note(self, keys: Sequence[Key]) -> None:
        if self.before_change is not None:
            for key in keys:
                self.before_change(key)

    def _forget(self, key: Key) -> None:
        entry = self.manifest.pop(key, None)
        if entry is not None:
            self.sum = (self.sum - entry.hash) % 2**256

    def _has_tables(self) -> bool:
        return (
            self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'lane'").fetchone() is not None
        )

    def _set_up(self) -> None:
        for pragma in (
            f"page_size={PAGE}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"journal_size_limit={WAL_LIMIT}",
        ):
            self.connection.execute(f"PRAGMA {pragma}").fetchall()
