"""F20: losses that are not finite, gaps of nothing and of a lifetime."""

import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamrec.batch import Batch
from streamrec.cli import app
from streamrec.lane import Lane
from streamrec.models.base import Walk
from streamrec.models.recurrent import Recurrent
from streamrec.verbs.opening import kept_lane

SETTINGS = """\
[models]
enabled = ["context_1", "gamma_poisson", "recurrent"]
[cut]
cut_events = 32
[checkpoint]
every_events = 100
"""
T0, LIFETIME = 1_600_000_000.0, 1e9


def log_of(folder: Path, gaps: tuple[float, ...], events: int = 900) -> Path:
    """Twenty users; the time between two events is drawn from `gaps`."""
    draw, now = random.Random(1), T0
    lines = ["user,mark,time"]
    for _ in range(events):
        now += draw.choice(gaps)
        user = draw.randrange(20)
        lines.append(f"u{user},m{(user + draw.randrange(3)) % 7},{now!r}")
    path = folder / "log.csv"
    path.write_text("\n".join([*lines, ""]))
    return path


def run(folder: Path, log: Path) -> Lane:
    """A run of the log, and its replay, which has to give the same; what was kept."""
    (folder / "settings.toml").write_text(SETTINGS)
    state, config = str(folder / "state"), str(folder / "settings.toml")
    sink = f"jsonl:{folder / 'out.jsonl'}"
    command(["run", str(log), "-c", config, "--state", state, "--sink", sink])
    command(["verify", state, "--against", str(log)])
    return kept_lane(folder / "state")


def command(args: list[str]) -> None:
    app(args, standalone_mode=False)


def recurrent_of(lane: Lane) -> Any:
    return lane.engine.models["recurrent"]


def assert_all_finite(lane: Lane, folder: Path) -> None:
    """Nothing that a network answers with is NaN or infinite, and neither is any forecast."""
    model = recurrent_of(lane)
    rows = lane.engine.arena.names_in_order()[1]
    assert np.isfinite(model.network.weights.flat.numpy()).all()
    assert np.isfinite(lane.engine.arena["recurrent.h"][rows]).all()
    assert all(np.isfinite(model.marks.columns[name]).all() for name in ("enter", "leave"))
    forecasts = (folder / "out.jsonl").read_text().splitlines()
    assert forecasts
    for line in forecasts:
        assert all(map(math.isfinite, numbers(json.loads(line))))


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, bool | str) or value is None:
        return
    if isinstance(value, int | float):
        yield value
    else:
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)


def spoil(model: Recurrent, what: str) -> None:
    """Something in the network becomes what no number is."""
    if what == "weights":
        model.network.weights["head"].data[0, 0] = float("nan")
    elif what == "overflow":
        model.network.weights["head"].data[:] = 1e38
    else:
        model.marks.columns["leave"][0] = np.inf


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Has the network spoiled at the first cut behind a moment of the log, in every run of it."""
    walk = Recurrent.walk

    def after(what: str, moment: float) -> None:
        def spoiled_walk(self: Recurrent, batch: Batch) -> Walk:
            if batch.n_sets and batch.time[0] >= moment and not getattr(self, "spoiled", False):
                self.spoiled = True  # type: ignore[attr-defined]
                spoil(self, what)
            return walk(self, batch)

        monkeypatch.setattr(Recurrent, "walk", spoiled_walk)

    return after


@pytest.mark.parametrize("what", ["weights", "overflow", "table"])
def test_f20_updates_without_a_finite_loss_are_skipped_counted_and_rolled_back(
    tmp_path: Path, spoiled: Callable[[str, float], None], what: str
) -> None:
    log = log_of(tmp_path, (0.0, 1.0, 30.0))
    spoiled(what, T0 + 4000.0)
    lane = run(tmp_path, log)
    model = recurrent_of(lane)
    assert model.counter("skipped") == 3 and model.counter("rolled_back") == 1
    assert model.counter("streak") == 0
    assert model.counter("cuts") > 20
    assert_all_finite(lane, tmp_path)


@pytest.mark.parametrize("gaps", [(0.0,), (0.0, LIFETIME / 10), (0.0, 1e-6, 1.0, LIFETIME / 100)])
def test_f20_gaps_of_nothing_and_of_a_lifetime_leave_everything_finite(
    tmp_path: Path, gaps: tuple[float, ...]
) -> None:
    lane = run(tmp_path, log_of(tmp_path, gaps))
    assert lane.n_events == 900
    assert_all_finite(lane, tmp_path)
