"""A snapshot: what a checkpoint keeps, copied between two cuts, and put back after a restart.

    Snapshot ── position, blobs, lengths
       └── Component (arena, vocabulary, each model, ...) ── scalars, whole
              └── Table ── parts: (rows touched, their columns), oldest first; later parts win

A snapshot taken from the loop has one part per table with the rows touched since the one before; a
loaded one has as many as the store kept. Rows in no part hold the fill values.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamrec.arrays import Array, Ints
from streamrec.errors import StateError
from streamrec.models.base import Stateful
from streamrec.state.columns import Column, Columns
from streamrec.state.names import ID, NamedColumns


class Part(NamedTuple):
    """Some rows of a table, ascending, and their columns (len(rows), ...)."""

    rows: Ints
    columns: dict[str, Array]


@dataclass
class Table:
    """Rows of one `Columns`: its capacity, the type of every column, and the parts."""

    capacity: int
    spec: dict[str, Column]
    parts: list[Part]

    def dense(self) -> dict[str, Array]:
        """Full columns (capacity, ...), fill values where no part has a row."""
        full = {name: fresh(column, self.capacity) for name, column in self.spec.items()}
        for part in self.parts:
            for name in full.keys() & part.columns.keys():
                full[name][part.rows] = part.columns[name]
        return full


@dataclass
class Component:
    """One `Stateful` thing: its tables and its scalars."""

    tables: dict[str, Table]
    scalars: dict[str, Array]


@dataclass
class Snapshot:
    """All state at one position.

    Parameters
    ----------
    serial : tie sets processed by the lane when it was taken
    position : offsets, bins and whatever else says where the lane stands
    components : state by name
    blobs : further state by name (reorder buffer, open tie sets, ...)
    lengths : accepted length in bytes of the journal and sink files of this epoch, by file name
    n_events : events applied, for those who look at the file
    ticket : number that the taker knows it by, for asking whether it is on the disk; not stored
    """

    serial: int
    position: bytes = b""
    components: dict[str, Component] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    n_events: int = 0
    ticket: int = 0


class Restored(NamedTuple):
    """What a restore could not pair up: both are normal when models were added or removed.

    `missing` has no stored state and starts fresh; `ignored` is stored and nobody asked for it.
    """

    missing: list[str]
    ignored: list[str]


def fresh(column: Column, n: int) -> Array:
    """Rows of a column that nothing was ever written to; text starts as None."""
    if np.dtype(column.dtype) == object:
        return np.full(n, None, object)
    return np.full((n, *column.shape), column.fill, column.dtype)


def spec_of(table: Columns) -> dict[str, Column]:
    """Types of the columns as they are stored, the names included."""
    named = {ID: Column(object)} if isinstance(table, NamedColumns) else {}
    return {**table.spec, **named}


def snapshot_of(
    components: Mapping[str, Stateful],
    serial: int,
    position: bytes = b"",
    blobs: Mapping[str, bytes] | None = None,
    lengths: Mapping[str, int] | None = None,
    n_events: int = 0,
    ticket: int = 0,
) -> Snapshot:
    """Copy what changed since the last snapshot and clear the flags; call it between two cuts.

    Examples
    --------
    >>> from streamrec.state.arena import Arena
    >>> arena = Arena()
    >>> _ = arena.rows_of(["u1"])
    >>> snapshot = snapshot_of({"arena": arena}, serial=1)
    >>> snapshot.components["arena"].tables["rows"].parts[0].rows.tolist()
    [0]
    """
    taken = {name: _take(component) for name, component in components.items()}
    return Snapshot(serial, position, taken, dict(blobs or {}), dict(lengths or {}), n_events, ticket)


def restore_into(components: Mapping[str, Stateful], loaded: Snapshot) -> Restored:
    """Put a loaded snapshot into freshly built components.

    Raises
    ------
    StateError
        If a column is stored with another dtype or shape of a row.
    """
    missing: list[str] = []
    ignored = [name for name in loaded.components if name not in components]
    for name, component in components.items():
        if name not in loaded.components:
            missing.append(name)
            continue
        stored = loaded.components[name]
        tables = component.tables()
        ignored += [f"{name}/{t}" for t in stored.tables if t not in tables]
        for table_name, table in tables.items():
            _put_table(f"{name}/{table_name}", table, stored.tables.get(table_name), missing, ignored)
        component.load_scalars({k: v.copy() for k, v in stored.scalars.items()})
    return Restored(missing, ignored)


def merge(older: Snapshot | None, newer: Snapshot) -> Snapshot:
    """One snapshot that holds what both held; where both have a row, the newer wins."""
    if older is None:
        return newer
    merged = {name: _merge_components(older.components.get(name), c) for name, c in newer.components.items()}
    return dataclasses.replace(newer, components=merged)


def merge_parts(parts: list[Part]) -> Part:
    """One part for several, rows ascending; where two have a row, the later wins."""
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([part.rows for part in parts])
    kept, first = np.unique(rows[::-1], return_index=True)
    at = len(rows) - 1 - first
    return Part(kept, {n: np.concatenate([p.columns[n] for p in parts])[at] for n in parts[-1].columns})


def conform(part: Part, spec: Mapping[str, Column]) -> Part:
    """A part with exactly the columns of a spec: absent ones hold fill values, others go."""
    n = len(part.rows)
    return Part(
        part.rows, {k: part.columns[k] if k in part.columns else fresh(c, n) for k, c in spec.items()}
    )


def _take(component: Stateful) -> Component:
    tables = {
        n: Table(t.capacity, spec_of(t), [Part(*t.take_touched())]) for n, t in component.tables().items()
    }
    return Component(tables, {name: np.array(a, copy=True) for name, a in component.scalars().items()})


def _put_table(
    place: str, table: Columns, stored: Table | None, missing: list[str], ignored: list[str]
) -> None:
    if stored is None:
        missing.append(place)
        return
    spec = spec_of(table)
    missing += [f"{place}.{name}" for name in spec if name not in stored.spec]
    ignored += [f"{place}.{name}" for name in stored.spec if name not in spec]
    both = [name for name in spec if name in stored.spec]
    for name in both:
        _check_type(f"{place}.{name}", stored.spec[name], spec[name])
    table.grow(stored.capacity)
    for part in stored.parts:
        table.put(part.rows, {name: part.columns[name] for name in both if name in part.columns})


def _check_type(place: str, stored: Column, wanted: Column) -> None:
    one, other = [(np.dtype(c.dtype), tuple(c.shape)) for c in (stored, wanted)]
    if one != other:
        raise StateError(
            f"{place}: stored as {one[0]} {one[1]}, but these settings want {other[0]} {other[1]}; "
            "go back to the settings the state was made with, or start with an empty state directory"
        )


def _merge_components(older: Component | None, newer: Component) -> Component:
    if older is None:
        return newer
    tables = {name: _merge_tables(older.tables.get(name), t) for name, t in newer.tables.items()}
    return dataclasses.replace(newer, tables=tables)


def _merge_tables(older: Table | None, newer: Table) -> Table:
    if older is None:
        return newer
    parts = [conform(part, newer.spec) for part in (*older.parts, *newer.parts)]
    return dataclasses.replace(newer, parts=[merge_parts(parts)])
