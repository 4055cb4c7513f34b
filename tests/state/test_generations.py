import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from lane_toys import at, restored, saved_lane

from streamrec import failpoints
from streamrec.errors import CorruptStateError, FencedError
from streamrec.state import generations
from streamrec.state.lanefile import LaneFile
from streamrec.state.reading import read_lane
from streamrec.state.store import LaneStore


def flip_a_byte_of_a_chunk(path: Path) -> None:
    """One bit of the arena's base, wherever it lies in the file."""
    with closing(LaneFile(path)) as file:
        (data,) = file.connection.execute(
            "SELECT data FROM chunks WHERE kind = 'base' ORDER BY name"
        ).fetchone()
        file.truncate_wal()
    whole = bytearray(path.read_bytes())
    whole[whole.index(data[-64:]) + 5] ^= 1
    path.write_bytes(whole)


def flip_a_byte_of_the_first_page(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[100] ^= 0xFF  # its type
    path.write_bytes(whole)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a database" * 1_000)


def delete_a_chunk(path: Path) -> None:
    """A row that vanished: everything left verifies, the sum does not."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM chunks WHERE kind = 'base' AND name LIKE 'arena%'")


def swap_two_chunks(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(
            "SELECT rowid, hash, data FROM chunks WHERE kind IN ('base', 'blob')"
        ).fetchall()
        for one, other in (rows[:2], rows[1::-1]):
            connection.execute("UPDATE chunks SET hash = ?, data = ? WHERE rowid = ?", (*other[1:], one[0]))


def change_the_head(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE lane SET head = replace(head, '\"serial\": 9', '\"serial\": 8')")


def delete(path: Path) -> None:
    path.unlink()


DAMAGES = [
    flip_a_byte_of_a_chunk,
    flip_a_byte_of_the_first_page,
    cut_in_half,
    empty,
    overwrite,
    delete_a_chunk,
    swap_two_chunks,
    change_the_head,
    delete,
]
Damage = Callable[[Path], None]


@pytest.fixture
def lane(tmp_path: Path) -> Path:
    """Nine saves; generations of saves 4, 6 and 8."""
    saved_lane(tmp_path / "lane", 9)
    return tmp_path / "lane"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_falls_back_to_the_newest_generation_and_says_so(lane: Path, damage: Damage) -> None:
    damage(lane / "lane.sqlite")
    assert read_lane(lane)[1].serial == 8
    with LaneStore.open(lane) as store:
        toy = restored(store)
        assert toy.serial == 8 and store.epoch == 2
        assert "went back to generation-00000001-0000000008.sqlite (serial 8)" in store.notes[-1]
        toy.step()
        store.save(toy.snapshot())
    with LaneStore.open(lane) as store:
        assert store.notes == [] and restored(store).digest() == at(9).digest()


@pytest.mark.parametrize("damage", [flip_a_byte_of_a_chunk, cut_in_half, empty])
def test_damaged_generations_are_passed_over(lane: Path, damage: Damage) -> None:
    newest, second, third = [g.path for g in generations.listed(lane)]
    empty(lane / "lane.sqlite")
    damage(newest)
    damage(second)
    with LaneStore.open(lane) as store:
        assert restored(store).digest() == at(4).digest()
        assert third.name in store.notes[-1] and len(store.notes) == 4


@pytest.mark.parametrize("with_side_records", [False, True])
def test_swapped_generations_are_found_out(lane: Path, with_side_records: bool) -> None:
    one, other, _ = [g.path for g in generations.listed(lane)]
    for suffix in ("", ".sha256") if with_side_records else ("",):
        a, b = (p.with_name(p.name + suffix) for p in (one, other))
        held = a.read_bytes()
        shutil.copyfile(b, a)
        b.write_bytes(held)
    empty(lane / "lane.sqlite")
    with LaneStore.open(lane) as store:
        assert restored(store).digest() == at(4).digest()


def test_when_nothing_verifies_the_lane_is_refused_and_every_reason_told(lane: Path) -> None:
    for path in [lane / "lane.sqlite", *(g.path for g in generations.listed(lane))]:
        empty(path)
    with pytest.raises(
        CorruptStateError, match=r"the file is empty.*sha256 is.*restore the directory"
    ) as error:
        LaneStore.open(lane)
    assert "\n" not in str(error.value)


def test_a_lost_file_without_generations_is_never_taken_for_a_new_lane(tmp_path: Path) -> None:
    saved_lane(tmp_path, 3, every=100)
    for damage in (empty, delete):
        damage(tmp_path / "lane.sqlite")
        with pytest.raises(CorruptStateError, match="no state verifies"):
            LaneStore.open(tmp_path)


def test_an_owner_whose_file_was_set_aside_is_refused_too(lane: Path) -> None:
    stalled = LaneStore.open(lane)
    delete(lane / "lane.sqlite")
    with LaneStore.open(lane) as owner:
        with pytest.raises(FencedError, match="opened as epoch 3 since, we are 2"):
            stalled.save(at(9).snapshot())
        assert restored(owner).digest() == at(8).digest()


def test_an_epoch_is_never_given_out_twice(lane: Path) -> None:
    for _ in range(3):
        LaneStore.open(lane).close()
    empty(lane / "lane.sqlite")
    with LaneStore.open(lane) as store:
        assert store.epoch == 5


def test_commits_lost_with_the_wal_are_noticed_if_a_generation_has_them(lane: Path, tmp_path: Path) -> None:
    with LaneStore.open(lane, generation_every=100) as store:
        toy = restored(store)
        for _ in range(2):
            toy.step()
            store.save(toy.snapshot())
        before = tmp_path / "before.sqlite"
        shutil.copyfile(lane / "lane.sqlite", before)  # without the WAL
        generations.make(store._opened(), store.epoch, 3)
    shutil.copyfile(before, lane / "lane.sqlite")
    with LaneStore.open(lane) as store:
        assert "lost what generation" in store.notes[0]
        assert restored(store).digest() == at(11).digest()


def test_the_last_good_generation_is_never_deleted(lane: Path) -> None:
    good = generations.listed(lane)[-1].path
    with LaneStore.open(lane, generation_every=1) as store:
        toy = restored(store)
        for _ in range(4):
            for g in generations.listed(lane):
                if g.path != good:
                    empty(g.path)
            toy.step()
            store.save(toy.snapshot())
            assert good.exists()
        for _ in range(4):
            toy.step()
            store.save(toy.snapshot())
    kept = generations.listed(lane)
    assert good not in [g.path for g in kept] and [g.save for g in kept] == [17, 16, 15]
    for g in kept:
        generations.verify(g)


def test_a_generation_without_its_side_record_does_not_count(lane: Path) -> None:
    newest = generations.listed(lane)[0].path
    newest.with_name(newest.name + ".sha256").unlink()
    empty(lane / "lane.sqlite")
    with LaneStore.open(lane) as store:
        assert restored(store).serial == 6


def test_the_side_record_is_the_sha256_of_the_file(lane: Path) -> None:
    for g in generations.listed(lane):
        assert (
            g.path.with_name(g.path.name + ".sha256").read_text()
            == hashlib.sha256(g.path.read_bytes()).hexdigest()
        )


def test_a_disk_error_while_restoring_can_be_tried_again(lane: Path) -> None:
    empty(lane / "lane.sqlite")
    failpoints.arm("in_restore:1:raise")
    with pytest.raises(Exception, match="not put in place; make room"):
        LaneStore.open(lane)
    with LaneStore.open(lane) as store:
        assert restored(store).digest() == at(8).digest()


def test_any_flipped_byte_is_harmless_or_noticed(tmp_path: Path) -> None:
    saved_lane(tmp_path / "lane", 5)
    whole = (tmp_path / "lane" / "lane.sqlite").read_bytes()
    draw = np.random.Generator(np.random.Philox(key=3))
    for i, place in enumerate(draw.integers(0, len(whole), 60).tolist()):
        copy = tmp_path / str(i)
        shutil.copytree(tmp_path / "lane", copy)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(draw.integers(8))
        (copy / "lane.sqlite").write_bytes(damaged)
        with LaneStore.open(copy) as store:
            toy = restored(store)
            assert toy.serial == (4 if store.notes else 5)
            assert toy.digest() == at(toy.serial).digest()
        shutil.rmtree(copy)
