"""A small lane for the tests of the store: an arena with a model's column, a table and some scalars."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from streamrec.arrays import Array
from streamrec.models.base import Stateful
from streamrec.state.arena import Arena
from streamrec.state.columns import Column, Columns
from streamrec.state.digest import learned_digest
from streamrec.state.snapshot import Snapshot, restore_into, snapshot_of
from streamrec.state.store import LaneStore


class Counts:
    """A table of counts and a weight vector: a model's state without the model."""

    def __init__(self, capacity: int = 4) -> None:
        self.table = Columns(capacity, {"n": Column(np.int32), "w": Column(np.float64, (2,), np.nan)})
        self.weights = np.zeros(3, np.float32)

    def tables(self) -> Mapping[str, Columns]:
        return {"slots": self.table}

    def scalars(self) -> Mapping[str, Array]:
        return {"weights": self.weights, "seed": np.array(7, np.uint64)}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        self.weights = arrays["weights"]


class Toy:
    """A lane whose every step is a function of its serial."""

    def __init__(self, max_users: int = 40) -> None:
        self.arena = Arena(max_users=max_users, capacity=1)
        self.arena.add("m.h", Column(np.float32, (4,), 0.5))
        self.counts = Counts()
        self.serial = 0

    @property
    def components(self) -> dict[str, Stateful]:
        return {"arena": self.arena, "counts": self.counts}

    def step(self) -> None:
        """Go one cut further."""
        draw = np.random.Generator(np.random.Philox(key=self.serial))
        rows = self.arena.rows_of([f"u{i}" for i in draw.integers(0, 60, 8)])
        self.arena["last_time"][rows] = self.serial
        self.arena["m.h"][rows] = draw.normal(size=(8, 4))
        self.arena.touched[rows] = 1
        slots = draw.integers(0, 4 + self.serial, 5)
        self.counts.table.grow(int(slots.max()) + 1)
        self.counts.table["n"][slots] += 1
        self.counts.table["w"][slots] = self.serial
        self.counts.table.touched[slots] = 1
        self.counts.weights = self.counts.weights + np.float32(0.1)
        self.arena.evict()
        self.serial += 1

    def snapshot(self) -> Snapshot:
        position = f"clicks:0:{self.serial}".encode()
        blobs = {"open": bytes(self.serial % 7)}
        return snapshot_of(self.components, self.serial, position, blobs, {"journal-1": 10 * self.serial})

    def digest(self) -> str:
        return learned_digest(self.components)


def at(serial: int) -> Toy:
    """An undisturbed lane after so many steps."""
    toy = Toy()
    for _ in range(serial):
        toy.step()
    return toy


def restored(store: LaneStore) -> Toy:
    """A fresh lane that took back what the store holds."""
    toy = Toy()
    loaded = store.load()
    if loaded is not None:
        assert restore_into(toy.components, loaded) == ([], [])
        toy.serial = loaded.serial
    return toy


def saved_lane(directory: Path, steps: int, every: int = 2) -> None:
    """A lane of so many steps, saved after each, with a generation every `every` saves."""
    with LaneStore.open(directory, generation_every=every) as store:
        toy = restored(store)
        for _ in range(steps):
            toy.step()
            store.save(toy.snapshot())
