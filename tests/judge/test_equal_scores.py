"""What the judge says of two logs is what the program said while it made one of them."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from judged import Lines, decoded, evaluated, lines, settings_of, source_of, verdict

from streamrec.evaluate import cumulative
from streamrec.event import Event
from streamrec.eventlog.sinks import JsonLinesSink
from streamrec.forecast import Forecast
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.stream import Events, drive

CASES: dict[str, tuple[dict[str, Any], Lines]] = {
    "ties, late and duplicate events, bad lines": ({}, lines(1500)),
    "sets that are closed when they are full": ({"order.max_tie_marks": 2}, lines(1000, 2)),
    "events that are held for late ones": ({"order.lateness_s": 60.0}, lines(1000, 3, late=0.3)),
    "one event after another": ({"order.ties": "file-order"}, lines(1000, 4)),
    "three partitions, each with its own clock": ({}, lines(1000, 5, partitions=3)),
}


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A log, its forecasts, settings, and the program's own figures."""
    more, data = CASES[request.param]
    folder = tmp_path_factory.mktemp("case")
    settings, forecasts = settings_of(more), folder / "out.jsonl"
    yield data, forecasts, settings, evaluated(data, forecasts, settings)


def test_marks_score_as_the_program_scored_them(case: Any) -> None:
    log, forecasts, settings, figures = case
    mixture = figures["mixture"]
    ours, theirs = verdict(log, forecasts, settings)["mark_issued"], mixture["mark_issued"]
    assert ours["events"] == theirs["events"] > 400
    assert ours["nll"] == pytest.approx(theirs["nll"], rel=1e-9)
    assert ours["hit@1"] == pytest.approx(theirs["accuracy"], rel=1e-12)
    for name in ("hit@5", "hit@10", "hit@20", "mrr@10", "ndcg@10"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-9), name


def test_waiting_times_score_as_the_program_scored_them(case: Any) -> None:
    log, forecasts, settings, figures = case
    mixture = figures["mixture"]
    ours, theirs = verdict(log, forecasts, settings)["time"], mixture["time"]
    assert ours["events"] == theirs["events"] > 100
    assert ours["log_density_issued"] == pytest.approx(theirs["log_density_issued"], rel=1e-9)


def test_every_forecast_has_one_outcome_and_every_event_one_place(case: Any) -> None:
    log, forecasts, settings, theirs = case
    figures = verdict(log, forecasts, settings)
    bins = theirs["bins"]
    assert {name: figures["events"][name] for name in bins} == bins
    assert min(bins["late"], bins["duplicate"], bins["dead_letter"]) > 0
    read = [Forecast.from_json(line) for line in forecasts.read_bytes().splitlines()]
    outcomes, events = figures["outcomes"], figures["events"]
    assert figures["forecasts"]["read"] == len(read)
    assert sum(outcomes[name] for name in ("hit", "miss", "expired", "superseded", "open")) == len(read)
    assert outcomes["open"] == len({forecast.user for forecast in read})
    assert events["ok"] == events["judged"] + events["first"]
    assert events["outside"] == events["waiting"] == events["held"] == 0


def test_with_the_hazard_off_only_marks_are_judged(tmp_path: Path) -> None:
    settings = settings_of({"forecast.hazard": False})
    log, forecasts = lines(300), tmp_path / "out.jsonl"
    mixture = evaluated(log, forecasts, settings)["mixture"]
    figures = verdict(log, forecasts, settings)
    assert figures["mark_issued"]["nll"] == pytest.approx(mixture["mark_issued"]["nll"], rel=1e-9)
    assert figures["time"]["events"] == 0
    assert mixture["time"]["events"] > 0


def test_sets_that_a_restart_has_closed_early_are_judged_as_they_were(tmp_path: Path) -> None:
    settings, log = settings_of(), lines(900, 7)
    events = [read for read in decoded(log) if isinstance(read, Event)]
    within = [b.offset for a, b in pairwise(events) if (a.user, a.time) == (b.user, b.time)]
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    lane = Lane(settings, Outputs(sink), clock_of=own_clock)
    for n in (*within[:20:4], None):
        for _ in drive(Events(source_of({place: held[:n] for place, held in log.items()})), lane):
            pass
    sink.close()
    figures, mixture = verdict(log, tmp_path / "out.jsonl", settings), cumulative(lane.engine)["mixture"]
    undisturbed = evaluated(log, tmp_path / "undisturbed.jsonl", settings)
    assert figures["forecasts"]["read"] > (tmp_path / "undisturbed.jsonl").read_bytes().count(b"\n")
    assert figures["mark_issued"]["nll"] == pytest.approx(mixture["mark_issued"]["nll"], rel=1e-9)
    assert figures["mark_issued"]["nll"] != undisturbed["mixture"]["mark_issued"]["nll"]
    assert figures["time"]["events"] == mixture["time"]["events"]
    theirs = mixture["time"]["log_density_issued"]
    assert figures["time"]["log_density_issued"] == pytest.approx(theirs, rel=1e-9)
