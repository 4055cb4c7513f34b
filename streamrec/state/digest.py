"""Digests of what was learned and of where the lane stands.

    learned     sha256 over all components by name: tables in canonical order, scalars by name
    position    sha256 over named bytes (offsets, bins, journal)
    global      sha256 over the digests of all lanes, in order of their numbers

Canonical order: a table with names (arena, vocabulary) by raw name, free rows left out; any other by
row, without the rows behind the last one that differs from the fill values. So neither the
capacity of a table nor the restarts in between can be seen in a digest. A component whose table has another
order of its own offers `canonical()`, which then stands for its tables.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from streamrec.arrays import Array
from streamrec.models.base import Stateful
from streamrec.state.columns import Columns
from streamrec.state.names import NamedColumns

BLOCK = 65_536


@runtime_checkable
class Canonical(Protocol):
    """A component that knows an order of its own in which equal states look equal."""

    def canonical(self) -> Mapping[str, Array]:
        """Arrays that stand for the component's tables."""
        ...


def learned_digest(components: Mapping[str, Stateful]) -> str:
    """sha256, in hex, of everything learned.

    Examples
    --------
    >>> from streamrec.state.arena import Arena
    >>> one, other = Arena(capacity=1), Arena(capacity=64)
    >>> _ = one.rows_of(["a", "b"]), other.rows_of(["b", "a"])
    >>> learned_digest({"arena": one}) == learned_digest({"arena": other})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(components):
        for place, array in _arrays_of(components[name]):
            _feed(digest, f"{name}/{place}", array)
    return digest.hexdigest()


def position_digest(position: Mapping[str, bytes]) -> str:
    """sha256, in hex, of named bytes.

    Examples
    --------
    >>> position_digest({"a": b"1", "b": b""}) == position_digest({"b": b"", "a": b"1"})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(position):
        _feed(digest, name, np.frombuffer(position[name], np.uint8))
    return digest.hexdigest()


def global_digest(lanes: Mapping[int, str]) -> str:
    """sha256, in hex, over the digests of lanes by number; a state of one lane has that lane's digest.

    Examples
    --------
    >>> global_digest({0: "ab"}), global_digest({1: "b", 0: "a"}) == global_digest({0: "a", 1: "b"})
    ('ab', True)
    """
    if len(lanes) == 1:
        return next(iter(lanes.values()))
    return position_digest({f"lane-{number:04d}": bytes(lanes[number], "ascii") for number in lanes})


def used_rows(table: Columns) -> int:
    """Rows up to the last one that differs from the fill values, bit by bit.

    Examples
    --------
    >>> from streamrec.state.columns import Column
    >>> table = Columns(100, {"n": Column(np.float64, (), np.nan)})
    >>> table["n"][41] = 0.0
    >>> used_rows(table)
    42
    """
    for end in range(table.capacity, 0, -BLOCK):
        start = max(0, end - BLOCK)
        differs = np.zeros(end - start, np.bool_)
        for name, column in table.spec.items():
            fill = np.full((), column.fill, column.dtype).tobytes()
            differs |= _differs(table[name][start:end], fill)
        if differs.any():
            return start + int(np.flatnonzero(differs)[-1]) + 1
    return 0


def _arrays_of(component: Stateful) -> Iterator[tuple[str, Array]]:
    if isinstance(component, Canonical):
        yield from sorted(component.canonical().items())
    else:
        for name, table in sorted(component.tables().items()):
            yield from ((f"{name}.{column}", array) for column, array in _table_arrays(table))
    yield from ((f"={name}", array) for name, array in sorted(component.scalars().items()))


def _table_arrays(table: Columns) -> Iterator[tuple[str, Array]]:
    if isinstance(table, NamedColumns):
        names, rows = table.names_in_order()
        yield "id", np.frombuffer(json.dumps(names).encode(), np.uint8)
        yield from ((name, table[name][rows]) for name in sorted(table.spec))
    else:
        n = used_rows(table)
        yield from ((name, table[name][:n]) for name in sorted(table.spec))


def _differs(array: Array, fill: bytes) -> Array:
    n = len(array)
    cells = np.ascontiguousarray(array).view(np.uint8).reshape(n, -1, len(fill))
    differs: Array = (cells != np.frombuffer(fill, np.uint8)).any(axis=(1, 2))
    return differs


def _feed(digest: "hashlib._Hash", place: str, array: Array) -> None:
    head = json.dumps([place, array.dtype.str, list(array.shape)]).encode()
    digest.update(len(head).to_bytes(8, "little") + head)
    digest.update(np.ascontiguousarray(array).data if array.size else b"")
