"""Tables of docs/results.md out of the figures of evaluations."""

import math
from collections.abc import Mapping, Sequence

from accept import Figures, best_naive, best_single, numbers, rate

OPEN = "log_likelihood_open"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    Examples
    --------
    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def work_table(found: Mapping[str, Figures]) -> str:
    """Marks: the mixture, the best single model and the best naive rule of every set."""
    head = ["set", "events", "users", "marks", "accuracy", "hit@10", "MRR@10", "NLL"]
    head += ["best single model, NLL", "best naive rule, accuracy", "best naive rule, NLL"]
    return table(head, [_work_row(name, figures) for name, figures in found.items()])


def _work_row(name: str, figures: Figures) -> list[str]:
    counts = [f"{figures[key]:,}" for key in ("events", "users", "marks")]
    scores = [
        shown(numbers(figures, "mixture", "mark", key)) for key in ("accuracy", "hit@10", "mrr@10", "nll")
    ]
    single = best_single(figures, "mark", "nll", -1.0)
    naive = best_naive(figures, "accuracy"), best_naive(figures, "nll", -1.0)
    scored = numbers(figures, "experts", single[0], "mark", "events")
    asleep = scored < numbers(figures, "mixture", "mark", "events")
    note = " (asleep at times)" if asleep else ""
    return [name, *counts, *scores, named(*single) + note, *(named(*best) for best in naive)]


def time_table(found: Mapping[str, Figures]) -> str:
    """Waiting times, speed and memory of every set."""
    head = ["set", "clock", "open, mixture", "open, best single model", "open, gamma-Poisson"]
    head += ["coverage90", "pit KS", "events/s (processor)", "events/s (wall)", "peak RSS, MiB"]
    return table(head, [_time_row(name, figures) for name, figures in found.items()])


def _time_row(name: str, figures: Figures) -> list[str]:
    mine = [shown(numbers(figures, "mixture", "time", key)) for key in (OPEN, "coverage90", "pit_ks")]
    single = named(*best_single(figures, "time", OPEN, 1.0))
    rule = shown(numbers(figures, "naive", "gamma_poisson", "time", OPEN))
    cost = [f"{x:,.0f}" for x in (rate(figures), figures["events_per_second"], figures["peak_rss_mb"])]
    return [name, figures["clock"], mine[0], single, rule, *mine[1:], *cost]


def movielens_table(figures: Figures) -> str:
    """The mixture and everything beside it, experts from best to worst."""
    experts = sorted(figures["experts"].items(), key=lambda e: numbers(e[1], "mark", "nll"))
    marks = [(n, f) for n, f in experts if "mark" in f] + [(n, f) for n, f in experts if "mark" not in f]
    rows = [("mixture", "", figures["mixture"])]
    rows += [(n, "", f) for n, f in marks if not n.startswith("pop_")]
    rows += [(n, "naive", f) for n, f in figures["naive"].items()]
    head = [
        "forecaster",
        "",
        "hit@10",
        "MRR@10",
        "accuracy",
        "NLL",
        "mixture ahead by",
        "NLL of new marks",
        "events",
        "open",
    ]
    return table(head, [[name, kind, *_scores(f)] for name, kind, f in rows])


def _scores(figures: Figures) -> list[str]:
    keys = ("hit@10", "mrr@10", "accuracy", "nll", "lead", "nll_new")
    marks = [shown(numbers(figures, "mark", key)) for key in keys]
    n = numbers(figures, "mark", "events")
    return [*marks, "" if math.isnan(n) else f"{n:,.0f}", shown(numbers(figures, "time", OPEN))]


def shown(x: float) -> str:
    """Four places; nothing for what cannot be given."""
    return "" if math.isnan(x) else f"{x:.4f}"


def named(name: str, value: float) -> str:
    """A figure with whose it is."""
    return f"{shown(value)} ({name})"
