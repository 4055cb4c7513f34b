from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from lane_toys import Toy, at

from streamrec.arrays import Array
from streamrec.errors import CorruptStateError, InvariantError
from streamrec.models.base import Stateful
from streamrec.state.blob import pack, unpack
from streamrec.state.columns import Column, Columns
from streamrec.state.digest import learned_digest, position_digest, used_rows
from streamrec.state.fingerprint import fields_of, machine_fingerprint, settings_fingerprint
from streamrec.state.lanefile import Key, LaneFile
from streamrec.state.snapshot import Part, merge, merge_parts, restore_into

numeric = st.sampled_from(["<f4", "<f8", "<i4", "<i8", "<u8", "|u1", "|b1"]).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
texts = st.lists(st.one_of(st.none(), st.text(max_size=4), st.just("\ud800")), max_size=5).map(
    lambda values: np.array([*values, None], object)[: len(values)]
)


@given(st.dictionaries(st.text(max_size=3), st.one_of(numeric, texts), max_size=4))
def test_a_blob_gives_back_every_bit_dtype_and_shape(given_arrays: dict[str, Array]) -> None:
    back = unpack(pack(given_arrays))
    assert list(back) == list(given_arrays)
    for name, array in given_arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        same = (
            array.tolist() == back[name].tolist()
            if array.dtype == object
            else array.tobytes() == back[name].tobytes()
        )
        assert same


@given(st.integers(0, 200))
def test_a_blob_cut_short_is_refused(n: int) -> None:
    blob = pack({"x": np.arange(9.0), "id": np.array(["ab", None], object)})
    with pytest.raises(CorruptStateError, match="cannot be read"):
        unpack(blob[: min(n, len(blob) - 1)])


def test_objects_and_structures_are_refused() -> None:
    with pytest.raises(InvariantError, match=r"column x: dtype .* cannot be stored"):
        pack({"x": np.zeros(2, [("a", "f8")])})


part_rows = st.dictionaries(st.integers(0, 9), st.integers(), min_size=1, max_size=6)


@given(st.lists(part_rows, min_size=1, max_size=5))
def test_of_parts_that_have_the_same_row_the_later_wins(dicts: list[dict[int, int]]) -> None:
    truth: dict[int, int] = {}
    for values in dicts:
        truth |= values
    parts = [Part(np.array(sorted(d)), {"x": np.array([d[r] for r in sorted(d)], object)}) for d in dicts]
    rows, columns = merge_parts(parts)
    assert dict(zip(rows.tolist(), columns["x"].tolist(), strict=True)) == truth
    assert rows.tolist() == sorted(truth)


def test_two_snapshots_merged_restore_as_the_later_one() -> None:
    toy = at(4)
    first = toy.snapshot()
    for _ in range(6):
        toy.step()
    merged, other = merge(first, toy.snapshot()), Toy()
    assert restore_into(other.components, merged) == ([], [])
    assert other.digest() == toy.digest() and merged.serial == 10


def test_a_restore_tells_what_it_could_not_pair_up() -> None:
    toy = at(4)
    snapshot = toy.snapshot()
    other = Toy()
    other.arena.add("new.x", Column(np.int64))
    components: dict[str, Stateful] = {"arena": other.arena, "fresh": other.counts}
    missing, ignored = restore_into(components, snapshot)
    assert (missing, ignored) == (["arena/rows.new.x", "fresh"], ["counts"])


def test_the_digest_sees_neither_capacity_nor_the_order_in_which_users_came() -> None:
    one, other = at(7), at(7)
    other.counts.table.grow(10_000)
    assert one.digest() == other.digest()
    for toy, users in ((one, ["a", "b"]), (other, ["b", "a"])):
        rows = toy.arena.rows_of(users)
        toy.arena["last_time"][rows] = [float(ord(u)) for u in users]
    assert one.digest() == other.digest()


@pytest.mark.parametrize("change", ["last_time", "h", "n", "weights", "user"])
def test_the_digest_sees_every_change(change: str) -> None:
    toy = at(7)
    before = toy.digest()
    if change == "last_time":
        toy.arena["last_time"][0] = np.nextafter(toy.arena["last_time"][0], 1e9)
    elif change == "h":
        toy.arena["m.h"][0, 3] *= -1
    elif change == "n":
        toy.counts.table["n"][3] += 1
    elif change == "weights":
        toy.counts.weights = -toy.counts.weights
    else:
        toy.arena.rows_of(["new"])
    assert toy.digest() != before


@given(st.integers(0, 70_000))
def test_used_rows_is_the_last_row_that_differs_from_the_fill(n: int) -> None:
    table = Columns(70_000, {"x": Column(np.float32, (2,), np.nan), "k": Column(np.int64, (), -1)})
    if n:
        table["k"][n - 1] = 0
    assert used_rows(table) == n


def test_a_component_may_give_its_own_canonical_order() -> None:
    class Bag:
        def __init__(self, values: list[int]) -> None:
            self.values = values

        def tables(self) -> dict[str, Columns]:
            raise AssertionError("canonical() stands for the tables")

        def scalars(self) -> dict[str, Array]:
            return {}

        def load_scalars(self, arrays: object) -> None: ...

        def canonical(self) -> dict[str, Array]:
            return {"values": np.sort(self.values)}

    assert learned_digest({"b": Bag([2, 1])}) == learned_digest({"b": Bag([1, 2])})
    assert learned_digest({"b": Bag([2, 1])}) != learned_digest({"b": Bag([1, 3])})


def test_the_position_digest_depends_on_names_and_bytes_and_on_nothing_else() -> None:
    assert position_digest({"a": b"1", "b": b"2"}) == position_digest({"b": b"2", "a": b"1"})
    assert len({position_digest(p) for p in ({}, {"a": b""}, {"a": b"b"}, {"ab": b""})}) == 4


def test_fingerprints_depend_on_values_only() -> None:
    assert machine_fingerprint() == machine_fingerprint()
    assert settings_fingerprint({"a": 1}) != settings_fingerprint({"a": 2})
    assert fields_of({"a": {"b": [1]}, "c": None}) == {"a.b": "[1]", "c": "null"}


def test_a_chunk_written_twice_costs_nothing_the_second_time(tmp_path: Path) -> None:
    file = LaneFile(tmp_path / "lane.sqlite", "rwc")
    file.read_manifest(file.begin())
    assert (file.put(Key("blob", "x"), b"123"), file.put(Key("blob", "x"), b"123")) == (3, 0)
    file.close()
