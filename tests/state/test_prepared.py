import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lane_toys import Toy, at, restored, saved_lane

from streamrec import failpoints
from streamrec.errors import CorruptStateError, DiskError, FencedError, InvariantError, StateError
from streamrec.state import generations, stripes
from streamrec.state.columns import Column
from streamrec.state.lanefile import PREPARED, Key, LaneFile
from streamrec.state.reading import inspect, read_lane
from streamrec.state.snapshot import Component, Part, Snapshot, Table
from streamrec.state.store import LaneStore
from streamrec.state.undo import put_back, recorded


def counts(number: int) -> bool:
    return True


def counts_not(number: int) -> bool:
    return False


def dump(directory: Path) -> list[str]:
    with closing(sqlite3.connect(directory / "lane.sqlite")) as connection:
        return list(connection.iterdump())


def prepared_lane(directory: Path, steps: int = 3) -> Toy:
    """A lane of so many steps that count, and one prepared save more, left open."""
    saved_lane(directory, steps)
    with LaneStore.open(directory) as store:
        toy = restored(store)
        toy.step()
        store.save(toy.snapshot(), prepared=True)
    return toy


# What counts and what does not


@pytest.mark.parametrize(("decide", "serial"), [(counts, 4), (counts_not, 3)])
def test_whoever_opens_a_prepared_lane_decides_whether_its_save_counts(
    tmp_path: Path, decide: Callable[[int], bool], serial: int
) -> None:
    prepared_lane(tmp_path)
    with LaneStore.open(tmp_path, decide=decide, accept=lambda epoch, recorded: recorded) as store:
        assert store.prepared is None and store.notes == []
        assert restored(store).digest() == at(serial).digest()
        assert store.accepted[2] == ({"journal-1": 40} if serial == 4 else {})
    assert inspect(tmp_path)["serial"] == serial


def test_the_open_save_is_asked_for_by_its_number_once_and_never_again(tmp_path: Path) -> None:
    prepared_lane(tmp_path)
    asked: list[int] = []

    def decide(number: int) -> bool:
        asked.append(number)
        return True

    for _ in range(2):
        LaneStore.open(tmp_path, decide=decide).close()
    assert asked == [4]


