"""Writing a lane: what a save does to its file, inside of a transaction that the caller begins and ends.

    write       deltas, scalars, blobs, position; then fold what is due
    prepare     the same without folding, and what it changes is kept, to be put back if need be
    confirm     forget what was kept, and fold: so preparing keeps little, as most of it adds chunks

Each answers with the head to be set.
"""

import json

from streamrec.state.blob import pack
from streamrec.state.lanefile import Head, Key, LaneFile
from streamrec.state.snapshot import Snapshot
from streamrec.state.stripes import drop_table, fold, write_table
from streamrec.state.undo import confirmed, marked, recorded


def write(file: LaneFile, head: Head, snapshot: Snapshot, epoch: int) -> tuple[Head, int]:
    """Write a snapshot that counts at once; the head to be set, and bytes written."""
    n_bytes, in_tables = _put(file, snapshot, epoch, head["saves"] + 1)
    return _after(head, snapshot, epoch), n_bytes + fold(file, in_tables)


def prepare(file: LaneFile, head: Head, snapshot: Snapshot, epoch: int) -> tuple[Head, int]:
    """Write a snapshot that can be undone; the head to be set, and bytes written without what is kept."""
    with recorded(file):
        n_bytes, _ = _put(file, snapshot, epoch, head["saves"] + 1)
    return marked(_after(head, snapshot, epoch), head), n_bytes


def confirm(file: LaneFile, head: Head) -> Head:
    """Let the prepared save count, and fold as a save of its size does; the head to be set."""
    added = [entry.size for key, entry in file.manifest.items() if key[::3] == ("delta", head["saves"])]
    fold(file, sum(added))
    return confirmed(file, head)


def _after(head: Head, snapshot: Snapshot, epoch: int) -> Head:
    counters = {"saves": head["saves"] + 1, "serial": snapshot.serial, "n_events": snapshot.n_events}
    return {**head, **counters, "saved_epoch": epoch}


def _put(file: LaneFile, snapshot: Snapshot, epoch: int, save: int) -> tuple[int, int]:
    """Everything of a snapshot but the head; bytes written, and how many of them in tables."""
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
    return added + in_tables, in_tables
