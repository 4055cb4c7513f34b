"""Simulated events for the benchmarks, and a lane or a bare model that they are driven through."""

from collections.abc import Iterator, Sequence

import numpy as np

from streamrec.arrays import Floats, Ints
from streamrec.event import Event, TieSet
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.processor import CutResult
from streamrec.settings import ModelsSettings, Settings
from streamrec.simulate import Hawkes, Simulation, simulate
from streamrec.stream import Coded, Events, drive

CUT = 128


def chained(events: int, users: int, marks: int, seed: int = 0) -> list[Event]:
    """Users of unequal activity, marks that follow a chain: user i takes a share ~ 1/sqrt(i).

    Made in one piece, so that a million events take seconds; times are those of one Poisson process, to
    the second.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    share = np.arange(1, users + 1) ** -0.5
    user = rng.choice(users, size=events, p=share / share.sum())
    time = np.floor(np.cumsum(rng.exponential(60.0, events)))
    step, fresh = rng.integers(1, 4, events), rng.random(events) < 0.3
    popular = np.minimum(rng.zipf(1.3, events) - 1, marks - 1)
    mark, last = np.empty(events, np.int64), np.zeros(users, np.int64)
    for i, u in enumerate(user.tolist()):
        mark[i] = popular[i] if fresh[i] else (last[u] * 7 + step[i]) % marks
        last[u] = mark[i]
    return as_events(user, mark, time)


def hawkes(events: int, users: int, marks: int, entry_s: float, seed: int = 0) -> Simulation:
    """Self-exciting users with gaps of minutes to hours; they enter over `entry_s` seconds."""
    process = Hawkes(rate=1 / 3600, branching=0.75, decay=1 / 300, marks=marks, seed=seed)
    return simulate(process, events=events, users=users, seed=seed, entry_s=entry_s)


def as_events(user: Ints, mark: Ints, time: Floats) -> list[Event]:
    """Events out of numbers."""
    rows = zip(user.tolist(), mark.tolist(), time.tolist(), strict=True)
    return [Event(f"u{u}", f"m{m}", float(t)) for u, m, t in rows]


def lane_of(models: Sequence[str] | None = None) -> Lane:
    """A lane without a folder; None stands for the default bank."""
    enabled = None if models is None else tuple(models)
    return Lane(Settings(models=ModelsSettings(enabled=enabled)), Outputs())


def driven(lane: Lane, events: Sequence[Event]) -> Iterator[CutResult]:
    """The results of every cut, decoding included."""
    log = Coded(MemorySource.of_events(events), JsonCodec(FieldNames()), len(events))
    return drive(Events(log), lane)


def sets_of(events: Sequence[Event]) -> list[TieSet]:
    """One set for each event; for streams without ties."""
    return [TieSet(e.user, e.time, (e.mark,), offset=i) for i, e in enumerate(events)]


def cuts(sets: Sequence[TieSet], size: int = CUT) -> Iterator[Sequence[TieSet]]:
    """Pieces of at most `size` sets."""
    for first in range(0, len(sets), size):
        yield sets[first : first + size]
