import errno
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lane_toys import Toy, at, restored, saved_lane

from streamrec import failpoints
from streamrec.errors import DiskError, FencedError, StateError
from streamrec.state import generations, lanefile, stripes
from streamrec.state.columns import Column, Columns
from streamrec.state.names import ID
from streamrec.state.reading import inspect, read_lane
from streamrec.state.snapshot import Component, Part, Snapshot, Table, restore_into
from streamrec.state.store import LaneStore


def test_a_resumed_lane_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    saved_lane(tmp_path, 30)
    with LaneStore.open(tmp_path) as store:
        toy = restored(store)
    assert toy.serial == 30 and toy.digest() == at(30).digest()
    for _ in range(20):
        toy.step()
    assert toy.digest() == at(50).digest()


def test_a_new_lane_has_nothing_to_load(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        assert store.load() is None and store.epoch == 1 and store.notes == []


def test_position_blobs_and_lengths_come_back_with_the_state(tmp_path: Path) -> None:
    saved_lane(tmp_path, 5)
    with LaneStore.open(tmp_path) as store:
        for loaded in (store.load(), store.load()):  # what was verified at opening, then read anew
            assert loaded is not None
            assert (loaded.serial, loaded.position) == (5, b"clicks:0:5")
            assert loaded.blobs == {"open": bytes(5)} and loaded.lengths == {"journal-1": 50}


def test_a_stalled_owner_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    stalled, toy = LaneStore.open(tmp_path), at(3)
    stalled.save(toy.snapshot())
    with LaneStore.open(tmp_path) as owner:
        before = dump(tmp_path)
        toy.step()
        with pytest.raises(FencedError, match="opened as epoch 2 since, we are 1; nothing was written"):
            stalled.save(toy.snapshot())
        assert dump(tmp_path) == before
        with pytest.raises(FencedError, match="opened as epoch 2"):
            generations.make(lanefile.LaneFile(tmp_path / "lane.sqlite"), 1, 3)
        assert restored(owner).digest() == at(3).digest()


def dump(directory: Path) -> list[str]:
    with closing(sqlite3.connect(directory / "lane.sqlite")) as connection:
        return list(connection.iterdump())


def test_opening_records_what_is_accepted_of_earlier_epochs_files(tmp_path: Path) -> None:
    saved_lane(tmp_path, 2)
    with LaneStore.open(
        tmp_path, accept=lambda epoch, recorded: {k: v + 7 for k, v in recorded.items()}
    ) as s:
        assert s.accepted == {1: {"journal-1": 27}}
    with LaneStore.open(tmp_path) as store:  # the second epoch saved nothing: nothing of it counts
        assert store.epoch == 3 and store.accepted == {1: {"journal-1": 27}, 2: {}}


def test_other_settings_are_refused_with_the_field_and_both_values(tmp_path: Path) -> None:
    LaneStore.open(tmp_path, {"order": {"lateness_s": 0.0}, "models": ["a"]}).close()
    with pytest.raises(StateError, match=r"order\.lateness_s: stored 0\.0, now 5\.0; go back"):
        LaneStore.open(tmp_path, {"order": {"lateness_s": 5.0}, "models": ["a"]})
    changed = {"order": {"lateness_s": 0.0}, "models": ["a", "b"]}
    with LaneStore.open(tmp_path, changed, may_change=["models"]) as store:
        assert store.epoch == 2  # the refused opening shut nobody out
    assert inspect(tmp_path)["settings"] == changed


def test_another_schema_is_refused_in_one_line_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanefile, "SCHEMA", 2)
    saved_lane(tmp_path, 4)
    monkeypatch.undo()
    with pytest.raises(
        StateError, match="state of schema 2, but this program reads and writes schema 1"
    ) as e:
        LaneStore.open(tmp_path)
    assert "\n" not in str(e.value) and e.value.exit_code == 4


def test_inspect_tells_without_becoming_the_owner(tmp_path: Path) -> None:
    saved_lane(tmp_path, 6)
    told = inspect(tmp_path)
    assert (told["schema"], told["epoch"], told["saves"], told["serial"]) == (1, 1, 6, 6)
    assert len(told["generations"]) == 3 and told["component_bytes"]["arena"] > 0
    with LaneStore.open(tmp_path) as store:
        assert store.epoch == 2
        head, snapshot = read_lane(tmp_path)
        assert (head["epoch"], snapshot.serial) == (2, 6)


def test_a_column_added_or_removed_later_is_fresh_or_gone(tmp_path: Path) -> None:
    saved_lane(tmp_path, 3)
    with LaneStore.open(tmp_path) as store:
        toy = restored(store)
        toy.arena.add("new.x", Column(np.int64, (), 9))
        toy.step()
        store.save(toy.snapshot())
        loaded = store.load()
        assert loaded is not None
        columns = loaded.components["arena"].tables["rows"].dense()
        assert (columns["new.x"] == 9).all()
        np.testing.assert_array_equal(columns["m.h"], toy.arena["m.h"])
        plain = at(4)
        store.save(plain.snapshot())  # without the column
        loaded = store.load()
        assert loaded is not None and "new.x" not in loaded.components["arena"].tables["rows"].spec


