from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.errors import ConfigError
from streamrec.state.vocabulary import Vocabulary

marks = st.lists(st.text(alphabet="abcdeé\ud800", min_size=1, max_size=2), max_size=12)


def restored(vocabulary: Vocabulary) -> Vocabulary:
    table = vocabulary.tables()["marks"]
    table.touched[:] = 1
    other = Vocabulary(vocabulary.max_marks, vocabulary.floor, capacity=1)
    other.tables()["marks"].put(*table.take_touched())
    other.load_scalars(vocabulary.scalars())
    return other


def test_ids_are_contiguous_in_order_of_appearance() -> None:
    vocabulary = Vocabulary(capacity=1)
    assert vocabulary.intern(["x", "y", "x", "z"]).tolist() == [0, 1, 0, 2]
    assert vocabulary.intern(["z", "w"]).tolist() == [2, 3]
    assert [vocabulary.mark_of(i) for i in range(4)] == ["x", "y", "z", "w"]
    assert vocabulary.find("w") == 3 and vocabulary.find("v") == -1


def test_counts_and_stamps_follow_the_stream() -> None:
    vocabulary = Vocabulary()
    vocabulary.intern(["x", "y", "x"])
    vocabulary.intern(["y", "y"])
    assert vocabulary.counts.tolist() == [2, 3]
    assert vocabulary.stamps.tolist() == [3, 5]


def test_hashes_are_blake2b_of_the_raw_bytes() -> None:
    vocabulary = Vocabulary()
    vocabulary.intern(["é", "m7"])
    wanted = [int.from_bytes(blake2b(m.encode(), digest_size=8).digest(), "little") for m in ("é", "m7")]
    assert vocabulary.hashes.tolist() == wanted and vocabulary.hashes.dtype == np.uint64


def test_the_marks_not_seen_for_longest_go_and_the_others_move_up_in_order() -> None:
    vocabulary = Vocabulary(max_marks=16)
    names = [f"m{i}" for i in range(20)]
    vocabulary.intern(names)
    vocabulary.intern(["m1", "m3"])
    hashes = dict(zip(names, vocabulary.hashes.tolist(), strict=True))
    new_id = vocabulary.evict()
    assert new_id is not None and vocabulary.n_marks == 15
    kept = [n for n in names if n not in ("m0", "m2", "m4", "m5", "m6")]
    assert [vocabulary.mark_of(i) for i in range(15)] == kept
    assert [int(new_id[names.index(n)]) for n in kept] == list(range(15))
    assert (new_id == -1).sum() == 5
    assert vocabulary.hashes.tolist() == [hashes[n] for n in kept]


def test_the_floor_is_never_evicted() -> None:
    vocabulary = Vocabulary(max_marks=16, floor=16)
    vocabulary.intern([str(i) for i in range(20)])
    vocabulary.evict()
    assert vocabulary.n_marks == 16


def test_an_evicted_mark_that_comes_back_counts_as_new_again() -> None:
    vocabulary = Vocabulary(max_marks=1)
    vocabulary.intern(["a", "b"])
    vocabulary.evict()
    assert vocabulary.find("a") == -1
    assert vocabulary.intern(["a"]).tolist() == [1]
    assert vocabulary.n_ever == 3 and vocabulary.n_evicted == 1


def test_below_the_cap_no_id_changes() -> None:
    vocabulary = Vocabulary(max_marks=2)
    vocabulary.intern(["a", "b"])
    assert vocabulary.evict() is None


def test_an_id_beyond_the_last_mark_is_refused() -> None:
    with pytest.raises(IndexError, match=r"expected 0 to -1, got 0"):
        Vocabulary().mark_of(0)


def test_a_floor_above_the_cap_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"floor: expected 1 to max_marks \(4\), got 0"):
        Vocabulary(max_marks=4, floor=0)


@given(st.lists(marks, max_size=8), st.integers(1, 12))
def test_interning_mark_by_mark_equals_interning_at_once(cuts: list[list[str]], cap: int) -> None:
    at_once, one_by_one = Vocabulary(cap), Vocabulary(cap)
    for cut in cuts:
        ids = at_once.intern(cut)
        assert [int(one_by_one.intern([m])[0]) for m in cut] == ids.tolist()
        a, b = at_once.evict(), one_by_one.evict()
        assert (a is None) == (b is None)
    assert at_once.stamps.tolist() == one_by_one.stamps.tolist()


@given(st.lists(marks, max_size=8), st.lists(marks, max_size=8))
def test_a_restored_vocabulary_goes_on_as_if_never_stopped(
    before: list[list[str]], after: list[list[str]]
) -> None:
    vocabulary = Vocabulary(max_marks=4, floor=2)
    for cut in before:
        vocabulary.intern(cut)
        vocabulary.evict()
    other = restored(vocabulary)
    for cut in after:
        assert vocabulary.intern(cut).tolist() == other.intern(cut).tolist()
        vocabulary.evict()
        other.evict()
    for name in ("hashes", "counts", "stamps"):
        assert getattr(vocabulary, name).tolist() == getattr(other, name).tolist()
    assert vocabulary.n_ever == other.n_ever
    assert [vocabulary.mark_of(i) for i in range(vocabulary.n_marks)] == [
        other.mark_of(i) for i in range(other.n_marks)
    ]
