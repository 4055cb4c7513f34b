"""What the judge says of two logs is what the program said while it made one of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judged import evaluated, lines, settings_of, verdict, write

from streamrec.forecast import Forecast

CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "ties, late and duplicate events, bad lines": ({}, lines(1500)),
    "sets that are closed when they are full": ({"order.max_tie_marks": 2}, lines(1000, 2)),
    "events that are held for late ones": ({"order.lateness_s": 60.0}, lines(1000, 3, late=0.3)),
    "one event after another": ({"order.ties": "file-order"}, lines(1000, 4)),
    "a closed universe is not needed": ({"order.dedupe_events": 0}, lines(600, 5)),
}


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A log, its forecasts, settings, and the program's own figures."""
    more, data = CASES[request.param]
    folder = tmp_path_factory.mktemp("case")
    settings, log, forecasts = settings_of(more), write(folder / "log.jsonl", data), folder / "out.jsonl"
    yield log, forecasts, settings, evaluated(log, forecasts, settings)["mixture"]


def test_marks_score_as_the_program_scored_them(case: Any) -> None:
    log, forecasts, settings, mixture = case
    ours, theirs = verdict(log, forecasts, settings)["mark_issued"], mixture["mark_issued"]
    assert ours["events"] == theirs["events"] > 400
    assert ours["nll"] == pytest.approx(theirs["nll"], rel=1e-9)
    assert ours["hit@1"] == pytest.approx(theirs["accuracy"], rel=1e-12)
    for name in ("hit@5", "hit@10", "hit@20", "mrr@10", "ndcg@10"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-9), name


def test_waiting_times_score_as_the_program_scored_them(case: Any) -> None:
    log, forecasts, settings, mixture = case
    ours, theirs = verdict(log, forecasts, settings)["time"], mixture["time"]
    assert ours["events"] == theirs["events"] > 100
    assert ours["log_density_issued"] == pytest.approx(theirs["log_density_issued"], rel=1e-9)


def test_every_forecast_has_one_outcome_and_every_event_one_place(case: Any) -> None:
    log, forecasts, settings, _ = case
    figures = verdict(log, forecasts, settings)
    read = [Forecast.from_json(line) for line in forecasts.read_bytes().splitlines()]
    outcomes, events = figures["outcomes"], figures["events"]
    assert figures["forecasts"]["read"] == len(read)
    assert sum(outcomes[name] for name in ("hit", "miss", "expired", "superseded", "open")) == len(read)
    assert outcomes["open"] == len({forecast.user for forecast in read})
    assert events["ok"] == events["judged"] + events["first"]
    assert events["outside"] == events["waiting"] == events["held"] == 0


def test_with_the_hazard_off_only_marks_are_judged(tmp_path: Path) -> None:
    settings = settings_of({"forecast.hazard": False})
    log, forecasts = write(tmp_path / "log.jsonl", lines(300)), tmp_path / "out.jsonl"
    mixture = evaluated(log, forecasts, settings)["mixture"]
    figures = verdict(log, forecasts, settings)
    assert figures["mark_issued"]["nll"] == pytest.approx(mixture["mark_issued"]["nll"], rel=1e-9)
    assert figures["time"]["events"] == 0
    assert mixture["time"]["events"] > 0
