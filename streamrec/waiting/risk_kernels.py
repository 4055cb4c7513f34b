"""Kernels of the risk queue: users in a list by the time of their last set, a finger per edge.

    index    before, after (rows), ends (P, 2), finger, due (P, limits): finger[p, j] is the first user
             of the list that has not passed limit j, due[p, j] the time at which it will; soon
             (P, blocks) is scratch: the minimum of every block of `due`
    columns  entry, serial, partition of the rows
    ops      set, row, partition, source, target, time, elapsed; see `RiskOps`

`last` is the number of limits after which a user is given up, more than there are if never. A row
that is in no list has before = -2.
"""

from typing import Any

import numpy as np
from numba import njit

from streamrec.arrays import Bytes8, Floats, Ints, Ints32

SLACK = 168
"""Free operations that a set is sure to find: four per bin."""
BLOCK = 7
"""Fingers that share a minimum, so that the next one to move is found in two short looks."""


@njit(cache=True, inline="always")
def _crossed(entry: float, limits: Floats, clock: float) -> int:
    """Number of limits that a user has passed when the clock shows `clock`."""
    low, high = 0, len(limits)
    while low < high:
        mid = (low + high) // 2
        if entry + limits[mid] <= clock:
            low = mid + 1
        else:
            high = mid
    return low


@njit(cache=True, inline="always")
def _bin(crossed: int, last: int) -> int:
    """Bin after so many limits; -1 after the one at which users are given up."""
    return -1 if crossed == last else crossed


@njit(cache=True)
def _unlink(r: int, p: int, index: tuple[Any, ...], entry: Floats, limits: Floats) -> None:
    before, after, ends, finger, due, _ = index
    for j in range(len(limits)):
        if finger[p, j] == r:
            x = after[r]
            finger[p, j] = x
            due[p, j] = np.inf if x < 0 else entry[x] + limits[j]
    if before[r] >= 0:
        after[before[r]] = after[r]
    else:
        ends[p, 0] = after[r]
    if after[r] >= 0:
        before[after[r]] = before[r]
    else:
        ends[p, 1] = before[r]
    before[r] = -2


@njit(cache=True)
def _link(r: int, p: int, crossed: int, index: tuple[Any, ...], entry: Floats, limits: Floats) -> None:
    """Insert behind all users whose last set is not later; on time this is the end of the list."""
    before, after, ends, finger, due, _ = index
    x = ends[p, 1]
    if crossed > 0 and finger[p, crossed - 1] >= 0:
        x = before[finger[p, crossed - 1]]
    while x >= 0 and entry[x] > entry[r]:
        x = before[x]
    y = after[x] if x >= 0 else ends[p, 0]
    before[r], after[r] = x, y
    if x >= 0:
        after[x] = r
    else:
        ends[p, 0] = r
    if y >= 0:
        before[y] = r
    else:
        ends[p, 1] = r
    for j in range(crossed, len(limits)):
        if finger[p, j] == y:
            finger[p, j] = r
            due[p, j] = entry[r] + limits[j]


@njit(cache=True, inline="always")
def _put(
    ops: tuple[Any, ...], i: int, s: int, r: int, p: int, a: int, b: int, time: float, elapsed: float
) -> int:
    ops[0][i], ops[1][i], ops[2][i], ops[3][i], ops[4][i] = s, r, p, a, b
    ops[5][i], ops[6][i] = time, elapsed
    return i + 1


@njit(cache=True, inline="always")
def _first_due(due: Floats, block: int) -> float:
    """Earliest time at which a finger of a block has to move."""
    low = due[block * BLOCK]
    for k in range(block * BLOCK + 1, min((block + 1) * BLOCK, len(due))):
        low = min(low, due[k])
    return float(low)


