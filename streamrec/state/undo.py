"""Prepared saves: a save that is on the disk and can still be undone, until somebody says that it counts.

    undo    (kind, name, part, serial) -> data as it was before the save, NULL if there was no such chunk
    head    schema 2, and under `prepared` the whole head as it was before

Both are written in the transaction of the save, and are there only while it is open. Confirming drops
them; putting back writes the old chunks and the old head again. What was put back is right if the hashes
of all chunks add up to the `sum` of the old head, which the head's own hash covers: so the table needs
no hashes, and one that was damaged is found out before anything is committed.

A file without an open save is of schema 1, as if there had never been one. A program that knows schema 1
alone refuses a file with an open save instead of taking it for what counts.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from streamrec.errors import CorruptStateError, StateError
from streamrec.state.lanefile import PREPARED, PREPARED_SCHEMA, Head, Key, LaneFile

Decide = Callable[[int], bool]
DROP = "DROP TABLE IF EXISTS undo"
TABLE = (
    "CREATE TABLE undo (kind TEXT NOT NULL, name TEXT NOT NULL, part INTEGER NOT NULL, "
    "serial INTEGER NOT NULL, data BLOB, UNIQUE (kind, name, part, serial))"
)
KEEP = (
    "INSERT OR IGNORE INTO undo SELECT kind, name, part, serial, data FROM chunks "
    "WHERE kind = ? AND name = ? AND part = ? AND serial = ?"
)
KEEP_ABSENT = "INSERT OR IGNORE INTO undo VALUES (?, ?, ?, ?, NULL)"


def open_save(head: Head) -> int | None:
    """Number of the save that is prepared and neither confirmed nor undone, if there is one."""
    return head["saves"] if PREPARED in head else None


@contextmanager
def recorded(file: LaneFile) -> Iterator[None]:
    """Keep what every chunk was before its first change in this block; inside of a transaction."""

    def keep(key: Key) -> None:
        file.connection.execute(KEEP if key in file.manifest else KEEP_ABSENT, key)

    file.connection.execute(DROP)
    file.connection.execute(TABLE)
    file.before_change = keep
    try:
        yield
    finally:
        file.before_change = None


def marked(head: Head, before: Head) -> Head:
    """The head of a save that can be undone, given the head before it."""
    return {**head, "schema": PREPARED_SCHEMA, PREPARED: before}


def confirmed(file: LaneFile, head: Head) -> Head:
    """Let the open save count, inside of a transaction; the head to be set."""
    file.connection.execute(DROP)
    kept = {name: value for name, value in head.items() if name != PREPARED}
    return {**kept, "schema": head[PREPARED]["schema"]}


def put_back(file: LaneFile, head: Head) -> Head:
    """Write what was before the open save, inside of a transaction; the head to be set.

    The number of the save stays used up.

    Raises
    ------
    CorruptStateError
        If what was kept does not add up to what the old head says; roll back.
    """
    before: Head = head[PREPARED]
    try:
        with closing(file.connection.cursor()) as cursor:
            for *key, data in cursor.execute("SELECT kind, name, part, serial, data FROM undo"):
                _restore(file, Key(*key), data)
    except (TypeError, ValueError) as error:
        raise CorruptStateError(f"{file.path}: save {head['saves']} cannot be undone: {error!r}") from error
    if f"{file.sum:064x}" != before["sum"]:
        raise CorruptStateError(
            f"{file.path}: save {head['saves']} cannot be undone: what was kept of the state before it "
            "does not add up to what the head says"
        )
    file.connection.execute(DROP)
    return {**before, "saves": head["saves"]}


def settle(file: LaneFile, head: Head, decide: Decide | None) -> Head:
    """Confirm or undo the save that an earlier owner left open, if any, inside of a transaction.

    Parameters
    ----------
    file : the file, its head just read
    head : that head
    decide : given the number of the open save, whether it counts

    Raises
    ------
    StateError
        If there is one and nobody to decide.
    CorruptStateError
        If it does not count and cannot be undone.
    """
    number = open_save(head)
    if number is None:
        return head
    if decide is None:
        raise StateError(
            f"{file.path}: save {number} is prepared, and only the consumer group's offsets say whether it "
            "counts; open the lane with kafka.transactions = true once, then go on without"
        )
    file.read_manifest(head)
    settled = confirmed(file, head) if decide(number) else put_back(file, head)
    file.set_head(settled)
    return settled


def _restore(file: LaneFile, key: Key, data: bytes | None) -> None:
    if data is not None:
        file.put(key, data)
    elif key in file.manifest:
        file.delete([key])
