"""Where a judge is stopped, how much it reads at once, which log is there first: no figure knows of it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged import Lines, feeds_of, judge_of, lines, settings_of, toy_forecasts, verdict

from streamrec.errors import CorruptStateError, StateError
from streamrec.eventlog.sinks import JsonLinesSink
from streamrec.failpoints import arm
from streamrec.judge.loop import Pace, judge_logs
from streamrec.judge.state import FILE, Keeper

SETTINGS = settings_of()
Logs = tuple[Lines, Path]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    """A log, and forecasts of a program that was stopped and started again in its middle."""
    folder = tmp_path_factory.mktemp("logs")
    log, forecasts = lines(1200), folder / "out.jsonl"
    forecasts.write_bytes(b"".join(line + b"\n" for line in toy_forecasts(log, 601)))
    return log, forecasts


@pytest.fixture(scope="module")
def straight(logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[bytes]]:
    """Figures and outcomes of a judge that nobody disturbed."""
    path = tmp_path_factory.mktemp("straight") / "outcomes.jsonl"
    sink = JsonLinesSink(path)
    figures = verdict(*logs, SETTINGS, outcomes=sink)
    sink.close()
    assert min(figures["outcomes"][name] for name in ("hit", "miss", "expired")) > 30
    return plain(figures), sorted(path.read_bytes().splitlines())


def plain(figures: dict[str, Any]) -> Any:
    """Figures that compare equal where they are, NaN too."""
    return json.loads(json.dumps(figures).replace("NaN", '"nan"'))


def resumed(logs: Logs, folder: Path, pace: Pace) -> tuple[bool, dict[str, Any]]:
    """A judge that goes on in a folder: whether it came to the end, and its figures."""
    keeper, sink = Keeper(folder), JsonLinesSink(folder / "outcomes.jsonl")
    judge = judge_of(SETTINGS, keeper, outcomes=sink)
    whole = judge_logs(judge, *feeds_of(judge, *logs), pace)
    figures = judge.verdict() if whole else judge.report()
    keeper.close()
    sink.close()
    return whole, plain(figures)


def killed(logs: Logs, folder: Path, failpoint: str, tell: Callable[[], None], every: int = 100) -> bool:
    """Whether a judge in a fork of ours was killed."""
    child = os.fork()
    if not child:
        arm(failpoint)
        resumed(logs, folder, Pace(every, poll=40, tell=tell))
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


class KillAt:
    """Kills the process in round n."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def nothing() -> None:
    """Tell nobody."""


@pytest.mark.parametrize("poll", [1, 7, 100, 5000])
def test_figures_do_not_depend_on_how_much_is_read_at_once(logs: Logs, straight: Any, poll: int) -> None:
    assert plain(verdict(*logs, SETTINGS, poll=poll)) == straight[0]


@pytest.mark.parametrize("first", ["events", "forecasts"])
def test_figures_do_not_depend_on_which_log_is_read_first(logs: Logs, straight: Any, first: str) -> None:
    judge = judge_of(SETTINGS)
    events, forecasts = feeds_of(judge, *logs)
    for name in ("events", "forecasts") if first == "events" else ("forecasts", "events"):
        if name == "forecasts":
            judge.read_forecasts(forecasts.read(10_000), forecasts.checks)
        else:
            records = events.read(10_000)
            judge.read_events(list(zip(records, events.log.decode_many(records), strict=True)))
    assert plain(judge.verdict()) == straight[0]


def test_a_small_bound_is_not_hit_where_the_logs_can_be_read_in_turn(logs: Logs, straight: Any) -> None:
    assert plain(verdict(*logs, SETTINGS, poll=10, max_waiting=200)) == straight[0]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("failpoint", ["before_transaction", "after_transaction"])
def test_killed_at_a_checkpoint_it_goes_on_as_if_nothing_had_been(
    logs: Logs, straight: Any, tmp_path: Path, failpoint: str, n: int
) -> None:
    assert killed(logs, tmp_path, f"{failpoint}:{n}", nothing)
    assert resumed(logs, tmp_path, Pace()) == (True, straight[0])
    assert sorted((tmp_path / "outcomes.jsonl").read_bytes().splitlines()) == straight[1]


def test_killed_again_and_again_it_comes_to_the_same_end(logs: Logs, straight: Any, tmp_path: Path) -> None:
    deaths = 0
    while killed(logs, tmp_path, "", KillAt(4 + deaths % 3), every=150):
        deaths += 1
    assert deaths > 4
    assert resumed(logs, tmp_path, Pace()) == (True, straight[0])
    assert sorted((tmp_path / "outcomes.jsonl").read_bytes().splitlines()) == straight[1]


def test_logs_that_have_grown_are_gone_on_with(logs: Logs, straight: Any, tmp_path: Path) -> None:
    out, forecasts = tmp_path / "out.jsonl", logs[1].read_bytes().splitlines(keepends=True)
    for share in (0.2, 0.5, 0.9, 1.0):
        n = int(share * len(forecasts))
        out.write_bytes(b"".join(forecasts[:n]) + b"".join(forecasts[n : n + 1])[:100])
        log = {place: held[: int(share * len(held))] for place, held in logs[0].items()}
        whole, figures = resumed((log, out), tmp_path / "state", Pace())
        assert whole
    assert figures == straight[0]


def test_a_judge_that_is_stopped_keeps_what_it_read(logs: Logs, straight: Any, tmp_path: Path) -> None:
    pace = Pace(poll=50)
    pace.tell = pace.stop
    whole, figures = resumed(logs, tmp_path, pace)
    assert not whole
    assert figures["events"]["ok"] > 0
    assert resumed(logs, tmp_path, Pace()) == (True, straight[0])


def test_what_was_kept_with_other_settings_is_refused(logs: Logs, tmp_path: Path) -> None:
    resumed(logs, tmp_path, Pace())
    keeper = Keeper(tmp_path)
    with pytest.raises(StateError, match="lateness_s"):
        judge_of(settings_of({"order.lateness_s": 5.0}), keeper)
    keeper.close()


def test_another_judge_cannot_have_the_same_folder(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    with pytest.raises(StateError, match="another judge"):
        Keeper(tmp_path)
    keeper.close()


def test_an_exchanged_log_is_refused(logs: Logs, tmp_path: Path) -> None:
    mine = tmp_path / "out.jsonl"
    mine.write_bytes(logs[1].read_bytes())
    resumed((logs[0], mine), tmp_path / "state", Pace())
    held = mine.read_bytes().splitlines(keepends=True)
    mine.write_bytes(b"".join(held[:-1]) + held[0])
    with pytest.raises(StateError, match="not the one that was read"):
        resumed((logs[0], mine), tmp_path / "state", Pace())


def test_a_damaged_state_is_refused(logs: Logs, tmp_path: Path) -> None:
    resumed(logs, tmp_path, Pace())
    data = bytearray((tmp_path / FILE).read_bytes())
    at = data.rfind(b"m3")
    data[at] ^= 1
    (tmp_path / FILE).write_bytes(data)
    keeper = Keeper(tmp_path)
    with pytest.raises(CorruptStateError, match="check sum"):
        keeper.load()
    keeper.close()
