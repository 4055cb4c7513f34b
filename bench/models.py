"""Cost of every part of the default bank: µs of processor time per event, cuts of 128, one thread.

    models   walk + learn of each registered model
    parts    history, risk queue, both mixtures, score boards; `rest` is decoding, order and cuts

Medians and ranges over blocks of cuts, after a warm-up.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from machine import Clock, digits, machine, small_wanted, spread
from stream import chained, driven, lane_of

from streamrec.lane import Lane

MARKS = (17, 100, 1682)
BLOCK = 10


class Meter:
    """Processor seconds by name since the last `take`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Let calls of a method be timed."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any) -> Any:
            begin = time.process_time()
            answer = inner(*arguments)
            self.seconds[name] += time.process_time() - begin
            return answer

        setattr(owner, method, timed)

    def take(self) -> dict[str, float]:
        """What was gathered; starts anew."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


def metered(lane: Lane) -> Meter:
    """Time all parts of a lane's engine."""
    meter, engine = Meter(), lane.engine
    for name, model in engine.models.items():
        meter.wrap(model, "walk", name)
        meter.wrap(model, "learn", name)
    for part, method in (("history", "batch"), ("risk", "advance"), ("waits", "step"), ("marks", "walk")):
        meter.wrap(getattr(engine, part), method, f"[{part}]")
    meter.wrap(engine.boards, "add", "[boards]")
    return meter


def costs(marks: int, events: int, warmup: int) -> dict[str, Any]:
    """µs per event of every part with that many marks."""
    lane = lane_of()
    meter, blocks = metered(lane), defaultdict[str, list[float]](list)
    done = cuts = first = 0
    clock = Clock()
    for result in driven(lane, chained(events, users=max(events // 40, 5), marks=marks)):
        done, cuts = done + len(result.batch.mark), cuts + 1
        if cuts % BLOCK:
            continue
        total, parts, n = clock.cpu, meter.take(), done - first
        clock, first = Clock(), done
        if done > warmup:
            for name, seconds in {**parts, "[rest]": total - sum(parts.values()), "[all]": total}.items():
                blocks[name].append(1e6 * seconds / n)
    table = {name: spread(values) for name, values in blocks.items()}
    dearest = sorted(table, key=lambda name: -table[name]["median"])
    return {
        "events": done,
        "blocks": len(blocks["[all]"]),
        "events_per_cpu_second": digits(1e6 / table["[all]"]["median"]),
        "us_per_event": {name: table[name] for name in dearest},
    }


def main(small: bool = False) -> dict[str, Any]:
    """Figures for each number of marks."""
    events, warmup = (4000, 1000) if small else (24_000, 8_000)
    by_marks = {str(k): costs(k, events, warmup) for k in (MARKS[:1] if small else MARKS)}
    return {"bench": "models", "cut": 128, **by_marks, "machine": machine()}


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
