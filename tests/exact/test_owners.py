"""Two owners of one folder: the older one can write nothing that counts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Kept, Warm, kept, run_args

from streamrec.entries import CutEntry
from streamrec.errors import ConfigError, FencedError
from streamrec.eventlog.sinks import JsonLinesSink
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.settings import load_settings
from streamrec.state.reading import read_lane
from streamrec.stream import Events, drive
from streamrec.verbs.opening import outputs_of, source_of

pytestmark = pytest.mark.timeout(900)  # the first test of all may have to compile every kernel


@pytest.fixture
def lanes(folder: Path) -> Iterator[list[Lane]]:
    """Two lanes on one folder; only the second one writes forecasts."""
    settings = load_settings(folder / "settings.toml", None, {})
    outputs = outputs_of(f"jsonl:{folder}/out.jsonl", folder / "bad.jsonl")
    made = [Lane(settings, Outputs()), Lane(settings, outputs)]
    yield made
    for lane in made:
        lane.abandon()


def events_of(log: Path, lane: Lane) -> Events:
    """The log as a lane reads it."""
    return Events(source_of([str(log)], lane.settings.input))


def test_a_stalled_owner_is_stopped_at_its_next_cut_and_changes_nothing(
    lanes: list[Lane], folder: Path, log: Path, warm: Warm
) -> None:
    old, new = lanes
    old.open(folder / "state")
    cuts = drive(events_of(log, old), old)
    for _ in range(6):
        next(cuts)
    assert new.open(folder / "state")
    assert new.n_events < old.n_events
    assert old.journal is not None
    late = old.journal.append(
        CutEntry((), 0, old.cutter.serial, False)
    )  # as if it had passed the check before
    with pytest.raises(FencedError, match="opened as epoch 2 since, we are 1"):
        next(cuts)
    assert old.journal.position == late
    saves = read_lane(folder / "state")[0]["saves"]
    with pytest.raises(FencedError, match="nothing was written"):
        old.checkpoint()
    assert read_lane(folder / "state")[0]["saves"] == saves
    for _ in drive(events_of(log, new), new):
        pass
    new.close()
    verified = warm.command(["verify", "state", "--against", str(log)], folder)
    assert verified.code == 0, verified.err


def test_what_the_new_owner_does_is_the_undisturbed_run(
    lanes: list[Lane], folder: Path, log: Path, straight: Kept
) -> None:
    old, new = lanes
    old.open(folder / "state")
    for _, _ in zip(range(6), drive(events_of(log, old), old), strict=False):
        pass
    new.open(folder / "state")
    for _ in drive(events_of(log, new), new):
        pass
    new.close()
    after = kept(folder)
    assert (after.learned, after.position) == (straight.learned, straight.position)


def test_a_file_that_another_process_writes_to_is_refused(
    warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    other = JsonLinesSink(folder / "out.jsonl")
    ended = warm.command(run_args(log), folder)
    assert ended.code == ConfigError.exit_code
    assert "out.jsonl: another process writes to this file" in ended.err
    assert not (folder / "state").exists()
    other.close()
    assert warm.command(run_args(log), folder).code == 0
    assert kept(folder) == straight
