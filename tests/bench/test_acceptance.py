"""Whether an acceptance line holds is computed; layers of the mixture are no single models."""

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def accept(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("accept")


def _mark(accuracy, nll, lead=0.0, events=100.0):
    return {"accuracy": accuracy, "hit@10": accuracy, "nll": nll, "lead": lead, "events": events}


def _time(log_likelihood):
    return {"log_likelihood_open": log_likelihood}


def _figures(**changes):
    experts = {
        "soft_bayes": {"mark": _mark(0.9, 0.1, -1.2), "time": _time(9.0)},
        "context_1": {"mark": _mark(0.5, 1.4, 0.1), "time": _time(-5.0)},
    }
    naive = {"markov": {"mark": _mark(0.6, 1.5)}, "gamma_poisson": {"time": _time(-6.0)}}
    mixture = {"mark": _mark(0.5995, 1.3), "time": _time(-4.9)}
    return {
        "clock": "absolute", "marks": 17, "events": 10_000, "cpu_seconds": 2.5, "peak_rss_mb": 900.0,
        "mixture": mixture, "experts": experts, "naive": naive, **changes,
    }  # fmt: skip


def _said(accept, figures, part, name="taobao"):
    return next(verdict for line, verdict in accept.verdicts(name, figures) if line.startswith(part))


def test_a_line_holds_within_its_tolerance_and_else_says_by_how_much_not(accept):
    assert _said(accept, _figures(), "accuracy") == "holds"
    worse = _figures(mixture={"mark": _mark(0.59, 1.3), "time": _time(-4.9)})
    assert _said(accept, worse, "accuracy") == "falls short by 0.0090"


def test_soft_bayes_is_no_single_model(accept):
    assert _said(accept, _figures(), "mark NLL") == "holds"
    assert _said(accept, _figures(), "log_likelihood_open >= best single") == "holds"


def test_an_equal_nll_is_not_below(accept):
    figures = _figures()
    figures["experts"]["context_1"]["mark"]["lead"] = 0.0
    assert _said(accept, figures, "mark NLL") == "falls short by 0.0000"


def test_speed_is_judged_by_processor_time_and_the_number_of_marks(accept):
    assert _said(accept, _figures(), "5,000 events") == "falls short by 1,000"
    assert not any("events per" in line for line, _ in accept.verdicts("wikipedia", _figures(marks=1000)))
    assert _said(accept, _figures(marks=1682), "3,000 events", "movielens-100k") == "holds"


def test_a_relative_clock_is_not_judged_by_open_waits(accept):
    lines = [line for line, _ in accept.verdicts("taxi", _figures(clock="relative"))]
    assert not any("open" in line for line in lines)


def test_movielens_small_is_judged_by_hits(accept):
    assert next(accept.verdicts("movielens_small", _figures()))[0].startswith("hit@10")


def test_an_expert_that_slept_is_compared_on_what_it_scored(accept):
    figures = _figures()
    figures["experts"] = {**figures["experts"], "recurrent": {"mark": _mark(0.5, 1.25, 0.02, events=40.0)}}
    assert _said(accept, figures, "mark NLL") == "holds"
    figures["experts"]["recurrent"]["mark"]["lead"] = -0.02
    assert _said(accept, figures, "mark NLL") == "falls short by 0.0200"


def test_what_was_not_scored_cannot_be_told(accept):
    figures = _figures(mixture={"mark": _mark(None, None), "time": _time(None)})
    assert _said(accept, figures, "accuracy") == "cannot be told: nothing was scored"
