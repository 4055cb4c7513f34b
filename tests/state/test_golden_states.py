"""F21: a whole state that an earlier version left is read to the last bit, and gone on with."""

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import make_golden
import pytest
from lane_toys import at, restored

from streamrec.daemon.layout import Layout, Topic
from streamrec.errors import StateError
from streamrec.state import lanefile
from streamrec.state.reading import inspect, read_lane
from streamrec.state.store import LaneStore
from streamrec.verbs.opening import kept_lane

GOLDEN = Path(__file__).parent / "golden"
"""Pairs of `make_golden`; each is of one version, and stays as it is."""

STATES = sorted(path.name.removesuffix(".sql.gz") for path in GOLDEN.glob("*.sql.gz"))


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """A folder with an earlier version's state, and what has to be found in it."""
    script = gzip.decompress((GOLDEN / f"{request.param}.sql.gz").read_bytes()).decode()
    with closing(sqlite3.connect(tmp_path / "lane.sqlite")) as file:
        file.executescript(script)
    return tmp_path, json.loads((GOLDEN / f"{request.param}.json").read_text(encoding="utf-8"))


def test_there_is_a_state_to_read() -> None:
    assert "lane_of_topics_1" in STATES


def test_f21_every_part_of_an_earlier_state_is_read_to_the_last_bit(
    state: tuple[Path, dict[str, object]],
) -> None:
    folder, facts = state
    assert make_golden.told(kept_lane(folder)) == facts


def test_f21_the_layout_of_its_topics_is_known(state: tuple[Path, dict[str, object]]) -> None:
    layout = Layout.from_bytes(kept_lane(state[0]).layout)
    assert layout == Layout(1, {"clicks": Topic(make_golden.TOPIC_ID, 2)})


def test_f21_an_earlier_state_is_gone_on_with_from_where_it_stood(
    state: tuple[Path, dict[str, object]],
) -> None:
    folder, facts = state
    with make_golden.new_lane() as lane:
        assert lane.open(folder)
        assert make_golden.told(lane) == facts
        make_golden.learn(lane, make_golden.RECORDS, 2 * make_golden.RECORDS)
        later = lane.learned()
    assert later != facts["learned"]
    again = kept_lane(folder)
    assert again.learned() == later
    assert set(again.positions.values()) == {make_golden.RECORDS}  # of each of its two partitions


@pytest.mark.parametrize("beside", [{}, {lanefile.PREPARED: {"number": 9}}])
def test_f21_a_state_of_a_later_version_is_refused_in_one_line_and_untouched(
    state: tuple[Path, dict[str, object]], beside: dict[str, object]
) -> None:
    """Also while its newest save can still be undone: such a file has a version of its own."""
    folder, _ = state
    with closing(lanefile.LaneFile(folder / "lane.sqlite")) as file:
        file.read_manifest(file.head())
        head = file.begin() | {"schema": 7} | beside
        file.set_head(head)
        file.commit()
    before = (folder / "lane.sqlite").read_bytes()
    for look in (LaneStore.open, read_lane):
        with pytest.raises(StateError, match="state of schema 7, but this program reads") as error:
            look(folder)
        assert "\n" not in str(error.value)
    assert (folder / "lane.sqlite").read_bytes() == before


@pytest.mark.parametrize(("counts", "serial"), [(True, 4), (False, 3)])
def test_f21_an_open_save_of_an_earlier_version_is_kept_or_undone_as_its_transaction_ended(
    tmp_path: Path, counts: bool, serial: int
) -> None:
    with closing(sqlite3.connect(tmp_path / "lane.sqlite")) as file:
        file.executescript((GOLDEN / "lane_prepared_2.sql").read_text(encoding="utf-8"))
    with LaneStore.open(
        tmp_path, decide=lambda number: counts, accept=lambda epoch, recorded: recorded
    ) as store:
        assert restored(store).digest() == at(serial).digest()
    assert inspect(tmp_path)["serial"] == serial
