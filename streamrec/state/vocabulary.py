"""The vocabulary: raw marks interned as 0, 1, 2, ... in order of first appearance.

    stamp     number of marks read by the lane when this one was last seen (unique, so no ties)
    n_ever    distinct marks ever seen; one that was evicted and comes back counts again

Above `max_marks`, between cuts, the marks not seen for longest go until 15/16 of the cap are left, and
the ids of the others move up so that they stay contiguous and in order: `new_id[old]`, -1 for gone.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from streamrec.arrays import Array, Hashes, Ints, Ints32
from streamrec.errors import ConfigError
from streamrec.state.columns import Column, Columns
from streamrec.state.names import ID, NamedColumns, raw, to_keep

SPEC = {"hash": Column(np.uint64), "count": Column(np.int64), "stamp": Column(np.int64)}


def mark_hash(mark: str) -> int:
    """64-bit hash of a mark's raw bytes, the same on every machine.

    Examples
    --------
    >>> mark_hash("m7") == mark_hash("m7"), mark_hash("m7") < 2**64
    (True, True)
    """
    return int.from_bytes(blake2b(raw(mark), digest_size=8).digest(), "little")


class Vocabulary:
    """Interned marks with their hashes, counts and stamps, and a cap on their number.

    Parameters
    ----------
    max_marks : marks that may be held between cuts
    floor : most recently seen marks that no eviction touches
    capacity : marks to make room for at the beginning; doubled when used up

    Raises
    ------
    ConfigError
        If `floor` exceeds `max_marks`, or one of them is not positive.

    Examples
    --------
    >>> vocabulary = Vocabulary(max_marks=2)
    >>> vocabulary.intern(["a", "b", "a", "c"]).tolist()
    [0, 1, 0, 2]
    >>> vocabulary.counts.tolist(), vocabulary.n_ever
    ([2, 1, 1], 3)
    >>> vocabulary.evict().tolist(), vocabulary.mark_of(0)
    ([-1, -1, 0], 'c')
    """

    def __init__(self, max_marks: int = 1_000_000, floor: int = 1, capacity: int = 1024) -> None:
        if not 1 <= floor <= max_marks:
            raise ConfigError(f"vocabulary: floor: expected 1 to max_marks ({max_marks}), got {floor}")
        self.max_marks = max_marks
        self.floor = floor
        self.n_ever = 0
        self.n_read = 0
        self.n_evicted = 0
        self._rows = NamedColumns(capacity, SPEC)

    @property
    def n_marks(self) -> int:
        """K, the marks interned now."""
        return len(self._rows.index)

    @property
    def hashes(self) -> Hashes:
        """(K,) 64-bit hash of the raw bytes of every mark; a view that ends with the cut."""
        return self._rows["hash"][: self.n_marks]

    @property
    def counts(self) -> Ints:
        """(K,) how often each mark was read since it was interned."""
        return self._rows["count"][: self.n_marks]

    @property
    def stamps(self) -> Ints:
        """(K,) marks read by the lane when each mark was last seen."""
        return self._rows["stamp"][: self.n_marks]

    def mark_of(self, mark_id: int) -> str:
        """Raw mark of an id."""
        if not 0 <= mark_id < self.n_marks:
            raise IndexError(f"mark id: expected 0 to {self.n_marks - 1}, got {mark_id}")
        mark: str = self._rows.ids[mark_id]
        return mark

    def find(self, mark: str) -> int:
        """Id of a mark, or -1; changes nothing."""
        return self._rows.find(mark)

    def intern(self, marks: Sequence[str]) -> Ints32:
        """Ids of marks in the order of the stream, (len(marks),); unknown ones get the next ids."""
        index = self._rows.index
        ids = np.empty(len(marks), np.int32)
        for i, mark in enumerate(marks):
            known = index.get(mark)
            ids[i] = self._new_id(mark) if known is None else known
        np.add.at(self._rows["count"], ids, 1)
        np.maximum.at(self._rows["stamp"], ids, self.n_read + 1 + np.arange(len(marks)))
        self._rows.touched[ids] = 1
        self.n_read += len(marks)
        return ids

    def evict(self) -> Ints | None:
        """`new_id` (K before,) when marks had to go, None as long as the cap holds.

        Call between cuts; every model then gets `remap_marks(new_id)`.
        """
        k = self.n_marks
        if k <= self.max_marks:
            return None
        oldest_first = np.argsort(self.stamps, kind="stable")
        gone = oldest_first[: k - to_keep(self.max_marks, self.floor)]
        kept = np.setdiff1d(np.arange(k), gone)
        new_id = np.full(k, -1, np.int64)
        new_id[kept] = np.arange(len(kept))
        self._move(kept, k)
        self.n_evicted += len(gone)
        return new_id

    def tables(self) -> Mapping[str, Columns]:
        """The marks with their columns."""
        return {"marks": self._rows}

    def scalars(self) -> Mapping[str, Array]:
        """The counters."""
        return {"counters": np.array([self.n_ever, self.n_read, self.n_evicted], np.int64)}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        self.n_ever, self.n_read, self.n_evicted = arrays["counters"].tolist()

    def _new_id(self, mark: str) -> int:
        new = self.n_marks
        if new >= self._rows.capacity:
            self._rows.double_to_fit(new)
        self._rows.name_row(new, mark)
        self._rows["hash"][new] = mark_hash(mark)
        self.n_ever += 1
        return new

    def _move(self, kept: Ints, k: int) -> None:
        """Row kept[i] becomes row i; rows from len(kept) on are fresh."""
        columns: dict[str, Array] = {name: self._rows[name][kept] for name in self._rows}
        names = self._rows.ids[kept]
        for row in range(k):
            self._rows.name_row(row, None)
        self._rows.reset(np.arange(k))
        self._rows.put(np.arange(len(kept)), {**columns, ID: names})
