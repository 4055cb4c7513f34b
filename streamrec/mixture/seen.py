"""Which marks a user has had: the 512 most recent distinct ones, in pages of 16.

    row ── seen.head ──► page (16 marks, 16 stamps, next) ──► page ──► ... ──► -1
           seen.kept    only the first page of a chain may be partly filled

A stamp is the user's set number at which the mark came last; when 512 are kept, the mark with the
smallest (stamp, hash of the raw bytes) makes room. Freed pages form a chain of their own.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numba import njit

from streamrec.arrays import Array, Bytes8, Hashes, Ints, Ints32
from streamrec.jit import kernel
from streamrec.state.columns import Column, Columns

PAGE = 16
SEEN_MARKS = 512


class SeenArrays(NamedTuple):
    """Seen sets as a kernel sees them.

    Parameters
    ----------
    head, kept, row_touched : (rows,) first page, marks kept, touched flag of the user's row
    mark, stamp, next, page_touched : (pages, 16) twice, (pages,) twice
    pool : (2,) head of the free chain or -1, pages ever handed out
    place : (K,) scratch, -1 but for the user under work: page·16 + slot of a seen mark
    listed : (512,) scratch: the marks of the user under work
    """

    head: Ints32
    kept: Ints32
    row_touched: Bytes8
    mark: Ints32
    stamp: Ints32
    next: Ints32
    page_touched: Bytes8
    pool: Ints
    place: Ints
    listed: Ints32


@kernel
def open_seen(seen: SeenArrays, row: int) -> int:
    """List the user's marks in `listed` and their places in `place`; answers how many there are."""
    page, left, n = seen.head[row], seen.kept[row], 0
    marks, listed, place, following = seen.mark, seen.listed, seen.place, seen.next
    while left > 0:
        filled = (left - 1) % PAGE + 1
        for slot in range(filled):
            mark = marks[page, slot]
            listed[n] = mark
            place[mark] = page * PAGE + slot
            n += 1
        left -= filled
        page = following[page]
    return n


@kernel
def close_seen(seen: SeenArrays, n: int) -> None:
    """Clear `place` again for the first n of `listed`."""
    place, listed = seen.place, seen.listed
    for i in range(n):
        place[listed[i]] = -1


@kernel
def take_page(seen: SeenArrays) -> int:
    """A free page: from the chain of freed ones, else the next never used."""
    page = seen.pool[0]
    if page >= 0:
        seen.pool[0] = seen.next[page]
        return int(page)
    seen.pool[1] += 1
    return int(seen.pool[1] - 1)