@njit(cache=True)
def _drain(
    p: int, clock: float, last: int, limits: Floats, entry: Floats, index: Any, ops: Any, i: int
) -> int:
    """Let every user of the partition that is due cross its next edge, in order of time."""
    after, finger, due, soon = index[1], index[3][p], index[4][p], index[5][p]
    room = len(ops[0]) - SLACK
    for c in range(len(soon)):
        soon[c] = _first_due(due, c)
    while i < room:
        c, low = 0, soon[0]
        for k in range(1, len(soon)):
            if soon[k] < low:
                c, low = k, soon[k]
        if not low <= clock:
            break
        j = c * BLOCK
        while due[j] != low:
            j += 1
        r = finger[j]
        i = _put(ops, i, -1, r, p, j, _bin(j + 1, last), low, limits[j])
        x = after[r]
        finger[j] = x
        due[j] = np.inf if x < 0 else entry[x] + limits[j]
        soon[c] = _first_due(due, c)
        if j + 1 == last:
            _unlink(r, p, index, entry, limits)
    return i


@njit(cache=True)
def _arrive(
    s: int,
    r: int,
    p: int,
    t: float,
    clock: Floats,
    last: int,
    limits: Floats,
    columns: Any,
    index: Any,
    ops: Any,
    i: int,
) -> int:
    """End the wait of a user whose set has come: bring it to the bin of the set, then count the set."""
    entry, where = columns[0], columns[2]
    e, q = entry[r], where[r]
    if np.isnan(e):
        return _put(ops, i, s, r, p, -1, 0, t, np.nan)
    is_open = index[0][r] != -2
    now = _crossed(e, limits, clock[q]) if is_open else last
    then = _crossed(e, limits, t)
    while now > then:
        i = _put(ops, i, -1, r, q, _bin(now, last), now - 1, e + limits[now - 1], limits[now - 1])
        now -= 1
    while now < then:
        i = _put(ops, i, -1, r, q, now, _bin(now + 1, last), e + limits[now], limits[now])
        now += 1
    source = _bin(then, last)
    if q != p and source >= 0:
        i = _put(ops, i, -1, r, q, source, -1, t, t - e)
        i = _put(ops, i, -1, r, p, -1, source, t, t - e)
    if is_open:
        _unlink(r, q, index, entry, limits)
    return _put(ops, i, s, r, p, source, 0, t, t - e)


@njit(cache=True)
def walk(
    s: int, i: int, serial: int, row: Ints, part: Ints32, time: Floats, clock: Floats, last: int,
    limits: Floats, columns: Any, touched: Bytes8, index: Any, ops: Any, event: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Operations of the sets from s on; stops early, ready to go on, when the room for them runs out."""
    room = len(ops[0]) - SLACK
    while s < len(row):
        p, r, t = part[s], row[s], time[s]
        clock[p] = max(clock[p], t)
        i = _drain(p, clock[p], last, limits, columns[0], index, ops, i)
        if i >= room:
            break
        i = _arrive(s, r, p, t, clock, last, limits, columns, index, ops, i)
        event[s] = i - 1
        columns[0][r], columns[1][r], columns[2][r], touched[r] = t, serial + s, p, 1
        crossed = _crossed(t, limits, clock[p])
        for j in range(crossed):
            i = _put(ops, i, -1, r, p, j, _bin(j + 1, last), t + limits[j], limits[j])
        if crossed != last:
            _link(r, p, crossed, index, columns[0], limits)
        s += 1
    return s, i


@njit(cache=True)
def give_up(
    rows: Ints, clock: Floats, limits: Floats, columns: Any, touched: Bytes8, index: Any, ops: Any
) -> int:
    """Operations that end the risk of rows at their partition's clock; the rows are unknown afterwards."""
    i = 0
    for r in rows:
        e, p = columns[0][r], columns[2][r]
        if index[0][r] != -2:
            bin = _crossed(e, limits, clock[p])
            i = _put(ops, i, -1, r, p, bin, -1, clock[p], clock[p] - e)
            _unlink(r, p, index, columns[0], limits)
        columns[0][r], columns[2][r], touched[r] = np.nan, -1, 1
    return i
