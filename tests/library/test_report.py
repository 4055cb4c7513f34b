"""The table at the end of a run: every name whole, in 80 columns."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from streamrec.event import Event
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource
from streamrec.lane import Lane
from streamrec.models.bank import DEFAULT_BANK, NAIVE
from streamrec.models.popularity import MEMBERS
from streamrec.outputs import Outputs
from streamrec.report import Display, score_table
from streamrec.settings import ModelsSettings, Settings
from streamrec.stream import Coded, Events, drive

NAN = float("nan")


def mark(nll: float, events: float = 100.0) -> dict[str, float]:
    return {"events": events, "accuracy": 0.5, "hit@10": 0.75, "mrr@10": 0.25, "nll": nll}


def wait(log_likelihood: float) -> dict[str, float]:
    return {
        "events": 90.0, "log_likelihood_open": log_likelihood, "mae_median_s": 70_343.5, "coverage90": 0.9,
    }  # fmt: skip


def figures() -> dict[str, Any]:
    """Scores of everything that runs by default, with the widest numbers that occur."""
    experts: dict[str, Any] = {m.name: {"mark": mark(6.5 + i)} for i, m in enumerate(MEMBERS)}
    experts |= {name: {"mark": mark(5.0 + i)} for i, name in enumerate(DEFAULT_BANK)}
    experts |= {"log_normal": {"time": wait(-5.4)}, "gamma_poisson": {"time": wait(NAN)}}
    experts["recurrent"] = {"mark": mark(4.0, events=50.0), "time": wait(-263.7797)}
    naive = {name: {"mark": mark(7.0), "time": wait(-3413.25)} for name in NAIVE}
    mixture, layers = {"mark": mark(4.5), "time": wait(-5.0)}, {"soft_bayes": {"mark": mark(4.6)}}
    return {"mixture": mixture, "layers": layers, "experts": experts, "naive": naive}


@pytest.fixture
def lines() -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80).print(score_table(figures(), "scores"))
    return out.getvalue().splitlines()


def test_no_name_and_no_number_is_cut_off_at_80_columns(lines: list[str]) -> None:
    assert not any("…" in line for line in lines)
    assert max(len(line) for line in lines) <= 80


def test_the_mixture_stands_first_and_the_experts_follow_from_best_to_worst(lines: list[str]) -> None:
    names = [line.split()[0] for line in lines if "  0.5000" in line or "-5.4000" in line]
    assert names[:3] == ["mixture", "soft_bayes", "recurrent"]
    assert names.index("log_normal") > names.index("context_1")


def test_only_the_best_member_of_the_popularity_bank_is_shown(lines: list[str]) -> None:
    shown = [line for line in lines if line.strip().startswith("pop_")]
    assert len(shown) == 1
    assert shown[0].strip().startswith(f"pop_all (of {len(MEMBERS)})")


def test_naive_rules_and_sleepers_are_marked_and_the_marks_explained(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert all(f"{name} *" in text for name in NAIVE)
    assert "recurrent ~" in text
    assert "context_1 ~" not in text
    assert "* naive rule" in text
    assert "~ slept" in text


def test_what_was_not_scored_is_a_dash_and_not_a_number(lines: list[str]) -> None:
    line = next(line for line in lines if line.strip().startswith("gamma_poisson ") and "*" not in line)
    assert " - " in line
    assert "nan" not in line


def test_the_live_view_shows_rate_share_scores_and_leading_experts() -> None:
    lane = Lane(Settings(models=ModelsSettings(enabled=("context_1", "gamma_poisson"))), Outputs())
    events = [Event(f"u{i % 5}", f"m{i % 3}", 10.0 * i) for i in range(400)]
    log = Coded(MemorySource.of_events(events), JsonCodec(FieldNames()), len(events))
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with Display(lane, 400, console) as display:
        for result in drive(Events(log), lane):
            display.update(result)
    assert "% of 400" in out.getvalue()
    assert "events/s" in out.getvalue()
    assert re.search(r"hit@10 (-|[01]\.\d{4})", out.getvalue())
    assert re.search(r"weights \w+ [01]\.\d\d  \w+", out.getvalue())
