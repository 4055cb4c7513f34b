"""The library face: what a program sees that imports streamrec."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import streamrec
from streamrec import Event, ModelsSettings, Processor, Settings
from streamrec.errors import ConfigError, InvariantError, StateError
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.settings import CutSettings, ForecastSettings
from streamrec.state.digest import learned_digest
from streamrec.stream import Coded, Events, drive
from streamrec.verbs.opening import kept_lane

COUNTING = Settings(models=ModelsSettings(enabled=("context_1", "context_2", "gamma_poisson")))
WITH_TORCH = Settings(models=ModelsSettings(enabled=("context_1", "gamma_poisson", "recurrent")))


def stream(n: int, users: int = 9, marks: int = 6, seed: int = 3) -> list[Event]:
    """Events in order of time, some of them tied."""
    rng = np.random.default_rng(seed)
    time = np.floor(np.cumsum(rng.exponential(20.0, n)) / 10) * 10
    who, what = rng.integers(0, users, n), rng.integers(0, marks, n)
    rows = zip(who.tolist(), what.tolist(), time.tolist(), strict=True)
    return [Event(f"u{u}", f"m{m}", t) for u, m, t in rows]


def in_calls(processor: Processor, events: list[Event], size: int) -> list[bytes]:
    """Forecasts of calls of `size` events, as they are written."""
    calls = [events[i : i + size] for i in range(0, len(events), size)]
    return [f.to_json() for call in calls for f in processor.step(call)]


def test_the_public_names_are_these_and_each_can_be_had() -> None:
    assert sorted(streamrec.__all__) == [
        "Event", "Forecast", "ModelsSettings", "Processor", "Settings", "StreamrecError", "load_settings",
    ]  # fmt: skip
    assert all(getattr(streamrec, name).__doc__ for name in streamrec.__all__)
    assert set(streamrec.__all__) <= set(dir(streamrec))
    with pytest.raises(AttributeError, match="no attribute 'Procesor'"):
        streamrec.Procesor  # noqa: B018


def test_importing_streamrec_imports_nothing_heavy() -> None:
    code = (
        "import streamrec, sys; print([m for m in ('numpy', 'numba', 'torch', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_step_answers_for_every_set_that_it_closed_and_flush_for_the_rest() -> None:
    events, processor = stream(200), Processor(COUNTING)
    issued = [f for i in range(0, 200, 16) for f in processor.step(events[i : i + 16])]
    issued += processor.flush()
    sets = {(e.user, e.time) for e in events}
    assert {(f.user, f.issued_at) for f in issued} == sets
    assert len(issued) == len(sets)
    assert processor.n_events == 200
    assert processor.flush() == []


def test_a_resumed_processor_is_one_that_never_stopped(tmp_path: Path) -> None:
    events = stream(360)
    straight, stopped = Processor(WITH_TORCH), Processor(WITH_TORCH)
    expected = in_calls(straight, events, 40) + [f.to_json() for f in straight.flush()]
    got = in_calls(stopped, events[:200], 40)
    stopped.save(tmp_path / "state")
    resumed = Processor.load(tmp_path / "state")
    assert resumed.digest() == stopped.digest()
    got += in_calls(resumed, events[200:], 40) + [f.to_json() for f in resumed.flush()]
    assert got == expected
    assert resumed.digest() == straight.digest()


def test_saving_changes_nothing_and_later_saves_hold_everything(tmp_path: Path) -> None:
    events = stream(300)
    straight, saving = Processor(COUNTING), Processor(COUNTING)
    in_calls(straight, events, 50)
    for i in range(0, 300, 50):
        saving.step(events[i : i + 50])
        saving.save(tmp_path / "a")
        assert Processor.load(tmp_path / "a").digest() == saving.digest()
    assert saving.digest() == straight.digest()
    saving.save(tmp_path / "b")  # another folder: everything is written, not only what changed
    assert Processor.load(tmp_path / "b").digest() == straight.digest()


def test_a_loaded_processor_goes_on_saving_where_it_came_from(tmp_path: Path) -> None:
    events, first = stream(200), Processor(COUNTING)
    first.step(events[:100])
    first.save(tmp_path)
    first.close()
    second = Processor.load(tmp_path)
    second.step(events[100:])
    second.save(tmp_path)
    assert Processor.load(tmp_path).digest() == second.digest()
    first.step(events[100:150])
    with pytest.raises(StateError, match="has gone on since this processor read it"):
        first.save(tmp_path)


def test_a_folder_with_another_state_is_not_overwritten(tmp_path: Path) -> None:
    one = Processor(COUNTING)
    one.step(stream(50))
    one.save(tmp_path)
    with pytest.raises(StateError, match="holds another state; load it, or save to an empty folder"):
        Processor(COUNTING).save(tmp_path)
    assert Processor.load(tmp_path).digest() == one.digest()


def test_a_loaded_processor_has_all_settings_back(tmp_path: Path) -> None:
    settings = COUNTING.model_copy(
        update={"cut": CutSettings(cut_events=32), "forecast": ForecastSettings(within_s=(7.0,))}
    )
    Processor(settings).save(tmp_path)
    assert Processor.load(tmp_path).settings == settings


def test_a_saved_processor_can_be_looked_at_by_the_command_line(tmp_path: Path) -> None:
    processor = Processor(COUNTING)
    processor.step(stream(120))
    processor.save(tmp_path)
    lane = kept_lane(tmp_path)
    assert lane.learned() == processor.digest()
    assert lane.n_events == 120


@pytest.mark.parametrize("size", [1, 7, 500])
def test_counting_models_learn_the_same_from_calls_of_any_size_as_from_a_log(size: int) -> None:
    events, processor = stream(250), Processor(COUNTING)
    in_calls(processor, events, size)
    processor.flush()
    lane = Lane(COUNTING, Outputs())
    for _ in drive(Events(Coded(MemorySource.of_events(events), JsonCodec(FieldNames()))), lane):
        pass
    assert learned_without_boards(processor._lane) == learned_without_boards(lane)
    users = sorted({e.user for e in events})
    asked, kept = [[f(u) for u in users] for f in (processor.forecast, lane.forecast)]
    assert asked == kept


def learned_without_boards(lane: Lane) -> str:
    """Digest of all but the score sums, whose last bits depend on how many were added at once."""
    parts = lane.engine.components()
    return learned_digest({name: part for name, part in parts.items() if name != "boards"})


def test_asking_changes_nothing_and_silence_moves_the_forecast() -> None:
    processor = Processor(COUNTING)
    processor.step(stream(200))
    processor.flush()
    before = processor.digest()
    now = processor.forecast("u1")
    later = processor.forecast("u1", at=now.issued_at + 86_400.0)
    assert now.wait is not None
    assert later.wait is not None
    assert later.wait.quantiles["0.5"] > now.wait.quantiles["0.5"]
    assert processor.digest() == before


def test_late_and_duplicate_events_change_no_forecast() -> None:
    clean, disturbed = Processor(COUNTING), Processor(COUNTING)
    events = [e._replace(id=str(i)) for i, e in enumerate(stream(100))]
    clean.step(events)
    late = Event("u1", "m0", 0.0)
    disturbed.step([*events[:60], events[59]])
    disturbed.step([late, *events[60:]])
    assert clean.n_events == disturbed.n_events == 100
    assert [f.wait for f in clean.flush()] == [f.wait for f in disturbed.flush()]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event("", "m", 1.0), r"event 1: the user is empty \(empty_user\)"),
        (Event("u", "m", float("nan")), r"event 1: .*\(time_"),
        (Event("u", "m", 1.0, context=True), "event 1: context events are not learned by this version"),
    ],
)
def test_an_unusable_event_is_refused_and_nothing_of_the_call_is_taken(event: Event, reason: str) -> None:
    processor = Processor(COUNTING)
    fresh = processor.digest()
    with pytest.raises(ConfigError, match=reason):
        processor.step([Event("u", "m", 0.0), event])
    processor.flush()
    assert (processor.n_events, processor.digest()) == (0, fresh)


def test_an_offset_that_was_taken_in_is_refused() -> None:
    processor = Processor(COUNTING)
    processor.step([Event("u", "m", 0.0, offset=7)])
    with pytest.raises(InvariantError, match="next offset is 8, but record 7 came"):
        processor.step([Event("u", "m", 1.0, offset=7)])


def test_users_nobody_knows_and_closed_universes_are_refused() -> None:
    with pytest.raises(ConfigError, match="never seen"):
        Processor(COUNTING).forecast("nobody")
    with pytest.raises(ConfigError, match="for `streamrec evaluate`"):
        Processor(Settings(forecast=ForecastSettings(universe="known")))


def test_there_is_nothing_to_load_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(StateError):
        Processor.load(tmp_path)
