"""The successor table: exact below its caps, bounded above them, and whole again after a restore."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mark_streams import hash_of

from streamrec.errors import ConfigError, InvariantError
from streamrec.state.successors import SuccessorTable


def key_of(context: int) -> int:
    return hash_of(f"context {context}")


def contents(table: SuccessorTable) -> dict[int, dict[int, float]]:
    keys = [int(k) for k in table.contexts["key"] if k]
    return {k: table.successors_of(k) for k in sorted(keys)}


def filled(n: int, contexts: int = 2048, seed: int = 0, successors: int = 16, **caps: int) -> SuccessorTable:
    rng = np.random.default_rng(seed)
    table = SuccessorTable(contexts=contexts, blocks=4096, successors=successors, floor=caps.get("floor", 8))
    for stamp in range(n):
        table.add(key_of(int(rng.integers(n // 4 + 1))), [int(rng.geometric(0.3))], stamp)
    return table


def assert_consistent(table: SuccessorTable) -> None:
    """Totals are sums, distinct counts are lengths, and every used block hangs on exactly one chain."""
    live = np.flatnonzero(table.contexts["key"])
    assert len(live) == table.n_contexts
    on_chains = 0
    for slot in live:
        followed = table.successors_of(int(table.contexts["key"][slot]))
        assert table.contexts["total"][slot] == sum(followed.values())
        assert table.contexts["distinct"][slot] == len(followed)
        on_chains += -(-len(followed) // 8)
    blocks = table.tables()["blocks"]
    used = int((blocks["mark"] >= 0).any(axis=1).sum())
    assert on_chains == used == table.state[3] - table.state[2]


def same(a: SuccessorTable, b: SuccessorTable) -> bool:
    pairs = [(a.tables()[n][c], b.tables()[n][c]) for n in a.tables() for c in a.tables()[n]]
    scalars = [(a.scalars()[n], b.scalars()[n]) for n in a.scalars()]
    return all(np.array_equal(x, y) for x, y in pairs + scalars)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40)), max_size=200))
@settings(max_examples=30, deadline=None)
def test_below_its_caps_the_table_counts_as_a_dict_does(pairs: list[tuple[int, int]]) -> None:
    table, wanted = SuccessorTable(), {key_of(c): Counter[int]() for c, _ in pairs}
    for stamp, (context, mark) in enumerate(pairs):
        table.add(key_of(context), [mark], stamp)
        wanted[key_of(context)][mark] += 1
    assert contents(table) == wanted
    assert_consistent(table)


def test_growth_loses_nothing() -> None:
    table = SuccessorTable()
    for context in range(3000):
        table.add(key_of(context), [context, context + 1], context)
    assert table.contexts.capacity == 4096
    assert contents(table) == {key_of(c): {c: 1.0, c + 1: 1.0} for c in range(3000)}
    assert_consistent(table)


def test_a_full_context_keeps_its_total_and_its_most_frequent_marks() -> None:
    table, rng = SuccessorTable(successors=16), np.random.default_rng(1)
    marks = np.where(rng.random(4000) < 0.5, rng.integers(0, 4, 4000), rng.integers(4, 500, 4000))
    for stamp, mark in enumerate(marks.tolist()):
        table.add(7, [mark], stamp)
    followed, true = table.successors_of(7), Counter(marks.tolist())
    assert len(followed) == 16
    assert sum(followed.values()) == 4000
    assert table.replaced_successors > 0
    for mark in range(4):  # space-saving never counts too little, nor too much by more than total / most
        assert true[mark] <= followed[mark] <= true[mark] + 4000 / 16


def test_eviction_takes_the_contexts_learned_longest_ago_and_counts_them() -> None:
    table = SuccessorTable(contexts=64, blocks=4096, successors=8, floor=8)
    for context in range(49):
        table.add(key_of(context), [1], stamp=context)
    assert table.evicted_contexts == 48 - 32
    assert set(contents(table)) == {key_of(c) for c in range(16, 49)}
    assert_consistent(table)


def test_the_floor_survives_when_blocks_run_out() -> None:
    table = SuccessorTable(contexts=256, blocks=4096, successors=512, floor=8)
    for context in range(58):  # 64 blocks each; the 58th asks for room for 512 and finds 448
        table.add(key_of(context), list(range(512)), stamp=context)
    assert table.evicted_contexts == 57 - 32
    assert set(contents(table)) == {key_of(c) for c in range(25, 58)}
    assert_consistent(table)


def test_a_set_that_cannot_fit_is_an_invariant_error_that_names_the_caps() -> None:
    table = SuccessorTable(contexts=64, blocks=4096, successors=8, floor=2)
    with pytest.raises(InvariantError, match=r"floor of 2 \(caps: 64 contexts, 4096 blocks\)"):
        table.make_room(1, 5000)


@pytest.mark.parametrize(
    "bad", [{"contexts": 1000}, {"successors": 0}, {"floor": 1 << 18}, {"floor": 10_450}]
)
def test_caps_that_do_not_fit_together_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        SuccessorTable(**bad)


@pytest.mark.parametrize("n", [50, 2000])
def test_equal_streams_give_equal_arrays(n: int) -> None:
    assert same(filled(n, contexts=64), filled(n, contexts=64))


def test_remapped_marks_keep_their_counts_and_evicted_ones_take_theirs_along() -> None:
    table = filled(2000)
    before = contents(table)
    new_id = np.array([5, -1, 0, 3, -1, *range(6, 100)])
    table.remap_marks(new_id)
    after = {k: {int(new_id[m]): c for m, c in v.items() if new_id[m] >= 0} for k, v in before.items()}
    assert contents(table) == {k: v for k, v in after.items() if v}
    assert table.n_contexts < len(before)
    assert_consistent(table)


def test_the_identity_remap_changes_no_count_and_no_order() -> None:
    table = filled(500)
    before = {k: list(v.items()) for k, v in contents(table).items()}
    table.remap_marks(np.arange(100))
    assert {k: list(v.items()) for k, v in contents(table).items()} == before


@pytest.mark.parametrize("contexts", [64, 4096])
def test_base_and_touched_rows_are_the_whole_state(contexts: int) -> None:
    """Copies kept up by touched rows alone equal the table after growth, eviction and a remap."""
    table = SuccessorTable(contexts=contexts, blocks=4096, successors=16, floor=8)
    copy = SuccessorTable(contexts=contexts, blocks=4096, successors=16, floor=8)
    rng = np.random.default_rng(2)
    for stamp in range(3000):
        table.add(key_of(int(rng.integers(1500))), rng.integers(0, 30, 2).tolist(), stamp)
        if stamp == 1500:
            table.remap_marks(np.where(np.arange(30) % 3 == 0, -1, np.arange(30)))
        if stamp % 250 == 249:
            for name, columns in table.tables().items():
                copy.tables()[name].put(*columns.take_touched())
            copy.load_scalars(table.scalars())
            assert same(table, copy)
    assert (contexts == 64) == (table.evicted_contexts > 0)
    table.add(1, [2], 9999)
    copy.add(1, [2], 9999)
    assert same(table, copy)
