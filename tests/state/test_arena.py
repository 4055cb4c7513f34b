from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from streamrec.errors import ConfigError
from streamrec.state.arena import Arena
from streamrec.state.columns import Column

Step = list[str] | str


def filled(users: Sequence[str], last_time: ArrayLike, **caps: int) -> Arena:
    arena = Arena(**caps)
    arena["last_time"][arena.rows_of(users)] = last_time
    return arena


def restored(arena: Arena) -> Arena:
    """A second arena that was given all rows of the first."""
    arena.touched[:] = 1
    rows, columns = arena.take_touched()
    other = Arena(arena.max_users, arena.floor, capacity=1)
    other.put(rows, columns)
    other.load_scalars(arena.scalars())
    return other


def test_users_get_rows_in_order_of_appearance_and_keep_them() -> None:
    arena = Arena()
    assert arena.rows_of(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert arena.rows_of(["c", "a"]).tolist() == [2, 1]
    assert [arena.find(u) for u in ("a", "b", "c", "d")] == [1, 0, 2, -1]
    assert arena.ids[:3].tolist() == ["b", "a", "c"]


def test_capacity_doubles_and_fresh_rows_hold_the_fill_values() -> None:
    arena = Arena(capacity=2)
    arena.add("m.h", Column(np.float32, (3,), 7.0))
    arena.rows_of([str(i) for i in range(5)])
    assert arena.capacity == 8
    assert arena["m.h"].shape == (8, 3) and (arena["m.h"] == 7.0).all()
    assert np.isnan(arena["last_time"]).all()


def test_freed_rows_are_used_again_lowest_first() -> None:
    arena = filled("abcdef", 0.0)
    arena.drop(np.array([4, 1, 2, 1]))
    assert arena.rows_of(["x", "y", "z", "new"]).tolist() == [1, 2, 4, 6]


def test_a_user_who_was_dropped_and_comes_back_is_a_new_user() -> None:
    arena = filled(["a", "b"], 5.0)
    arena.drop(np.array([0]))
    assert arena.find("a") == -1
    assert np.isnan(arena["last_time"][arena.rows_of(["a"])[0]])


def test_the_least_recently_active_go_until_15_16_of_the_cap_are_left() -> None:
    arena = filled([f"u{i}" for i in range(40)], np.arange(40.0)[::-1], max_users=32)
    gone = arena.evict()
    assert arena.n_users == 30 and arena.n_evicted == 10
    assert gone.tolist() == list(range(30, 40))
    assert arena.evict().tolist() == []


def test_equal_times_are_evicted_by_row_and_users_without_a_time_first() -> None:
    arena = filled([f"u{i}" for i in range(20)], 1.0, max_users=16)
    arena["last_time"][7] = np.nan
    assert arena.evict().tolist() == [0, 1, 2, 3, 7]


def test_the_floor_is_never_evicted() -> None:
    arena = filled([f"u{i}" for i in range(20)], np.arange(20.0), max_users=16, floor=16)
    assert arena.evict().tolist() == [0, 1, 2, 3]


def test_below_the_cap_nobody_is_evicted() -> None:
    assert filled("abc", 0.0, max_users=3).evict().tolist() == []


def test_a_floor_above_the_cap_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"floor: expected 1 to max_users \(4\), got 5"):
        Arena(max_users=4, floor=5)


def test_the_name_of_the_id_column_is_reserved() -> None:
    with pytest.raises(KeyError, match="reserved"):
        Arena().add("id", Column(np.int64))


def test_every_new_or_freed_row_is_in_the_next_checkpoint() -> None:
    arena = filled("abc", 0.0)
    assert arena.take_touched()[0].tolist() == [0, 1, 2]
    arena.drop(np.array([1]))
    rows, columns = arena.take_touched()
    assert rows.tolist() == [1] and columns["id"].tolist() == [None]


users = st.text(alphabet="abcdé\x00\ud800", max_size=3)
steps = st.lists(st.one_of(st.lists(users, max_size=6), st.just("evict")), max_size=12)


@given(steps, steps)
def test_a_restored_arena_goes_on_as_if_never_stopped(before: list[Step], after: list[Step]) -> None:
    arena = Arena(max_users=8, floor=2, capacity=1)
    clock = walk(arena, before, 0)
    other = restored(arena)
    assert walk(arena, after, clock) == walk(other, after, clock)
    assert arena.index == other.index and arena.n_evicted == other.n_evicted
    names, rows = arena.names_in_order()
    assert [arena.ids[r] for r in rows] == names
    np.testing.assert_array_equal(arena["last_time"][rows], other["last_time"][rows])


def walk(arena: Arena, steps: list[Step], clock: int) -> int:
    for step in steps:
        if isinstance(step, str):
            arena.evict()
            assert arena.n_users <= arena.max_users
        else:
            rows = arena.rows_of(step)
            assert [arena.ids[r] for r in rows] == step
            arena["last_time"][rows] = clock + np.arange(len(rows))
            arena.touched[rows] = 1
        clock += 10
    return clock
