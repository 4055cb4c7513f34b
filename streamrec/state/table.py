"""Kernels of the successor table: contexts by 64-bit key, and what followed each of them, in blocks of 8.

    key ──► slot: total, distinct, stamp, head ──► block ──► block ──► ...
                                                   8 × (mark, count)

Open addressing with linear probing; the number of slots is a power of two and key 0 means empty. New
blocks go in front, so that only the head block of a chain may be partly filled: with D distinct
successors it holds ((D - 1) mod 8) + 1 of them. When a context has `most` successors, a further mark
takes the place of one with the smallest count c and starts from c + 1 (space-saving), so that
total = Σ counts always.

Source of space-saving: Metwally, Agrawal, El Abbadi (2005), ICDT, 398-412.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from streamrec.arrays import Bytes8, Floats, Floats32, Hashes, Ints, Ints32

BLOCK = 8
"""Successors in one block."""

LIVE, FREE, N_FREE, HIGH, EVICTED, REPLACED = range(6)
"""Places in `Slots.state`: contexts, head and number of the free blocks, blocks ever used, two counters."""


class Slots(NamedTuple):
    """The columns of a table as one argument for kernels; C slots and B blocks."""

    key: Hashes
    total: Floats
    distinct: Ints32
    stamp: Ints
    head: Ints32
    context_touched: Bytes8
    mark: Ints32
    counts: Floats32
    next: Ints32
    block_touched: Bytes8
    state: Ints


@njit(cache=True)
def find(key: Hashes, wanted: np.uint64) -> int:
    """Slot that holds the key, or the empty one where it would be put."""
    mask = len(key) - 1
    slot = np.int64(wanted & np.uint64(mask))
    while key[slot] != wanted and key[slot] != np.uint64(0):
        slot = np.int64((slot + 1) & mask)
    return int(slot)


@njit(cache=True)
def has_room(t: Slots, contexts: int, blocks: int) -> bool:
    """Whether so many fresh contexts and blocks fit without growth or eviction."""
    free = len(t.next) - t.state[HIGH] + t.state[N_FREE]
    return bool(4 * (t.state[LIVE] + contexts) <= 3 * len(t.key) and blocks <= free)


@njit(cache=True)
def open_context(t: Slots, key: np.uint64, stamp: int) -> int:
    """Slot of a context that is about to be counted in; a new one is put into the table."""
    slot = find(t.key, key)
    if t.key[slot] == np.uint64(0):
        t.key[slot] = key
        t.state[LIVE] += 1
    t.stamp[slot] = stamp
    t.context_touched[slot] = 1
    return slot


@njit(cache=True)
def count_mark(t: Slots, slot: int, mark: int, most: int) -> bool:
    """Count one more `mark` after the context in `slot`; whether it had been counted there before."""
    t.total[slot] += 1.0
    lowest, low_block, low_place = np.float32(np.inf), -1, -1
    block, filled = t.head[slot], ((t.distinct[slot] - 1) & (BLOCK - 1)) + 1
    while block >= 0:
        for j in range(filled):
            if t.mark[block, j] == mark:
                t.counts[block, j] += np.float32(1.0)
                t.block_touched[block] = 1
                return True
            if t.counts[block, j] <= lowest:
                lowest, low_block, low_place = t.counts[block, j], block, j
        block, filled = t.next[block], BLOCK
    if t.distinct[slot] < most:
        _append(t, slot, mark, np.float32(1.0))
        return False
    t.mark[low_block, low_place] = mark
    t.counts[low_block, low_place] = lowest + np.float32(1.0)
    t.block_touched[low_block] = 1
    t.state[REPLACED] += 1
    return False


@njit(cache=True)
def _append(t: Slots, slot: int, mark: int, count: np.float32) -> None:
    place = t.distinct[slot] & (BLOCK - 1)
    if place == 0:
        block = _new_block(t)
        t.next[block] = t.head[slot]
        t.head[slot] = block
    block = t.head[slot]
    t.mark[block, place] = mark
    t.counts[block, place] = count
    t.distinct[slot] += 1
    t.block_touched[block] = 1


@njit(cache=True)
def _new_block(t: Slots) -> int:
    block = int(t.state[FREE])
    if block < 0:
        t.state[HIGH] += 1
        return int(t.state[HIGH]) - 1
    t.state[FREE] = t.next[block]
    t.state[N_FREE] -= 1
    return block


@njit(cache=True)
def free_chain(t: Slots, slot: int) -> None:
    """Give a context's blocks back; the caller drops or refills the slot."""
    block = t.head[slot]
    while block >= 0:
        after = t.next[block]
        t.mark[block, :] = -1
        t.counts[block, :] = np.float32(0.0)
        t.next[block] = t.state[FREE]
        t.block_touched[block] = 1
        t.state[FREE] = block
        t.state[N_FREE] += 1
        block = after
    t.head[slot] = -1
    t.distinct[slot] = 0
    t.context_touched[slot] = 1


@njit(cache=True)
def free_chains(t: Slots, slots: Ints) -> None:
    """Give the blocks of several contexts back, in the given order."""
    for slot in slots:
        free_chain(t, slot)


@njit(cache=True)
def place_keys(key: Hashes, keys: Hashes) -> Ints:
    """Put distinct keys into the empty column `key` in their order; the slots they got."""
    slots = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        slots[i] = find(key, keys[i])
        key[slots[i]] = keys[i]
    return slots


@njit(cache=True)
def remap(t: Slots, new_id: Ints, room: int) -> None:
    """Rename the marks in all chains; those that are gone (-1) take their counts with them."""
    marks, counts = np.empty(room, np.int32), np.empty(room, np.float32)
    for slot in range(len(t.key)):
        if t.key[slot] == np.uint64(0):
            continue
        n = read_chain(t, slot, marks, counts)
        free_chain(t, slot)
        t.total[slot] = 0.0
        for i in range(n - 1, -1, -1):
            if new_id[marks[i]] >= 0:
                _append(t, slot, new_id[marks[i]], counts[i])
                t.total[slot] += counts[i]


@njit(cache=True)
def read_chain(t: Slots, slot: int, marks: Ints32, counts: Floats32) -> int:
    """Copy a context's successors, newest block first and newest within a block first; their number."""
    n, block, filled = 0, t.head[slot], ((t.distinct[slot] - 1) & (BLOCK - 1)) + 1
    while block >= 0:
        for j in range(filled - 1, -1, -1):
            marks[n], counts[n] = t.mark[block, j], t.counts[block, j]
            n += 1
        block, filled = t.next[block], BLOCK
    return n
