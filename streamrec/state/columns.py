"""Named numpy columns with one leading dimension and a flag for every row that was touched.

All large state (user rows, table slots, embedding tables) lives in `Columns`, so that a checkpoint
can copy what changed and nothing else. Whoever writes a row sets its flag; a numba kernel does so
through the `touched` array itself.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from streamrec.arrays import Array, Bytes8, Ints


class Column(NamedTuple):
    """Type of one column: dtype, shape of a row and the value of a fresh row."""

    dtype: DTypeLike
    shape: tuple[int, ...] = ()
    fill: float = 0


class Columns:
    """Named numpy columns of one length, grown on demand, with a touched flag per row.

    Parameters
    ----------
    capacity : rows to begin with
    spec : type of each column by name

    Examples
    --------
    >>> rows = Columns(2, {"h": Column(np.float32, (3,)), "last": Column(np.float64, (), np.nan)})
    >>> rows["h"][1] = 1.0
    >>> rows.touched[1] = 1
    >>> rows.grow(4)
    >>> changed, columns = rows.take_touched()
    >>> changed.tolist(), columns["h"].shape
    ([1], (1, 3))
    """

    def __init__(self, capacity: int, spec: Mapping[str, Column]) -> None:
        self.capacity = capacity
        self.spec: dict[str, Column] = {}
        self.arrays: dict[str, Array] = {}
        self.touched: Bytes8 = np.zeros(capacity, np.uint8)
        for name, column in spec.items():
            self.add(name, column)

    def __getitem__(self, name: str) -> Array:
        """The whole column (capacity, *shape); `grow` replaces it, so do not keep it over a cut."""
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def add(self, name: str, column: Column) -> None:
        """Add a column to all rows; a name can be taken once."""
        if name in self.spec:
            raise KeyError(f"column {name} exists already")
        self.spec[name] = column
        self.arrays[name] = self._fresh(column, self.capacity)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` rows; fresh rows hold the fill values and are not touched."""
        more = capacity - self.capacity
        if more <= 0:
            return
        for name, column in self.spec.items():
            self.arrays[name] = np.concatenate([self.arrays[name], self._fresh(column, more)])
        self.touched = np.concatenate([self.touched, np.zeros(more, np.uint8)])
        self.capacity = capacity

    def reset(self, rows: Ints) -> None:
        """Give rows back their fill values (a fresh user, a freed slot) and mark them touched."""
        for name, column in self.spec.items():
            self.arrays[name][rows] = column.fill
        self.touched[rows] = 1

    def take_touched(self) -> tuple[Ints, dict[str, Array]]:
        """Copies of the rows touched since the last call, in ascending order, and clear the flags."""
        rows = np.flatnonzero(self.touched)
        self.touched[rows] = 0
        return rows, {name: array[rows] for name, array in self.arrays.items()}

    def put(self, rows: Ints, columns: Mapping[str, Array]) -> None:
        """Write rows back as `take_touched` gave them; grows to fit; flags stay as they are."""
        if len(rows):
            self.grow(int(rows.max()) + 1)
        for name, values in columns.items():
            self.arrays[name][rows] = values

    def bytes_per_row(self) -> int:
        """Memory that one row takes."""
        return sum(a.dtype.itemsize * int(np.prod(a.shape[1:], dtype=np.int64)) for a in self.arrays.values())

    @staticmethod
    def _fresh(column: Column, n: int) -> Array:
        if column.fill == 0:
            return np.zeros((n, *column.shape), column.dtype)
        return np.full((n, *column.shape), column.fill, column.dtype)
