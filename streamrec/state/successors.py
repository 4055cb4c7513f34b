"""What followed a context: a bounded table of counts by 64-bit context key, grown and evicted by rule.

Two groups of columns (see `streamrec.state.table` for the picture): `contexts`, an open-addressing
table, and `blocks`, chains of eight (mark, count). Both begin small and double until their cap. When a
capped table is more than 3/4 full the contexts that were learned longest ago go until it is half full
(half of its blocks, if those ran out), and never one of the `floor` most recent ones. Growth and eviction
happen between two tie sets and depend on the table alone, so that cuts of any size give equal bits.
"""

from collections.abc import Mapping

import numpy as np

from streamrec.arrays import Array, Hashes, Ints
from streamrec.errors import ConfigError, InvariantError
from streamrec.state.columns import Column, Columns
from streamrec.state.table import (
    BLOCK,
    EVICTED,
    FREE,
    HIGH,
    LIVE,
    N_FREE,
    REPLACED,
    Slots,
    count_mark,
    find,
    free_chains,
    has_room,
    open_context,
    place_keys,
    read_chain,
    remap,
)

CONTEXT_COLUMNS = {
    "key": Column(np.uint64),
    "total": Column(np.float64),
    "distinct": Column(np.int32),
    "stamp": Column(np.int64),
    "head": Column(np.int32, (), -1),
}
BLOCK_COLUMNS = {
    "mark": Column(np.int32, (BLOCK,), -1),
    "count": Column(np.float32, (BLOCK,)),
    "next": Column(np.int32, (), -1),
}
SET_BLOCKS = 1024
"""Blocks that are free after any eviction: a set of 128 marks in eight contexts."""

FIRST_CONTEXTS, FIRST_BLOCKS = 1024, 2048


