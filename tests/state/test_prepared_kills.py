import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from lane_toys import at, restored

from streamrec import failpoints
from streamrec.errors import DiskError, InvariantError, StateError
from streamrec.failpoints import failpoint
from streamrec.state import generations, stripes
from streamrec.state.columns import Column
from streamrec.state.names import ID
from streamrec.state.reading import read_lane
from streamrec.state.snapshot import Component, Part, Snapshot, Table
from streamrec.state.store import LaneStore

# Killed at every step


class Group:
    """The offsets of a consumer group as a file of lines: number of the save, serial."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.with_suffix(".group")
        lines = self.path.read_text().splitlines() if self.path.exists() else ["0 0"]
        self.number, self.serial = map(int, lines[-1].split())

    def commit(self, number: int, serial: int) -> None:
        with self.path.open("a") as file:
            file.write(f"{number} {serial}\n")
        failpoint("after_transaction_end")

    def decide(self, number: int) -> bool:
        return number == self.number


def go_on(folder: Path, until: int) -> None:
    """Cuts in transactions; every fourth save is refused by the broker."""
    group = Group(folder)
    with LaneStore.open(folder, decide=group.decide, above=group.number, generation_every=2) as store:
        toy = restored(store)
        while toy.serial < until:
            toy.step()
            number = store.save(toy.snapshot(), prepared=True).number
            if number % 4 == 3:
                store.undo()
                toy = restored(store)
            else:
                group.commit(number, toy.serial)
                store.confirm()


def killed(folder: Path, place: str) -> None:
    """Go on in a process of its own that dies at a failpoint."""
    child = os.fork()
    if child == 0:
        try:
            failpoints.arm(place)
            go_on(folder, 9)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, "it was never reached"


HITS = {
    "before_prepare": (1, 4),
    "mid_transaction": (1, 2, 5, 6, 9, 12),
    "after_prepare": (1, 2, 3, 5),
    "after_transaction_end": (1, 2, 4),
    "after_transaction": (1, 2, 3, 5),
    "before_generation": (1, 2),
    "mid_generation": (1, 2, 3),
}
PLACES = [[f"{point}:{n}"] for point, hits in HITS.items() for n in hits]
TWICE = [
    [f"{first}:{n}", f"in_restore:{m}"]
    for first in ("after_prepare", "after_transaction_end", "mid_transaction")
    for n in (1, 2)
    for m in (1, 2)
]


@pytest.mark.parametrize("places", PLACES + TWICE, ids=" ".join)
def test_killed_anywhere_exactly_what_the_group_knows_counts(tmp_path: Path, places: list[str]) -> None:
    folder = tmp_path / "lane"
    for place in places:
        killed(folder, place)
    group = Group(folder)
    with LaneStore.open(folder, decide=group.decide) as store:
        toy = restored(store)
        assert store.notes == [] and toy.serial == group.serial
        assert toy.digest() == at(toy.serial).digest()
    go_on(folder, 9)
    assert Group(folder).serial == 9
    with LaneStore.open(folder) as store:
        assert restored(store).digest() == at(9).digest()


# A plain value as the model of the store


@dataclass(frozen=True)
class State:
    """What a lane holds; `y` is a column and `extra` a component that come and go with the process."""

    serial: int = 0
    names: dict[int, str] = field(default_factory=dict)
    y: dict[int, float] | None = None
    extra: int | None = None


def seen(loaded: Snapshot | None) -> State:
    """A loaded snapshot as a state."""
    if loaded is None:
        return State()
    columns = loaded.components["c"].tables["t"].dense()
    names = {row: name for row, name in enumerate(columns[ID].tolist()) if name is not None}
    y = None
    if "y" in columns:
        y = {row: value for row, value in enumerate(columns["y"].tolist()) if value >= 0}
    extra = int(loaded.components["e"].scalars["n"]) if "e" in loaded.components else None
    assert loaded.position == loaded.blobs.get("open", b"") == str(loaded.serial).encode()
    assert extra is None or loaded.components["e"].tables["t"].dense()["n"].tolist() == [extra]
    return State(loaded.serial, names, y, extra)


def snapshot_of_rows(state: State, touched: list[int]) -> Snapshot:
    """The rows touched of a state, and all that is not rows."""
    names = np.array([None, *(state.names.get(row) for row in touched)], object)[1:]
    columns, spec = {ID: names}, {ID: Column(object)}
    if state.y is not None:
        spec["y"] = Column(np.float64, (), -1.0)
        columns["y"] = np.array([state.y.get(row, -1.0) for row in touched], np.float64)
    components = {"c": Component({"t": Table(91, spec, [Part(np.array(touched, np.int64), columns)])}, {})}
    if state.extra is not None:
        one = Part(np.array([0]), {"n": np.array([state.extra])})
        table = Table(1, {"n": Column(np.int64)}, [one])
        components["e"] = Component({"t": table}, {"n": np.array(state.extra)})
    text = str(state.serial).encode()
    return Snapshot(state.serial, text, components, {"open": text})


ROWS = st.dictionaries(st.integers(0, 90), st.one_of(st.none(), st.text(max_size=3)), max_size=30)
OFTEN_NOT = st.integers(0, 4).map(lambda n: n == 0)


class PreparedLane(RuleBasedStateMachine):
    """Saves, prepared or not, settled, refused, killed and opened again."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for name, value in (("STRIPE_BYTES", 256), ("FOLD_BYTES", 300), ("MOST_DELTAS", 3)):
            self.patch.setattr(stripes, name, value)
        self.root = Path(tempfile.mkdtemp())
        self.folder, self.number = self.root / "0", 0
        self.counted = State()
        self.open: State | None = None
        self.history = {0: State()}
        self.store = LaneStore.open(self.folder, generation_every=3)
        self.live = State(y={}, extra=0)

    def teardown(self) -> None:
        self.store.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    @rule(cells=ROWS, prepared=st.booleans(), refused=OFTEN_NOT)
    def save(self, cells: dict[int, str | None], prepared: bool, refused: bool) -> None:
        names = {k: v for k, v in {**self.live.names, **cells}.items() if v is not None}
        y = None if self.live.y is None else {**self.live.y, **{k: float(self.live.serial) for k in cells}}
        serial = self.live.serial + 1
        self.live = State(serial, names, y, None if self.live.extra is None else serial)
        snapshot = snapshot_of_rows(self.live, sorted(cells))
        if self.open is not None:
            with pytest.raises(InvariantError):
                self.store.save(snapshot, prepared)
        elif refused:
            with pytest.raises(DiskError):
                self.refused(lambda: self.store.save(snapshot, prepared))
        else:
            self.number += 1
            assert self.store.save(snapshot, prepared).number == self.number
            self.open = self.live
            if not prepared:
                self.now_counts()

    @precondition(lambda self: self.open is not None)
    @rule(refused=OFTEN_NOT)
    def confirm(self, refused: bool) -> None:
        if refused:
            with pytest.raises(DiskError):
                self.refused(self.store.confirm)
        else:
            self.store.confirm()
            self.now_counts()

    @precondition(lambda self: self.open is not None)
    @rule(refused=OFTEN_NOT)
    def undo(self, refused: bool) -> None:
        if refused:
            with pytest.raises(DiskError):
                self.refused(self.store.undo)
        else:
            self.store.undo()
            self.open = None
            self.restart(self.live.y is not None, self.live.extra is not None)

    @precondition(lambda self: self.open is None)
    @rule(cells=ROWS, committed=st.booleans())
    def transaction(self, cells: dict[int, str | None], committed: bool) -> None:
        self.save(cells, True, False)
        (self.confirm if committed else self.undo)(False)

    @rule(does_count=st.booleans(), with_y=st.booleans(), with_extra=st.booleans(), skip=st.integers(0, 2))
    def kill(self, does_count: bool, with_y: bool, with_extra: bool, skip: int) -> None:
        """The folder as a killed process leaves it, opened by the next one."""
        copy = self.root / str(int(self.folder.name) + 1)
        shutil.copytree(self.folder, copy)
        self.store.close()
        self.folder, asked = copy, list[int]()

        def decide(number: int) -> bool:
            asked.append(number)
            return does_count

        if self.open is not None:
            with pytest.raises(StateError, match="is prepared"):
                LaneStore.open(copy)
        self.store = LaneStore.open(copy, generation_every=3, decide=decide, above=self.number + skip)
        assert asked == ([] if self.open is None else [self.number]) and self.store.notes == []
        if self.open is not None and does_count:
            self.now_counts()
        self.open, self.number = None, self.number + skip
        assert seen(self.store.load()) == self.counted
        self.restart(with_y, with_extra)

    @invariant()
    def the_file_holds_what_it_should(self) -> None:
        assert seen(self.store.load()) == (self.counted if self.open is None else self.open)
        assert self.store.prepared == (None if self.open is None else self.number)
        for generation in generations.listed(self.folder)[:1]:
            alone = self.root / "alone"
            alone.mkdir()
            shutil.copyfile(generation.path, alone / "lane.sqlite")
            assert seen(read_lane(alone)[1]) == self.history[generation.save]
            shutil.rmtree(alone)

    def refused(self, act: Callable[[], object]) -> None:
        failpoints.arm("mid_transaction:1:raise")
        try:
            act()
        finally:
            failpoints.arm("")

    def now_counts(self) -> None:
        assert self.open is not None
        self.counted, self.open = self.open, None
        self.history[self.number] = self.counted

    def restart(self, with_y: bool, with_extra: bool) -> None:
        """Components take back what counts; a column that is new is empty, one that is not asked for goes."""
        y = (self.counted.y or {}) if with_y else None
        extra = (self.counted.extra or 0) if with_extra else None
        self.live = replace(self.counted, y=y, extra=extra)


PreparedLane.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnySequenceOfSavesAndDecisionsEqualsAPlainValue = PreparedLane.TestCase