@kernel
def oldest(seen: SeenArrays, hashes: Hashes) -> int:
    """Index in `listed` of the mark with the smallest (stamp, hash)."""
    best, places, listed, stamps = 0, seen.place, seen.listed, seen.stamp
    best_stamp, best_hash = np.int64(1 << 40), np.uint64(0)
    for i in range(SEEN_MARKS):
        place = places[listed[i]]
        stamp = np.int64(stamps[place // PAGE, place % PAGE])
        tie = hashes[listed[i]]
        if stamp < best_stamp or (stamp == best_stamp and tie < best_hash):
            best, best_stamp, best_hash = i, stamp, tie
    return best


@kernel
def put_seen(seen: SeenArrays, mark: int, place: int, stamp: int) -> None:
    """Write one slot."""
    page, slot = place // PAGE, place % PAGE
    seen.mark[page, slot] = mark
    seen.stamp[page, slot] = stamp
    seen.place[mark] = place
    seen.page_touched[page] = 1


@kernel
def learn_seen(seen: SeenArrays, row: int, n: int, mark: int, stamp: int, hashes: Hashes) -> int:
    """Stamp a mark of the opened user, adding it if need be; answers the new length of `listed`."""
    if seen.place[mark] >= 0:
        put_seen(seen, mark, seen.place[mark], stamp)
        return n
    if n == SEEN_MARKS:
        i = oldest(seen, hashes)
        place = seen.place[seen.listed[i]]
        seen.place[seen.listed[i]] = -1
        seen.listed[i] = mark
        put_seen(seen, mark, place, stamp)
        return n
    if n % PAGE == 0:
        page = take_page(seen)
        seen.next[page] = seen.head[row]
        seen.head[row] = page
    put_seen(seen, mark, seen.head[row] * PAGE + n % PAGE, stamp)
    seen.listed[n] = mark
    seen.kept[row] = n + 1
    seen.row_touched[row] = 1
    return n + 1


@kernel
def free_pages(seen: SeenArrays, rows: Ints) -> None:
    """Give the pages of these users back and forget their marks."""
    for row in rows:
        page = seen.head[row]
        while page >= 0:
            following = seen.next[page]
            seen.next[page] = seen.pool[0]
            seen.pool[0] = page
            seen.page_touched[page] = 1
            page = following
        seen.head[row] = -1
        seen.kept[row] = 0
        seen.row_touched[row] = 1


class SeenSets:
    """Seen sets of all users: row columns `seen.head` and `seen.kept`, and a pool of pages.

    Examples
    --------
    >>> arena = Columns(2, {})
    >>> seen = SeenSets(arena)
    >>> arrays = seen.arrays(n_marks=9, new_marks=1)
    >>> n = learn_seen(arrays, 0, open_seen(arrays, 0), 7, 0, np.zeros(9, np.uint64))
    >>> close_seen(arrays, n)
    >>> seen.marks_of(0).tolist(), seen.marks_of(1).tolist()
    ([7], [])
    """

    def __init__(self, arena: Columns) -> None:
        self.arena = arena
        arena.add("seen.head", Column(np.int32, (), -1))
        arena.add("seen.kept", Column(np.int32))
        spec = {"mark": Column(np.int32, (PAGE,)), "stamp": Column(np.int32, (PAGE,))}
        self.pages = Columns(64, {**spec, "next": Column(np.int32, (), -1)})
        self.pool = np.array([-1, 0], np.int64)
        self._place, self._listed = np.full(0, -1, np.int64), np.zeros(SEEN_MARKS, np.int32)

    def arrays(self, n_marks: int, new_marks: int) -> SeenArrays:
        """Seen sets for a kernel, with pages for `new_marks` more marks."""
        need = int(self.pool[1]) + new_marks
        if need > self.pages.capacity:
            self.pages.grow(max(need, 2 * self.pages.capacity))
        if len(self._place) < n_marks:
            self._place = np.full(2 * n_marks, -1, np.int64)
        rows, pages = self.arena, self.pages
        return SeenArrays(
            rows["seen.head"],
            rows["seen.kept"],
            rows.touched,
            pages["mark"],
            pages["stamp"],
            pages["next"],
            pages.touched,
            self.pool,
            self._place,
            self._listed,
        )

    def marks_of(self, row: int) -> Ints32:
        """The marks kept for one user."""
        found, page, left = [], int(self.arena["seen.head"][row]), int(self.arena["seen.kept"][row])
        while left > 0:
            filled = (left - 1) % PAGE + 1
            found.extend(self.pages["mark"][page, :filled].tolist())
            left, page = left - filled, int(self.pages["next"][page])
        return np.array(found, np.int32)

    def drop(self, rows: Ints) -> None:
        """Users are evicted: free their pages."""
        free_pages(self.arrays(0, 0), rows)

    def remap_marks(self, new_id: Ints) -> None:
        """Marks were evicted: take them out of every seen set, rename the others."""
        arrays = self.arrays(len(new_id), 0)
        for row in np.flatnonzero(self.arena["seen.kept"]):
            remap_row(arrays, int(row), new_id)

    def tables(self) -> Mapping[str, Columns]:
        """The pages."""
        return {"seen_pages": self.pages}

    def scalars(self) -> Mapping[str, Array]:
        """The pool of free pages."""
        return {"seen.pool": self.pool}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        self.pool[:] = arrays["seen.pool"]


@njit(cache=True)
def remap_row(seen: SeenArrays, row: int, new_id: Ints) -> None:
    """Rewrite one user's chain with the new ids, leaving out marks that are gone."""
    n = open_seen(seen, row)
    marks, stamps, kept = np.empty(n, np.int32), np.empty(n, np.int32), 0
    for i in range(n - 1, -1, -1):  # the chain runs backwards page by page; any fixed order will do
        mark = seen.listed[i]
        place = seen.place[mark]
        seen.place[mark] = -1
        if new_id[mark] >= 0:
            marks[kept], stamps[kept] = new_id[mark], seen.stamp[place // PAGE, place % PAGE]
            kept += 1
    free_pages(seen, np.full(1, row))
    for i in range(kept):
        if i % PAGE == 0:
            page = take_page(seen)
            seen.next[page] = seen.head[row]
            seen.head[row] = page
        put_seen(seen, marks[i], seen.head[row] * PAGE + i % PAGE, stamps[i])
        seen.place[marks[i]] = -1
    seen.kept[row] = kept