def test_a_component_that_is_gone_leaves_no_chunk_behind(tmp_path: Path) -> None:
    saved_lane(tmp_path, 3)
    with LaneStore.open(tmp_path) as store:
        snapshot = restored(store).snapshot()
        del snapshot.components["counts"]
        store.save(snapshot)
        loaded = store.load()
        assert loaded is not None and list(loaded.components) == ["arena"]
    with closing(sqlite3.connect(tmp_path / "lane.sqlite")) as connection:
        assert not connection.execute("SELECT 1 FROM chunks WHERE name LIKE 'counts%'").fetchall()


def test_a_changed_type_of_a_column_is_refused_by_name(tmp_path: Path) -> None:
    saved_lane(tmp_path, 3)
    with LaneStore.open(tmp_path) as store:
        loaded = store.load()
    toy = Toy()
    toy.counts.table = Columns(4, {"n": Column(np.int64), "w": Column(np.float64, (2,), np.nan)})
    assert loaded is not None
    with pytest.raises(StateError, match=r"counts/slots\.n: stored as int32 \(\), but .* int64"):
        restore_into(toy.components, loaded)


def test_a_lane_written_by_the_first_schema_is_read_to_the_last_bit(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "lane.sqlite")) as golden:
        golden.executescript((Path(__file__).parent / "golden" / "lane_schema_1.sql").read_text())
    with LaneStore.open(tmp_path) as store:
        loaded = store.load()
    assert loaded is not None and loaded.position == b"clicks:0:6" and store.epoch == 3
    written = at(6).snapshot().components
    assert list(loaded.components) == list(written)
    for name, component in written.items():
        for table_name, table in component.tables.items():
            for column, wanted in table.dense().items():
                np.testing.assert_array_equal(
                    loaded.components[name].tables[table_name].dense()[column], wanted
                )
        for scalar, wanted in component.scalars.items():
            np.testing.assert_array_equal(loaded.components[name].scalars[scalar], wanted)


# A plain dict as the model of the store

