"""Reading a lane: everything verified before anything is used, and the newest that verifies.

newest_good    for the owner-to-be: leaves the write transaction open in which all was read, and in
               which a save that was left open was confirmed or undone
read_lane      for those who only look (inspect, verify): opens no epoch, changes nothing; shows the
               newest save, also one that is open
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from streamrec.errors import CorruptStateError, StateError, StreamrecError
from streamrec.state import generations
from streamrec.state.blob import unpack
from streamrec.state.generations import Generation
from streamrec.state.lanefile import Head, Key, LaneFile, translate
from streamrec.state.snapshot import Component, Snapshot
from streamrec.state.stripes import assemble
from streamrec.state.undo import Decide, open_save, settle


class Loaded(NamedTuple):
    """A checkpoint and, by epoch, the accepted lengths of files."""

    snapshot: Snapshot
    lengths: dict[int, dict[str, int]]


def read_loaded(file: LaneFile) -> Loaded:
    """All chunks of a file, verified and put together.

    Raises
    ------
    CorruptStateError
        If a chunk does not verify, is missing, or cannot be read.
    """
    head = file.head()
    try:
        file.read_manifest(head)
        chunks = dict(file.chunks())
        if chunks.keys() != file.manifest.keys():
            raise CorruptStateError(f"{file.path}: expected {len(file.manifest)} chunks, got {len(chunks)}")
        return _assembled(head, chunks)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptStateError(f"{file.path}: cannot be put together: {error!r}") from error


def newest_good(
    path: Path, may_be_new: bool, decide: Decide | None = None
) -> tuple[LaneFile, Head, Loaded, list[str]]:
    """Open the lane's file, or put the newest generation that verifies in its place.

    Returns the file with an open write transaction, its head, all its content, and notes on what did
    not verify. A save that was left open is settled in that transaction, as `decide` says.

    Raises
    ------
    StateError
        If the file is of another schema, or holds an open save and there is no `decide`.
    CorruptStateError
        If nothing verifies.
    """
    notes: list[str] = []
    try:
        newer = _newer_than(path)
        if newer is None:
            return (*_open_and_read(path, may_be_new and not generations.listed(path.parent), decide), notes)
        notes.append(f"{path}: lost what generation {newer.path.name} still has")
    except CorruptStateError as error:
        notes.append(str(error))
    for generation in generations.listed(path.parent):
        try:
            generations.verify(generation)
            generations.install(generation, path)
            opened = _open_and_read(path, False, None)
        except CorruptStateError as error:
            notes.append(str(error))
            continue
        notes.append(f"{path}: went back to {generation.path.name} (serial {opened[1]['serial']})")
        return (*opened, notes)
    raise CorruptStateError(
        f"{path}: no state verifies ({'; '.join(notes)}); restore the directory from a copy, "
        "or start with an empty one"
    )


def read_lane(directory: str | Path) -> tuple[Head, Snapshot]:
    """Head and content of the newest checkpoint that verifies, without becoming the owner.

    Raises
    ------
    StateError
        If there is no lane, or it is of another schema.
    CorruptStateError
        If nothing verifies.
    """
    folder = Path(directory)
    candidates = [(folder / "lane.sqlite", "ro")]
    candidates += [(g.path, "ro&immutable=1") for g in generations.listed(folder)]
    if not any(path.exists() for path, _ in candidates):
        raise StateError(f"{folder}: holds no state; name the folder that was given to --state")
    notes = []
    for path, mode in candidates:
        try:
            return _read_only(path, mode)
        except CorruptStateError as error:
            notes.append(str(error))
    raise CorruptStateError(f"{folder}: no state verifies: {'; '.join(notes)}")


def inspect(directory: str | Path) -> dict[str, Any]:
    """What lies in a lane's directory: schema, epoch, serial, events, sizes in bytes, generations.

    `prepared` is there only while a save is open: its number. All that is told is of that save.
    """
    folder = Path(directory)
    head, snapshot = read_lane(folder)
    sizes = {name: _component_bytes(component) for name, component in snapshot.components.items()}
    files = {p.name: p.stat().st_size for p in sorted(folder.glob("lane.sqlite*"))}
    kept = [{"name": g.path.name, "bytes": g.path.stat().st_size} for g in generations.listed(folder)]
    told = ("schema", "epoch", "saves", "serial", "n_events", "settings", "machine")
    number = open_save(head)
    prepared = {} if number is None else {"prepared": number}
    return {
        **{k: head[k] for k in told},
        **prepared,
        "bytes": files,
        "component_bytes": sizes,
        "generations": kept,
    }


def _read_only(path: Path, mode: str) -> tuple[Head, Snapshot]:
    try:
        with closing(LaneFile(path, mode)) as file:
            file.connection.execute("BEGIN")
            return file.head(), read_loaded(file).snapshot
    except sqlite3.Error as error:
        raise CorruptStateError(str(translate(path, error))) from error


def _open_and_read(path: Path, may_be_new: bool, decide: Decide | None) -> tuple[LaneFile, Head, Loaded]:
    file = None
    try:
        file = LaneFile(path, "rwc" if may_be_new else "rw")
        if not may_be_new:
            _refuse_empty(file)
        head = settle(file, file.begin(), decide)
        return file, head, read_loaded(file)
    except sqlite3.Error as error:
        _close(file)
        raise _as_damage(path, error) from error
    except BaseException:
        _close(file)
        raise


def _as_damage(path: Path, error: sqlite3.Error) -> StreamrecError:
    """A file that is not there any more is damage too; a disk that refuses is not."""
    translated = translate(path, error)
    return translated if path.exists() else CorruptStateError(f"{path}: the file is gone")


def _newer_than(path: Path) -> Generation | None:
    """The newest generation, if it verifies and the file has lost what it holds (a lost WAL)."""
    listed = generations.listed(path.parent)
    if not listed or not path.exists():
        return None
    try:
        with closing(LaneFile(path)) as file:
            _refuse_empty(file)
            head = file.head()
    except sqlite3.Error as error:
        raise translate(path, error) from error
    for generation in listed:
        if generation[:2] <= (head["epoch"], head["saves"]):
            return None
        try:
            generations.verify(generation)
        except CorruptStateError:
            continue
        return generation
    return None


def _refuse_empty(file: LaneFile) -> None:
    if file.is_empty():
        raise CorruptStateError(f"{file.path}: the file is empty")


def _close(file: LaneFile | None) -> None:
    if file is not None:
        file.close()


def _assembled(head: Head, chunks: dict[Key, bytes]) -> Loaded:
    components: dict[str, Component] = {
        key.name: Component({}, unpack(data)) for key, data in chunks.items() if key.kind == "scalars"
    }
    bases: dict[str, list[bytes]] = {}
    deltas: dict[str, list[bytes]] = {}
    for key, data in chunks.items():  # in order: by stripe, and by save
        if key.kind in ("base", "delta"):
            (bases if key.kind == "base" else deltas).setdefault(key.name, []).append(data)
    for key, data in chunks.items():
        if key.kind == "spec":
            component, _, table = key.name.partition("/")
            components[component].tables[table] = assemble(
                data, bases.pop(key.name, []), deltas.pop(key.name, [])
            )
    lengths = {key.part: json.loads(data) for key, data in chunks.items() if key.kind == "epoch"}
    snapshot = Snapshot(
        head["serial"],
        chunks.get(Key("position", ""), b""),
        components,
        {key.name: data for key, data in chunks.items() if key.kind == "blob"},
        lengths.get(head["saved_epoch"], {}),
        head["n_events"],
    )
    return Loaded(snapshot, lengths)


def _component_bytes(component: Component) -> int:
    arrays = list(component.scalars.values())
    arrays += [a for t in component.tables.values() for part in t.parts for a in part.columns.values()]
    return sum(array.nbytes for array in arrays)
