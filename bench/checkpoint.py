"""Checkpoints of a million users with one neural expert's rows: the pause of the loop, and a restore.

    pause     copying 10,000 dirty rows, their names and the weights between two cuts (`snapshot_of`)
    save      the same until it is committed to the lane's file, by the writer's side
    restore   open the file, verify every hash, read, put a million rows back

A row holds a state of 64 float32, the last input, the clocks, and the issued law of 27 float32.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import Clock, digits, machine, small_wanted, spread

from streamrec.models.base import Context, Stateful
from streamrec.models.recurrent import Recurrent
from streamrec.state.arena import Arena
from streamrec.state.columns import Column
from streamrec.state.snapshot import restore_into, snapshot_of
from streamrec.state.store import LaneStore

LAW = 27


def components(rows: int) -> tuple[Arena, dict[str, Stateful]]:
    """An arena with the columns of the recurrent expert and of what it issued, and the expert."""
    arena = Arena(max_users=max(2 * rows, 2), capacity=rows)
    model = Recurrent(Context("recurrent", arena, n_backgrounds=1, seed=0))
    arena.add("wait.params", Column(np.float32, (LAW,), np.nan))
    return arena, {"arena": arena, "model.recurrent": model}


def fill(arena: Arena, users: int, rng: np.random.Generator) -> None:
    """Name the rows and write numbers that no compressor could shorten."""
    rows = arena.rows_of([f"user-{u}" for u in range(users)])
    _write(arena, rows, rng)


def _write(arena: Arena, rows: np.ndarray[Any, Any], rng: np.random.Generator) -> None:
    for name in ("recurrent.h", "wait.params"):
        column = arena[name]
        column[rows] = rng.standard_normal((len(rows), column.shape[1]), np.float32)
    for name in ("last_time", "recurrent.last", "recurrent.since"):
        arena[name][rows] = rng.uniform(1e9, 2e9, len(rows))
    arena.touched[rows] = 1


def main(small: bool = False) -> dict[str, Any]:
    """Pauses, saves, one restore."""
    users, dirty, repeats = (2000, 100, 3) if small else (1_000_000, 10_000, 30)
    rng = np.random.default_rng(0)
    arena, mine = components(users)
    fill(arena, users, rng)
    pauses, busy, saves = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        with LaneStore.open(folder, generation_every=1_000_000) as store:
            store.load()
            first = Clock()
            store.save(snapshot_of(mine, serial=1))
            whole = first.wall
            for serial in range(2, repeats + 2):
                _write(arena, np.sort(rng.choice(users, dirty, replace=False)), rng)
                clock = Clock()
                snapshot = snapshot_of(mine, serial=serial)
                pauses.append(1e3 * clock.wall)
                busy.append(1e3 * clock.cpu)
                store.save(snapshot)
                saves.append(1e3 * clock.wall)
        size = sum(f.stat().st_size for f in Path(folder).iterdir()) / 2**20
        restores = [_restore(Path(folder), arena) for _ in range(1 if small else 2)]
    return {
        "bench": "checkpoint",
        "users": users,
        "dirty_rows": dirty,
        "bytes_per_row": arena.bytes_per_row(),
        "repeats": repeats,
        "pause_ms": _with_p99(pauses),
        "pause_cpu_ms": _with_p99(busy),
        "save_ms": spread(saves),
        "first_save_s": digits(whole),
        "file_mb": digits(size),
        "restore_s": {which: spread([r[which] for r in restores]) for which in ("wall", "cpu")},
        "machine": machine(),
    }


def _with_p99(values: list[float]) -> dict[str, float]:
    return {**spread(values), "p99": digits(float(np.quantile(values, 0.99)))}


def _restore(folder: Path, original: Arena) -> dict[str, float]:
    arena, mine = components(original.n_users)
    clock = Clock()
    with LaneStore.open(folder) as store:
        loaded = store.load()
        assert loaded is not None
        restore_into(mine, loaded)
        spent = {"wall": clock.wall, "cpu": clock.cpu}
    np.testing.assert_array_equal(arena["recurrent.h"][:100], original["recurrent.h"][:100])
    return spent


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