def test_an_undone_save_leaves_the_file_as_it_was_but_for_its_number(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        for _ in range(3):
            store.save(at(3).snapshot())
        before, head, toy = dump(tmp_path), store.head, at(4)
        assert store.save(toy.snapshot(), prepared=True).number == store.prepared == 4
        assert dump(tmp_path) != before
        store.undo()
        assert store.prepared is None and restored(store).digest() == at(3).digest()
        assert sorted(set(before) ^ set(dump(tmp_path))) == sorted(heads(before) + heads(dump(tmp_path)))
        assert store.head == {**head, "saves": 4}


def heads(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith('INSERT INTO "lane"')]


def test_saves_that_nothing_can_undo_know_no_undo_table_and_neither_do_settled_ones(tmp_path: Path) -> None:
    def tables(directory: Path) -> int:
        return sum("undo" in line for line in dump(directory))

    saved_lane(tmp_path / "plain", 3)
    prepared_lane(tmp_path / "open")
    assert tables(tmp_path / "plain") == 0 < tables(tmp_path / "open")
    for decide in (counts, counts_not):
        shutil.copytree(tmp_path / "open", tmp_path / decide.__name__)
        LaneStore.open(tmp_path / decide.__name__, decide=decide).close()
        assert tables(tmp_path / decide.__name__) == 0


def test_nothing_is_saved_on_top_of_an_open_save_and_what_came_waits(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        toy = at(1)
        store.save(toy.snapshot(), prepared=True)
        for prepared in (True, False):
            toy.step()
            with pytest.raises(InvariantError, match="save 1 is prepared and open; confirm or undo it first"):
                store.save(toy.snapshot(), prepared)
        store.confirm()
        assert restored(store).digest() == at(1).digest()
        saved = store.flush(prepared=True)
        assert saved is not None and saved.number == 2
        store.confirm()
        assert restored(store).digest() == at(3).digest()
        assert store.flush(prepared=True) is None and store.prepared is None


def test_there_is_nothing_to_settle_without_an_open_save(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        store.save(at(1).snapshot())
        for settle in (store.confirm, store.undo):
            with pytest.raises(InvariantError, match="no prepared save is open"):
                settle()


def test_an_undone_first_save_leaves_nothing_to_load(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        store.save(at(1).snapshot(), prepared=True)
        store.undo()
        assert store.load() is None
    with LaneStore.open(tmp_path) as store:
        assert store.load() is None


def test_a_component_or_a_column_that_went_with_an_undone_save_is_back(tmp_path: Path) -> None:
    saved_lane(tmp_path, 3)
    with LaneStore.open(tmp_path) as store:
        for undone in range(2):
            snapshot = at(4).snapshot()
            table = snapshot.components["arena"].tables["rows"]
            table.spec = {name: column for name, column in table.spec.items() if name != "m.h"}
            if undone:
                del snapshot.components["counts"]
            store.save(snapshot, prepared=True)
            loaded = store.load()
            assert loaded is not None and ("counts" in loaded.components) != undone
            assert "m.h" not in loaded.components["arena"].tables["rows"].spec
            store.undo()
            assert restored(store).digest() == at(3).digest()


def test_of_a_chunk_that_changes_twice_in_one_save_the_first_state_is_kept(tmp_path: Path) -> None:
    one, two, new = Key("blob", "one"), Key("blob", "two"), Key("blob", "new")
    with closing(LaneFile(tmp_path / "lane.sqlite", "rwc")) as file:
        file.begin()
        file.put(one, b"1")
        file.put(two, b"2")
        file.set_head(file.head())
        head, stood = file.head(), dict(file.manifest)
        with recorded(file):
            for key in (one, new, two):
                file.put(key, b"x")
                file.put(key, b"y")
                file.delete([key])
            file.put(two, b"z")
        assert put_back(file, {"saves": 5, PREPARED: head}) == {**head, "saves": 5}
        assert file.manifest == stood and file.get(one) == b"1" and file.get(two) == b"2"


def test_what_waits_is_dropped_with_the_save_it_goes_on_from(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        toy = at(1)
        store.save(toy.snapshot())
        toy.step()
        store.save(toy.snapshot(), prepared=True)
        toy.step()
        store.hold(toy.snapshot())
        store.undo()
        assert store.flush() is None and restored(store).digest() == at(1).digest()


def test_a_save_tells_the_newest_ticket_that_went_into_it(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        toy = at(1)
        store.hold(replace(toy.snapshot(), ticket=5))
        toy.step()
        assert store.save(replace(toy.snapshot(), ticket=6), prepared=True).ticket == 6


def test_no_number_is_given_twice_and_those_the_group_knows_are_passed_over(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        for wanted in (1, 2, 3):
            assert store.save(at(1).snapshot(), prepared=True).number == wanted
            store.undo()
    with LaneStore.open(tmp_path, above=7) as store:
        assert store.load() is None
        assert store.save(at(1).snapshot(), prepared=True).number == 8


# Who may, and who may only look


def test_without_a_decision_a_prepared_lane_is_refused_and_untouched(tmp_path: Path) -> None:
    toy = prepared_lane(tmp_path)
    before = dump(tmp_path)
    with pytest.raises(StateError, match=r"save 4 is prepared, .* kafka\.transactions = true once") as error:
        LaneStore.open(tmp_path)
    assert not isinstance(error.value, CorruptStateError) and error.value.exit_code == 4
    with pytest.raises(ZeroDivisionError):
        LaneStore.open(tmp_path, decide=lambda n: n // 0 == 1)
    assert dump(tmp_path) == before
    assert inspect(tmp_path)["prepared"] == 4 and inspect(tmp_path)["serial"] == 4
    head, snapshot = read_lane(tmp_path)
    assert (head["schema"], snapshot.serial) == (2, toy.serial)  # older programs refuse schema 2
    with LaneStore.open(tmp_path, decide=counts) as store:
        assert store.epoch == 3 and "prepared" not in inspect(tmp_path)
    assert read_lane(tmp_path)[0]["schema"] == 1


@pytest.mark.parametrize("decide", [counts, counts_not])
def test_a_stalled_owner_settles_and_prepares_nothing_any_more(
    tmp_path: Path, decide: Callable[[int], bool]
) -> None:
    stalled, toy = LaneStore.open(tmp_path), at(3)
    stalled.save(toy.snapshot(), prepared=True)
    with LaneStore.open(tmp_path, decide=decide) as owner:
        owner.save(at(5).snapshot(), prepared=True)
        before = dump(tmp_path)
        for late in (stalled.confirm, stalled.undo):
            with pytest.raises(FencedError, match="opened as epoch 2 since, we are 1; nothing was written"):
                late()
        assert dump(tmp_path) == before and owner.prepared == 2
        owner.confirm()
        assert restored(owner).digest() == at(5).digest()


# Generations


def test_a_generation_waits_until_its_save_counts(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path, generation_every=2) as store:
        toy, made = at(0), []
        for undone in (False, True, False, False):
            toy.step()
            assert store.save(toy.snapshot(), prepared=True).generation is None
            with pytest.raises(CorruptStateError, match="prepared and may not count"):
                generations.make(store._opened(), 1, 3)
            (store.undo if undone else store.confirm)()
            toy = restored(store)
            made.append([g.save for g in generations.listed(tmp_path)])
    assert made == [[], [], [3], [4, 3]]  # the second was due and undone: it is made of the third


def test_a_damaged_file_with_an_open_save_falls_back_to_what_counted(tmp_path: Path) -> None:
    prepared_lane(tmp_path, 5)
    (tmp_path / "lane.sqlite").write_bytes(b"not a database" * 1_000)
    with LaneStore.open(tmp_path, decide=counts) as store:
        assert restored(store).digest() == at(4).digest() and len(store.notes) == 2


# What is kept is damaged


def run_sql(*statements: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        with closing(sqlite3.connect(directory / "lane.sqlite")) as connection, connection:
            for statement in statements:
                assert connection.execute(statement).rowcount != 0

    return damage


A_BLOB = "WHERE kind = 'position'"
NEW = "WHERE rowid = (SELECT min(rowid) FROM undo WHERE data IS NULL)"
DAMAGES = {
    "another byte": run_sql(f"UPDATE undo SET data = CAST('clicks:0:4' AS BLOB) {A_BLOB}"),
    "text": run_sql(f"UPDATE undo SET data = CAST(data AS TEXT) {A_BLOB}"),
    "no data": run_sql(f"UPDATE undo SET data = NULL {A_BLOB}"),
    "lost row": run_sql(f"DELETE FROM undo {A_BLOB}"),
    "lost absence": run_sql(f"DELETE FROM undo {NEW}"),
    "data for an absence": run_sql(f"UPDATE undo SET data = x'00' {NEW}"),
    "another key": run_sql(f"UPDATE undo SET name = 'other' {A_BLOB}"),
    "one row more": run_sql("INSERT INTO undo SELECT kind, 'more', part, serial, data FROM undo LIMIT 1"),
    "no table": run_sql("DROP TABLE undo"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_undo_table_is_noticed_and_not_applied(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    prepared_lane(tmp_path / "one", 5)
    damage(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    with LaneStore.open(tmp_path / "one", decide=counts_not) as store:
        assert restored(store).digest() == at(4).digest() and "went back to generation" in store.notes[-1]
    with LaneStore.open(tmp_path / "other", decide=counts) as store:  # who needs no undo loses nothing
        assert restored(store).digest() == at(6).digest() and store.notes == []


def test_an_owner_whose_undo_table_is_damaged_keeps_the_save_open(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        store.save(at(2).snapshot())
        store.save(at(3).snapshot(), prepared=True)
        DAMAGES["lost row"](tmp_path)
        before = dump(tmp_path)
        with pytest.raises(CorruptStateError, match="save 2 cannot be undone"):
            store.undo()
        assert dump(tmp_path) == before and store.prepared == 2


# The disk refuses


def test_a_refused_settling_can_be_tried_again(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        for serial, settle in ((1, store.confirm), (2, store.undo)):
            store.save(at(serial).snapshot(), prepared=True)
            failpoints.arm("mid_transaction:1:raise")
            with pytest.raises(DiskError, match="nothing was written"):
                settle()
            assert store.prepared == serial
            settle()
            assert store.prepared is None and restored(store).digest() == at(1).digest()


@pytest.mark.parametrize("prepared", [False, True])
def test_a_prepared_save_that_was_refused_and_kept_nevertheless_is_undone_by_the_next(
    tmp_path: Path, prepared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = LaneFile.commit

    def keep_and_refuse(file: LaneFile) -> None:
        commit(file)
        raise OSError(5, "the disk did not answer")

    with LaneStore.open(tmp_path) as store:
        toy = at(1)
        store.save(toy.snapshot())
        toy.step()
        monkeypatch.setattr(LaneFile, "commit", keep_and_refuse)
        with pytest.raises(DiskError):
            store.save(toy.snapshot(), prepared=True)
        monkeypatch.undo()
        toy.step()
        assert store.save(toy.snapshot(), prepared).number == 3
        assert restored(store).digest() == at(3).digest()
        if prepared:
            monkeypatch.setattr(LaneFile, "commit", keep_and_refuse)
            with pytest.raises(DiskError):
                store.undo()
            monkeypatch.undo()
            store.undo()
            assert restored(store).digest() == at(1).digest()


# What it costs


def rows(serial: int, n: int = 2_000) -> Snapshot:
    spec = {"h": Column(np.float32, (16,))}
    part = Part(np.arange(n, dtype=np.int64), {"h": np.full((n, 16), serial, np.float32)})
    return Snapshot(serial, components={"c": Component({"t": Table(n, spec, [part])}, {"w": np.zeros(9)})})


def test_of_rows_that_are_only_added_to_nothing_but_their_keys_is_kept(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        store.save(rows(1))
        saved = store.save(rows(2), prepared=True)
        (kept,) = store._opened().connection.execute("SELECT total(length(data)) FROM undo").fetchone()
        assert saved.n_bytes > 128_000 and kept < 2_000


def test_a_file_of_prepared_saves_stays_as_small_as_one_of_plain_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripes, "FOLD_BYTES", 65_536)

    def largest(directory: Path, prepared: bool) -> int:
        sizes = []
        with LaneStore.open(directory, generation_every=1_000) as store:
            store._opened().connection.execute("PRAGMA synchronous=OFF")  # no power is cut in this test
            for serial in range(150):
                store.save(rows(serial), prepared)
                if prepared:
                    (store.undo if serial % 5 == 4 else store.confirm)()
                pages, size = (
                    store._opened().connection.execute(f"PRAGMA {p}").fetchone()[0]
                    for p in ("page_count", "page_size")
                )
                sizes.append(pages * size)
        assert max(sizes[75:]) <= max(sizes[:75])
        return max(sizes)

    assert largest(tmp_path / "prepared", True) <= 1.6 * largest(tmp_path / "plain", False)
