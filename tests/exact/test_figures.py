"""`evaluate` with a state: killed and resumed, its figures are those of an undisturbed evaluation."""

import json
from pathlib import Path
from typing import Any

import pytest
from program import Warm, run_args

pytestmark = pytest.mark.timeout(900)  # the first test of all may have to compile every kernel

UNLIKE = ("seconds", "cpu_seconds", "events_per_second", "peak_rss_mb")


def evaluated(
    log: Path, folder: Path, state: str, warm: Warm, killed_at: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Figures of an evaluation that is killed at some places before it comes to its end."""
    args = ["evaluate", str(log), "-c", "settings.toml", "--warmup", "0.1"]
    args += ["--state", state, "--json", f"{state}.json"]
    for place in killed_at:
        assert warm.command(args, folder, place).code == -9
    ended = warm.command(args, folder)
    assert ended.code == 0, ended.err
    figures: dict[str, Any] = json.loads((folder / f"{state}.json").read_text())
    return {name: figure for name, figure in figures.items() if name not in UNLIKE}


def test_figures_of_a_killed_and_resumed_evaluation_are_those_of_an_undisturbed_one(
    warm: Warm, folder: Path, log: Path
) -> None:
    straight = evaluated(log, folder, "straight", warm)
    assert len(straight["windows"]) == 20
    places = ("after_transaction:3", "after_emit:4", "before_update:6", "in_restore:3", "mid_transaction:2")
    assert evaluated(log, folder, "killed", warm, places) == straight
    assert evaluated(log, folder, "killed", warm) == straight  # once more, with nothing new


def test_an_evaluation_does_not_go_on_with_the_state_of_a_run(warm: Warm, folder: Path, log: Path) -> None:
    assert warm.command(run_args(log), folder).code == 0
    ended = warm.command(["evaluate", str(log), "-c", "settings.toml", "--state", "state"], folder)
    assert ended.code == 4
    assert "the state does not hold extra.windows" in ended.err
