"""Person-time of a cell (context, bin of elapsed time, partition), exact at every moment.

A cell keeps n users at risk, the time u of its last change and the person-time A up to u:

    enter at τ     A += n (τ - u)+,  u = max(u, τ),  n += 1,  A += u - τ
    leave at τ     A += n (τ - u)+,  u = max(u, τ),  n -= 1,  A -= u - τ
    exposure at c  A + n (c - u)

This is closed + n c - Σ entries with the sum of entries counted from u: the same number, and no
difference of sums near 1.7e9 that would eat small bins. The last terms of enter and leave charge at
once, or give back, what an event older than the clock has changed.

n and u are (P * slots, bins), a cell being partition * slots + slot; A is (slots, bins): it is summed
over the partitions, whose clocks differ.

Source: occurrence/exposure rates, Aalen, Borgan, Gjessing (2008), Survival and Event History
Analysis, section 5.1.
"""

from numba import njit

from streamrec.arrays import Array, Floats


@njit(cache=True, inline="always")
def enter(n: Array, since: Floats, person_time: Floats, cell: int, slot: int, bin: int, time: float) -> None:
    """Put a user at risk from `time` on; n, since (cells, bins), person_time (slots, bins)."""
    if n[cell, bin] == 0:
        since[cell, bin] = time
    elif time > since[cell, bin]:
        person_time[slot, bin] += n[cell, bin] * (time - since[cell, bin])
        since[cell, bin] = time
    n[cell, bin] += 1
    person_time[slot, bin] += since[cell, bin] - time


@njit(cache=True, inline="always")
def leave(n: Array, since: Floats, person_time: Floats, cell: int, slot: int, bin: int, time: float) -> None:
    """Take a user out of risk at `time`; the inverse of `enter`."""
    if time > since[cell, bin]:
        person_time[slot, bin] += n[cell, bin] * (time - since[cell, bin])
        since[cell, bin] = time
    n[cell, bin] -= 1
    person_time[slot, bin] -= since[cell, bin] - time


@njit(cache=True, inline="always")
def exposed(
    n: Array, since: Floats, person_time: Floats, slots: int, slot: int, bin: int, clocks: Floats
) -> float:
    """Person-seconds in a bin up to the clocks (P,), not negative."""
    total = float(person_time[slot, bin])
    for p in range(len(clocks)):
        if n[p * slots + slot, bin]:
            total += n[p * slots + slot, bin] * (clocks[p] - since[p * slots + slot, bin])
    return max(total, 0.0)
