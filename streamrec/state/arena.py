"""The arena: one row per user, found by the user's raw id.

    rows_of(users)    the rows of users; a new user takes the lowest row without one
    evict()           between cuts: above `max_users`, the least recently active go until 15/16 of
                      the cap are left; the `floor` most recently active are never among them

Activity is the column `last_time` (s since the epoch, NaN before the first set), which the processor
keeps; ties go by row. Everything is a function of the order of events alone.
"""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop

import numpy as np

from streamrec.arrays import Array, Ints
from streamrec.errors import ConfigError
from streamrec.state.columns import Column, Columns
from streamrec.state.names import NamedColumns, to_keep


class Arena(NamedColumns):
    """User rows by raw id, with a cap on their number.

    Models add their columns with `add("<model>.<column>", Column(...))`. `Columns.__getitem__` gives a
    whole column; `rows_of` may grow it, so fetch columns after it.

    Parameters
    ----------
    max_users : users that may be held between cuts
    floor : most recently active users that no eviction touches
    capacity : rows to begin with; doubled when they are used up

    Raises
    ------
    ConfigError
        If `floor` exceeds `max_users`, or one of them is not positive.

    Examples
    --------
    >>> arena = Arena(max_users=2, floor=1)
    >>> arena.rows_of(["b", "a", "b", "c"]).tolist()
    [0, 1, 0, 2]
    >>> arena["last_time"][:3] = [10.0, 30.0, 20.0]
    >>> arena.evict().tolist(), arena.n_users, arena.find("b")
    ([0, 2], 1, -1)
    """

    def __init__(self, max_users: int = 5_000_000, floor: int = 1, capacity: int = 1024) -> None:
        if not 1 <= floor <= max_users:
            raise ConfigError(f"arena: floor: expected 1 to max_users ({max_users}), got {floor}")
        self.max_users = max_users
        self.floor = floor
        self.n_evicted = 0
        self._free: list[int] | None = []
        super().__init__(capacity, {"last_time": Column(np.float64, (), np.nan)})

    @property
    def n_users(self) -> int:
        """Users that have a row."""
        return len(self.index)

    def rows_of(self, users: Sequence[str]) -> Ints:
        """Row of every user, (len(users),); users without one get one, in order of appearance."""
        index = self.index
        rows = np.empty(len(users), np.int64)
        for i, user in enumerate(users):
            row = index.get(user)
            rows[i] = self._new_row(user) if row is None else row
        return rows

    def evict(self) -> Ints:
        """Rows of the users who had to go, ascending; empty as long as the cap holds.

        The rows are reset and free again. Call between cuts, and tell all who keep tables by row.
        """
        gone = self.oldest()
        if len(gone):
            self.drop(gone)
            self.n_evicted += len(gone)
        return gone

    def oldest(self) -> Ints:
        """Rows that `evict` would take now, ascending; changes nothing."""
        if self.n_users <= self.max_users:
            return np.empty(0, np.int64)
        rows = np.sort(np.fromiter(self.index.values(), np.int64, self.n_users))
        last = np.nan_to_num(self["last_time"][rows], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        oldest_first = rows[np.lexsort((rows, last))]
        return np.sort(oldest_first[: self.n_users - to_keep(self.max_users, self.floor)])

    def drop(self, rows: Ints) -> None:
        """Reset rows and free their ids; a user who comes back is a new user."""
        free = self._free_rows()
        held = [row for row in np.unique(rows).tolist() if self.ids[row] is not None]
        for row in held:
            self.name_row(row, None)
        self.reset(rows)
        free.extend(held)
        heapify(free)

    def put(self, rows: Ints, columns: Mapping[str, Array]) -> None:
        """Write rows back as `take_touched` gave them, with their ids."""
        super().put(rows, columns)
        self._free = None  # found anew when it is needed: a restore puts many times

    def tables(self) -> Mapping[str, Columns]:
        """The rows themselves."""
        return {"rows": self}

    def scalars(self) -> Mapping[str, Array]:
        """The counter of evictions."""
        return {"n_evicted": np.array([self.n_evicted], np.int64)}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        self.n_evicted = int(arrays["n_evicted"][0])

    def _free_rows(self) -> list[int]:
        if self._free is None:
            self._free = [row for row, name in enumerate(self.ids[: self.n_named].tolist()) if name is None]
        return self._free

    def _new_row(self, user: str) -> int:
        free = self._free_rows()
        row = heappop(free) if free else self.n_named
        if row >= self.capacity:
            self.double_to_fit(row)
        self.name_row(row, user)
        return row
