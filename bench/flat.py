"""Whether an event costs the same early and late: µs per event and memory, stretch by stretch.

    counts    every model of the default bank but the recurrent one, and the mixture: 10^6 events
    bank      everything: 3 · 10^5 events

Simulated users (100,000 and 30,000 of unequal activity), 100 marks. `late_over_early` is the median of the
last three stretches over that of the first three after event 10^4.
"""

import json
import resource
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from machine import Clock, digits, machine, small_wanted
from stream import chained, driven, lane_of

from streamrec.models.bank import DEFAULT_BANK

COUNTS = tuple(name for name in DEFAULT_BANK if name != "recurrent")
FIRST = 10_000


def stretches(models: Sequence[str] | None, events: int, users: int, size: int) -> dict[str, Any]:
    """Cost and memory of every stretch of `size` events; the first 10^4 events stand apart."""
    lane = lane_of(models)
    cost, wall, memory, first, done = [], [], [], 0, 0
    edge, clock = min(FIRST, size), Clock()
    for result in driven(lane, chained(events, users, marks=100)):
        done += len(result.batch.mark)
        if done >= edge:
            cost.append(digits(1e6 * clock.cpu / (done - first)))
            wall.append(digits(1e6 * clock.wall / (done - first)))
            memory.append(round(_resident_mb()))
            first, edge, clock = done, edge + size, Clock()
    steady = cost[1:] or cost
    return {
        "events": done,
        "users": lane.engine.arena.n_users,
        "stretch": size,
        "us_per_event_cpu": cost,
        "us_per_event_wall": wall,
        "resident_mb": memory,
        "late_over_early": digits(median(steady[-3:]) / median(steady[:3])),
    }


def main(small: bool = False) -> dict[str, Any]:
    """Both banks."""
    counts = stretches(COUNTS, *((2_000, 100, 500) if small else (10**6, 10**5, 10**5)))
    bank = stretches(None, *((1_500, 100, 500) if small else (3 * 10**5, 30_000, 5 * 10**4)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"bench": "flat", "counts": counts, "bank": bank, "peak_rss_mb": round(peak), "machine": machine()}


def _resident_mb() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