class SuccessorTable:
    """Counts of the marks that followed each context, within fixed memory.

    Parameters
    ----------
    contexts : most slots, a power of two; up to 3/4 of them are in use
    blocks : most blocks of eight successors
    successors : most marks counted per context; a further one takes the place of a rarest
    floor : contexts, the most recently learned ones, that are never evicted

    Raises
    ------
    ConfigError
        If `contexts` is not a power of two, or the floor alone could fill half of either group.

    Examples
    --------
    >>> table = SuccessorTable()
    >>> for mark in [3, 5, 3]:
    ...     table.add(key=77, marks=[mark], stamp=0)
    >>> table.successors_of(77), table.successors_of(78)
    ({5: 1.0, 3: 2.0}, {})
    """

    def __init__(
        self, contexts: int = 1 << 18, blocks: int = 1 << 19, successors: int = 200, floor: int = 1024
    ) -> None:
        chain = -(-successors // BLOCK)
        if contexts < 4 or contexts & (contexts - 1):
            raise ConfigError(f"contexts: expected a power of two from 4, got {contexts}")
        if successors < 1 or floor < 1:
            raise ConfigError(f"successors, floor: expected at least 1, got {successors}, {floor}")
        if 2 * floor > contexts or 2 * (floor * chain + SET_BLOCKS) > blocks:
            raise ConfigError(
                f"floor: {floor} contexts of {chain} blocks fill more than half of {contexts} contexts or of "
                f"{blocks} blocks, {SET_BLOCKS} of them set aside; lower the floor or raise the caps"
            )
        self.most_contexts, self.most_blocks = contexts, blocks
        self.successors, self.floor = successors, floor
        self.contexts = Columns(min(contexts, FIRST_CONTEXTS), CONTEXT_COLUMNS)
        self.blocks = Columns(min(blocks, FIRST_BLOCKS), BLOCK_COLUMNS)
        self.state: Ints = np.zeros(REPLACED + 1, np.int64)
        self.state[FREE] = -1

    @property
    def n_contexts(self) -> int:
        """Contexts in the table."""
        return int(self.state[LIVE])

    @property
    def evicted_contexts(self) -> int:
        """Contexts evicted so far."""
        return int(self.state[EVICTED])

    @property
    def replaced_successors(self) -> int:
        """Marks that took the place of a rarest one in a full context so far."""
        return int(self.state[REPLACED])

    def slots(self) -> Slots:
        """The columns as kernels take them; valid until `make_room` is called."""
        c, b = self.contexts, self.blocks
        return Slots(
            key=c["key"],
            total=c["total"],
            distinct=c["distinct"],
            stamp=c["stamp"],
            head=c["head"],
            context_touched=c.touched,
            mark=b["mark"],
            counts=b["count"],
            next=b["next"],
            block_touched=b.touched,
            state=self.state,
        )

    def make_room(self, contexts: int, blocks: int) -> None:
        """Grow or evict until so many fresh contexts and blocks fit.

        Raises
        ------
        InvariantError
            If they do not fit even beside the floor alone.
        """
        while 4 * (self.n_contexts + contexts) > 3 * self.contexts.capacity:
            if self.contexts.capacity < self.most_contexts:
                self._double_contexts()
            elif not self._evict(self.contexts.capacity // 2, self.most_blocks):
                raise self._too_small(contexts, blocks)
        while self._free_blocks() < blocks:
            if self.blocks.capacity < self.most_blocks:
                self.blocks.grow(min(2 * self.blocks.capacity, self.most_blocks))
            elif not self._evict(self.contexts.capacity, self.most_blocks // 2):
                raise self._too_small(contexts, blocks)

    def add(self, key: int, marks: list[int], stamp: int) -> None:
        """Count marks after one context (kernels of models do the same without Python)."""
        if not has_room(self.slots(), 1, len(marks)):
            self.make_room(1, len(marks))
        slot = open_context(self.slots(), np.uint64(key), stamp)
        for mark in marks:
            count_mark(self.slots(), slot, mark, self.successors)

    def successors_of(self, key: int) -> dict[int, float]:
        """Counts by mark after one context, the newest first; empty for a context not in the table."""
        t = self.slots()
        slot = find(t.key, np.uint64(key))
        marks, counts = np.empty(self.successors, np.int32), np.empty(self.successors, np.float32)
        n = read_chain(t, slot, marks, counts)
        return dict(zip(marks[:n].tolist(), counts[:n].tolist(), strict=True))

    def remap_marks(self, new_id: Ints) -> None:
        """Mark i is now `new_id[i]`, or gone where that is -1; contexts left without successors go too."""
        remap(self.slots(), np.asarray(new_id, np.int64), self.successors)
        live = np.flatnonzero(self.contexts["key"])
        self._rebuild(live[self.contexts["distinct"][live] > 0])

    def tables(self) -> Mapping[str, Columns]:
        """Both column groups."""
        return {"contexts": self.contexts, "blocks": self.blocks}

    def scalars(self) -> Mapping[str, Array]:
        """Counters, the head of the free blocks, and both capacities."""
        capacity = np.array([self.contexts.capacity, self.blocks.capacity], np.int64)
        return {"state": self.state.copy(), "capacity": capacity}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave; the columns may be filled before or after."""
        self.state = np.array(arrays["state"], np.int64)
        self.contexts.grow(int(arrays["capacity"][0]))
        self.blocks.grow(int(arrays["capacity"][1]))

    def _free_blocks(self) -> int:
        return self.blocks.capacity - int(self.state[HIGH]) + int(self.state[N_FREE])

    def _double_contexts(self) -> None:
        live = np.flatnonzero(self.contexts["key"])
        self.contexts.grow(2 * self.contexts.capacity)
        self._rebuild(live)

    def _evict(self, contexts_left: int, blocks_left: int) -> bool:
        """Drop the contexts learned longest ago until so many are left; False if none could go."""
        live = np.flatnonzero(self.contexts["key"])
        by_age = live[np.lexsort((self.contexts["key"][live], self.contexts["stamp"][live]))]
        used = np.cumsum(-(-self.contexts["distinct"][by_age[::-1]] // BLOCK))
        within = int(np.searchsorted(used, blocks_left, side="right"))
        keep = max(min(within, contexts_left), self.floor)
        gone = by_age[: max(len(by_age) - keep, 0)]
        free_chains(self.slots(), gone)
        self.state[EVICTED] += len(gone)
        self._rebuild(np.sort(by_age[len(gone) :]))
        return len(gone) > 0

    def _rebuild(self, kept: Ints) -> None:
        """Put the contexts in the slots `kept` anew into a table without any others."""
        columns = {name: self.contexts[name][kept] for name in self.contexts}
        self.contexts.reset(np.arange(self.contexts.capacity))
        keys: Hashes = columns.pop("key")
        slots = place_keys(self.contexts["key"], keys)
        self.contexts.put(slots, columns)
        self.state[LIVE] = len(kept)

    def _too_small(self, contexts: int, blocks: int) -> InvariantError:
        return InvariantError(
            f"successor table: {contexts} contexts and {blocks} blocks for one set do not fit beside the "
            f"floor of {self.floor} (caps: {self.most_contexts} contexts, {self.most_blocks} blocks)"
        )
