"""Events per second with one bad record in a hundred, beside the same events without: bytes in, nothing out.

    ratio = good events per processor second with the bad ones / without them        goal 0.8

Every small kind of the corpus comes in turns. Runs with and without alternate, so that what else the machine
does meanwhile falls on both.
"""

import json
from collections.abc import Sequence
from typing import Any

from machine import Clock, digits, machine, small_wanted, spread
from stream import chained, lane_of

from streamrec.event import Event
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource, encode_event
from streamrec.eventlog.poison import bad_kinds, poison
from streamrec.produce.faults import SMALL_BYTES
from streamrec.stream import Coded, Events, drive

EVERY = 100
"""Good events for each bad record."""

GOAL = 0.8


def mixed(events: Sequence[Event], every: int) -> list[bytes | None]:
    """The values of a topic: events, and after each `every` of them a bad one; none if `every` is 0."""
    kinds, out = bad_kinds(SMALL_BYTES, in_lines=False), list[bytes | None]()
    for n, event in enumerate(events, 1):
        out.append(encode_event(event))
        if every and n % every == 0:
            out.append(poison(kinds[n // every % len(kinds)], n))
    return out


def rate(values: Sequence[bytes | None], good: int, models: Sequence[str] | None) -> float:
    """Good events per processor second, from the bytes to the learned cut."""
    log = Events(Coded(MemorySource({("clicks", 0): values}), JsonCodec(FieldNames()), len(values)))
    lane, clock = lane_of(models), Clock()
    for _ in drive(log, lane):
        pass
    if lane.n_events != good:
        raise AssertionError(f"{lane.n_events} events were learned, {good} were sent")
    return good / clock.cpu


def compared(events: Sequence[Event], repeats: int, models: Sequence[str] | None) -> dict[str, Any]:
    """Rates with and without bad records, and their ratio run by run."""
    bad, clean = mixed(events, EVERY), mixed(events, 0)
    rate(clean[: len(clean) // 10], len(events) // 10, models)  # warm
    pairs = [(rate(bad, len(events), models), rate(clean, len(events), models)) for _ in range(repeats)]
    ratios = [one / other for one, other in pairs]
    return {
        "with_bad_per_cpu_second": spread([one for one, _ in pairs]),
        "clean_per_cpu_second": spread([other for _, other in pairs]),
        "ratio": spread(ratios),
        "goal": GOAL,
        "met": digits(sorted(ratios)[len(ratios) // 2]) >= GOAL,
    }


def main(small: bool = False) -> dict[str, Any]:
    """With two models, where reading weighs most, and with the default bank."""
    n, repeats = (2_000, 1) if small else (24_000, 5)
    events = chained(n, users=n // 40, marks=17)
    return {
        "bench": "poison",
        "events": n,
        "bad": n // EVERY,
        "two models": compared(events, repeats, ["gamma_poisson", "context_1"]),
        "default bank": compared(events, repeats, None),
        "machine": machine(),
    }


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
