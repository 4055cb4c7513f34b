"""The acceptance lines, computed from the figures of an evaluation.

    accuracy (hit@10 where users never repeat a mark)   mixture >= best naive rule − 0.001
    mark NLL                                            mixture < every single model
    log_likelihood_open, real clocks                    mixture > gamma-Poisson, >= best single − 0.01
    speed, K <= 100 and MovieLens-100K                  >= 5,000 and 3,000 events per processor second
    memory                                              < 1.5 GB

An expert that slept scored fewer events than the mixture; `lead`, by which marks are judged, is the
mixture's on the events that the expert scored.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Figures = dict[str, Any]

LAYERS = ("soft_bayes",)
"""Mixing layers; they may stand among the experts and are no single models."""

BY_HITS = ("movielens_small",)
FAST = {"movielens-100k": 3000.0}
FAST_MARKS, FAST_EVENTS = 100, 5000.0
MOST_MB = 1430.0
"""1.5 GB in MiB."""


def verdicts(name: str, figures: Figures) -> Iterator[tuple[str, str]]:
    """Every line that concerns this set, and what became of it."""
    key = "hit@10" if name in BY_HITS else "accuracy"
    rule, best = best_naive(figures, key)
    mine = numbers(figures, "mixture", "mark", key)
    yield f"{key} >= best naive rule ({rule}) − 0.001", at_least(mine, best - 0.001)
    yield from _nll(figures)
    if figures["clock"] != "relative":
        yield from _open(figures)
    wanted = FAST.get(name, FAST_EVENTS if figures["marks"] <= FAST_MARKS else None)
    if wanted is not None:
        yield f"{wanted:,.0f} events per processor second", at_least(rate(figures), wanted, 0)
    yield "memory < 1.5 GB (1,430 MiB)", at_least(-figures["peak_rss_mb"], -MOST_MB, 0)


def at_least(value: float, limit: float, places: int = 4) -> str:
    """Whether a value reaches a limit, and by how much it does not.

    Examples
    --------
    >>> at_least(0.62, 0.6), at_least(0.5, 0.6)
    ('holds', 'falls short by 0.1000')
    """
    if math.isnan(value + limit):
        return "cannot be told: nothing was scored"
    return "holds" if value >= limit else f"falls short by {limit - value:,.{places}f}"


def rate(figures: Figures) -> float:
    """Events per second of processor time."""
    return float(figures["events"] / figures["cpu_seconds"])


def singles(figures: Figures, part: str) -> dict[str, Figures]:
    """Experts that forecast `part` ("mark" or "time"), mixing layers left out."""
    experts = figures["experts"].items()
    return {name: f[part] for name, f in experts if name not in LAYERS and part in f}


def best_single(figures: Figures, part: str, key: str, sign: float) -> tuple[str, float]:
    """Best of the single models by `key`; sign 1 where more is better."""
    return _best({n: f.get(key) for n, f in singles(figures, part).items()}, sign)


def best_naive(figures: Figures, key: str, sign: float = 1.0) -> tuple[str, float]:
    """Best naive rule for marks."""
    return _best({n: f["mark"].get(key) for n, f in figures["naive"].items() if "mark" in f}, sign)


def _best(known: Mapping[str, float | None], sign: float) -> tuple[str, float]:
    told = {name: value for name, value in known.items() if value is not None}
    name = max(told, key=lambda n: sign * told[n], default="none")
    return name, told.get(name, float("nan"))


def _nll(figures: Figures) -> Iterator[tuple[str, str]]:
    """The least lead over a single model, each on the very events that it scored."""
    leads = {name: one.get("lead") for name, one in singles(figures, "mark").items()}
    nearest, lead = _best(leads, -1.0)
    yield f"mark NLL below every single model's (the nearest: {nearest})", below(-lead, 0.0)


def below(value: float, limit: float) -> str:
    """Whether a value is strictly below a limit."""
    if math.isnan(value + limit):
        return "cannot be told: nothing was scored"
    return "holds" if value < limit else f"falls short by {abs(value - limit):.4f}"


def _open(figures: Figures) -> Iterator[tuple[str, str]]:
    key = "log_likelihood_open"
    mine = numbers(figures, "mixture", "time", key)
    rule = numbers(figures, "naive", "gamma_poisson", "time", key)
    yield f"{key} above gamma-Poisson's", below(-mine, -rule)
    name, best = best_single(figures, "time", key, 1.0)
    yield f"{key} >= best single model's ({name}) − 0.01", at_least(mine, best - 0.01)
    yield f"goal: {key} above the best single model's ({name})", below(-mine, -best)


def numbers(figures: Mapping[str, Any], *path: str) -> float:
    """A figure by its path; NaN where it cannot be given."""
    value: Any = figures
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float("nan") if value is None else float(value)
