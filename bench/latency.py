"""One event in, forecast out, K = 100 marks: the default bank, and the recurrent expert alone.

    bank        Processor.step([event]): order, a cut of its own, all models, mixtures, learning, a Forecast
    recurrent   Recurrent.walk + top 10 + learn on a cut of one event; without order, mixture and record

The set of an event closes when the next event comes, so a step answers for the event before it.
"""

import json
from itertools import pairwise
from typing import Any

import numpy as np
from machine import Clock, digits, machine, small_wanted
from neural import Ours
from stream import chained

from streamrec import Processor
from streamrec.event import Event

MARKS = 100


def bank(events: list[Event], warmup: int) -> tuple[list[float], list[float]]:
    """µs per step, processor and wall, after a warm-up in larger steps."""
    processor = Processor()
    processor.step(events[:warmup])
    cpu, wall = [], []
    for event in events[warmup:]:
        clock = Clock()
        forecasts = processor.step([event])
        cpu.append(1e6 * clock.cpu)
        wall.append(1e6 * clock.wall)
        assert forecasts, "a step closes the set of the event before it"
    return cpu, wall


def recurrent(events: list[Event], warmup: int) -> tuple[list[float], list[float]]:
    """The same for the neural expert alone."""
    ours = Ours()
    ours.take(events[:warmup])
    cpu, wall = [], []
    for event in events[warmup:]:
        clock = Clock()
        ours.take([event])
        cpu.append(1e6 * clock.cpu)
        wall.append(1e6 * clock.wall)
    return cpu, wall


def main(small: bool = False) -> dict[str, Any]:
    """Quantiles of both."""
    warmup, n = (256, 20) if small else (10_000, 2_000)
    events = _apart(chained(warmup + n, users=500, marks=MARKS))
    sides = {"default_bank": bank(events, warmup), "recurrent_alone": recurrent(events, warmup)}
    return {
        "bench": "latency",
        "marks": MARKS,
        "events": len(events) - warmup,
        **{name: {"cpu_us": _quantiles(c), "wall_us": _quantiles(w)} for name, (c, w) in sides.items()},
        "machine": machine(),
    }


def _apart(events: list[Event]) -> list[Event]:
    """Without the few events that share their second with the one before: these close no set."""
    pairs = pairwise(events)
    return events[:1] + [event for before, event in pairs if event.time > before.time]


def _quantiles(values: list[float]) -> dict[str, float]:
    return {name: digits(float(np.quantile(values, q))) for name, q in (("p50", 0.5), ("p99", 0.99))}


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
