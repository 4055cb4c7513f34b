"""Columns whose rows carry a raw name: users of the arena, marks of the vocabulary.

    index : name -> row          ids : row -> name, or None where the row is free
    n_named : rows that ever had a name lie below it

The names travel through a checkpoint as one more column, `id`, of dtype object (text or None); a
touched row brings its name along, so that a freed row is restored as free.
"""

from collections.abc import Mapping

import numpy as np

from streamrec.arrays import Array, Ints
from streamrec.state.columns import Column, Columns

ID = "id"
"""Name of the column that carries the raw names in a checkpoint."""


class NamedColumns(Columns):
    """Columns with a raw name per row and an index from name to row.

    Parameters
    ----------
    capacity : rows to begin with
    spec : type of each column by name; `id` is reserved for the names

    Examples
    --------
    >>> rows = NamedColumns(2, {"n": Column(np.int64)})
    >>> rows.name_row(0, "u1")
    >>> changed, columns = rows.take_touched()
    >>> changed.tolist(), columns["id"].tolist(), rows.find("u1"), rows.find("u2")
    ([0], ['u1'], 0, -1)
    """

    def __init__(self, capacity: int, spec: Mapping[str, Column]) -> None:
        self.ids: Array = np.full(capacity, None, object)
        self.n_named = 0
        self.index: dict[str, int] = {}
        super().__init__(capacity, spec)

    def add(self, name: str, column: Column) -> None:
        """Add a column and write it once, so that its pages are there before the first event."""
        if name == ID:
            raise KeyError(f"column {ID}: the name is reserved for the raw ids of the rows")
        super().add(name, column)
        self.arrays[name].fill(column.fill)

    def find(self, name: str) -> int:
        """Row of a name, or -1; changes nothing."""
        return self.index.get(name, -1)

    def name_row(self, row: int, name: str | None) -> None:
        """Give a row its name, or free it with None; the row is marked touched."""
        self._set_name(row, name)
        self.touched[row] = 1

    def double_to_fit(self, row: int) -> None:
        """Double the capacity until `row` fits."""
        capacity = max(1, self.capacity)
        while capacity <= row:
            capacity *= 2
        self.grow(capacity)

    def names_in_order(self) -> tuple[list[str], Ints]:
        """All names in the order of their raw bytes, and the row of each: independent of history."""
        names = sorted(self.index, key=raw)
        return names, np.fromiter((self.index[n] for n in names), np.int64, len(names))

    def grow(self, capacity: int) -> None:
        """As `Columns.grow`; fresh rows have no name."""
        more = capacity - self.capacity
        super().grow(capacity)
        if more > 0:
            self.ids = np.concatenate([self.ids, np.full(more, None, object)])

    def take_touched(self) -> tuple[Ints, dict[str, Array]]:
        """As `Columns.take_touched`, with the names as one more column."""
        rows = np.flatnonzero(self.touched.view(np.bool_))  # as bools: five times as fast as as numbers
        self.touched[rows] = 0
        return rows, {**{name: array[rows] for name, array in self.arrays.items()}, ID: self.ids[rows]}

    def put(self, rows: Ints, columns: Mapping[str, Array]) -> None:
        """As `Columns.put`; names are taken back too."""
        super().put(rows, {name: values for name, values in columns.items() if name != ID})
        if ID in columns and len(rows):
            self._set_names(rows, columns[ID])

    def _set_names(self, rows: Ints, names: Array) -> None:
        if rows.min() < self.n_named:
            for row, name in zip(rows.tolist(), names.tolist(), strict=True):
                self._set_name(row, name)
        else:  # a restore, stripe by stripe: nobody is there yet
            self.ids[rows] = names
            self.n_named = int(rows.max()) + 1
            self.index.update(
                (n, r) for r, n in zip(rows.tolist(), names.tolist(), strict=True) if n is not None
            )

    def _set_name(self, row: int, name: str | None) -> None:
        self.n_named = max(self.n_named, row + 1)
        old = self.ids[row]
        if old is not None and self.index.get(old) == row:  # it may have moved to another row by now
            del self.index[old]
        self.ids[row] = name
        if name is not None:
            self.index[name] = row


def raw(name: str) -> bytes:
    """Raw bytes of a user or mark: UTF-8, lone surrogates kept.

    Examples
    --------
    >>> raw("é")
    b'\\xc3\\xa9'
    """
    return name.encode("utf-8", "surrogatepass")


def to_keep(cap: int, floor: int) -> int:
    """How many are kept when more than `cap` are there: 15/16 of the cap, never below the floor.

    Examples
    --------
    >>> to_keep(1600, 100), to_keep(16, 16)
    (1500, 16)
    """
    return max(floor, cap * 15 // 16, 1)