CELLS = st.dictionaries(st.integers(0, 90), st.one_of(st.none(), st.text(max_size=3)), max_size=30)
ACTS = st.lists(st.one_of(CELLS, st.sampled_from(["load", "reopen", "refuse"])), max_size=25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_any_sequence_of_saves_and_foldings_equals_a_dict(
    acts: list[dict[int, str | None] | str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("lane")
    truth: dict[int, str | None] = {}
    lost = dict(truth)  # what a failed save holds goes with its process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stripes, "STRIPE_BYTES", 256)
        patch.setattr(stripes, "FOLD_BYTES", 300)
        patch.setattr(stripes, "MOST_DELTAS", 3)
        store, failing = LaneStore.open(directory, generation_every=4), False
        for act in acts:
            if act == "refuse":
                failing = True
            elif act == "reopen":
                store.close()
                store, truth = LaneStore.open(directory, generation_every=4), dict(lost)
            elif isinstance(act, dict):
                truth |= act
                if failing:
                    failpoints.arm("mid_transaction:1:raise")
                    with pytest.raises(DiskError):
                        store.save(cells(act))
                    failing = False
                else:
                    store.save(cells(act))
                    lost = dict(truth)
            assert stored(store) == {k: v for k, v in lost.items() if v is not None}
        store.close()


def cells(values: dict[int, str | None]) -> Snapshot:
    rows = np.array(sorted(values), np.int64)
    names = np.array([values[r] for r in rows.tolist()] or [None], object)[: len(rows)]
    numbers = np.array([-1.0 if n is None else len(n) for n in names], np.float64)
    spec = {ID: Column(object), "x": Column(np.float64, (), np.nan)}
    table = Table(91, spec, [Part(rows, {ID: names, "x": numbers})])
    return Snapshot(1, components={"c": Component({"t": table}, {})})


def stored(store: LaneStore) -> dict[int, str]:
    loaded = store.load()
    if loaded is None:
        return {}
    columns = loaded.components["c"].tables["t"].dense()
    for name, number in zip(columns[ID], columns["x"], strict=True):
        assert (name is None and not number >= 0) or len(name) == number
    return {row: name for row, name in enumerate(columns[ID].tolist()) if name is not None}


# The disk refuses


@pytest.mark.parametrize("point", ["before_transaction", "mid_transaction"])
def test_a_failed_save_is_part_of_the_next_one(tmp_path: Path, point: str) -> None:
    with LaneStore.open(tmp_path) as store:
        toy = at(3)
        store.save(toy.snapshot())
        for _ in range(2):
            toy.step()
            failpoints.arm(f"{point}:1:raise")
            with pytest.raises(DiskError, match="No space left on device; nothing was written"):
                store.save(toy.snapshot())
        assert restored(store).digest() == at(3).digest()
        toy.step()
        store.save(toy.snapshot())
        assert restored(store).digest() == at(6).digest()


def test_a_full_disk_is_one_line_and_saving_goes_on_when_there_is_room(tmp_path: Path) -> None:
    script = """
import resource, sys
from lane_toys import at, restored
from streamrec.errors import DiskError
from streamrec.state.store import LaneStore
store, toy = LaneStore.open(sys.argv[1]), at(2)
store.save(toy.snapshot())
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
refused = 0
for _ in range(30):
    toy.step()
    toy.counts.table.grow(20_000)
    toy.counts.table.touched[:] = 1
    try:
        store.save(toy.snapshot())
    except DiskError as error:
        refused += 1
        assert "nothing was written" in str(error) and "\\n" not in str(error), error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.save(toy.snapshot())
print(refused, restored(store).digest() == at(32).digest(), toy.serial)
"""
    assert run(script, tmp_path).stdout.split() == ["30", "True", "32"]


def test_a_disk_turned_read_only_is_one_line_and_the_next_save_has_it_all(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        toy = at(2)
        store._opened().connection.execute("PRAGMA query_only=ON")
        with pytest.raises(
            DiskError, match="readonly database; nothing was written; make room or give the right"
        ):
            store.save(toy.snapshot())
        toy.step()
        store.save(toy.snapshot())
        assert restored(store).digest() == at(3).digest()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(DiskError, match="give the right to write"):
            LaneStore.open(tmp_path)
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_failed_fsync_of_a_generation_leaves_the_checkpoint_standing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with LaneStore.open(tmp_path, generation_every=1) as store:
        monkeypatch.setattr(generations, "_sync", refuse)
        assert store.save(at(2).snapshot()).generation is None
        assert "Input/output error" in str(store.generation_error)
        monkeypatch.undo()
        assert store.save(at(3).snapshot()).generation is not None and store.generation_error is None


# Killed at every step


def run(script: str, directory: Path, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "STREAMREC_FAILPOINT": failpoint}
    command = [sys.executable, "-c", script, str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or (failpoint and done.returncode == -9), done.stderr
    return done


STEPS = """
import sys
from lane_toys import restored
from streamrec.state.store import LaneStore
from streamrec.state.writer import InlineWriter
with LaneStore.open(sys.argv[1], generation_every=2) as store:
    toy, writer = restored(store), InlineWriter(store)
    while toy.serial < 9:
        toy.step()
        writer.try_submit(toy.snapshot)
        print(toy.serial if writer.failed is None else writer.failed, flush=True)
"""
POINTS = {
    "before_sync": (1, 5),
    "before_transaction": (1, 4),
    "mid_transaction": (1, 6),
    "after_transaction": (1, 5),
    "before_generation": (1, 3),
    "mid_generation": (1, 2, 5, 6),
    "in_restore": (1, 2),
}


@pytest.mark.parametrize(("point", "hit"), [(p, n) for p, hits in POINTS.items() for n in hits])
def test_killed_at_a_failpoint_a_lane_resumes_from_what_was_committed(
    tmp_path: Path, point: str, hit: int
) -> None:
    killed = run(STEPS, tmp_path, f"{point}:{hit}")
    assert killed.returncode == -9, "the failpoint was never reached"
    told = [int(line) for line in killed.stdout.split()]
    with LaneStore.open(tmp_path) as store:
        toy = restored(store)
        assert store.notes == [] and toy.serial in (len(told), len(told) + 1)
        assert toy.digest() == at(toy.serial).digest()
    assert run(STEPS, tmp_path).stdout.split()[-1:] == ["9"] or toy.serial == 9
    with LaneStore.open(tmp_path) as store:
        assert restored(store).digest() == at(9).digest()


# Bounded


def test_the_file_stays_bounded_over_a_thousand_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripes, "STRIPE_BYTES", 4_096)
    monkeypatch.setattr(stripes, "FOLD_BYTES", 16_384)
    draw = np.random.Generator(np.random.Philox(key=1))
    table = Columns(2_000, {"h": Column(np.float32, (16,))})
    sizes, truth = [], np.zeros((2_000, 16), np.float32)
    with LaneStore.open(tmp_path, generation_every=1_000_000) as store:
        store._opened().connection.execute("PRAGMA synchronous=OFF")  # no power is cut in this test
        for save in range(1_000):
            rows = np.unique(draw.integers(0, 2_000, 40))
            table["h"][rows] = truth[rows] = save
            table.touched[rows] = 1
            part = Part(*table.take_touched())
            store.save(
                Snapshot(save, components={"c": Component({"t": Table(2_000, table.spec, [part])}, {})})
            )
            sizes.append((tmp_path / "lane.sqlite").stat().st_size)
        loaded = store.load()
    assert loaded is not None
    np.testing.assert_array_equal(loaded.components["c"].tables["t"].dense()["h"], truth)
    assert max(sizes) < 4 * truth.nbytes
    assert max(sizes[500:]) <= 1.1 * max(sizes[250:500])
