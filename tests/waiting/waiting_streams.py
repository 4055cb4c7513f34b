"""Streams of timed sets for the waiting mixture, cut into batches of any size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamrec.arrays import Floats, Ints
from streamrec.batch import N_LAST, Batch
from streamrec.mixture.waiting import Named, WaitingMixture, WaitScores
from streamrec.models.base import Walk
from streamrec.state.columns import Columns
from streamrec.waiting.dictionary import Dictionary
from streamrec.waiting.exponential import Exponential
from streamrec.waiting.log_normal import LogNormalMixture
from streamrec.waiting.lomax import Lomax
from streamrec.waiting.piecewise_exponential import PiecewiseExponential

EXPERTS: list[Named] = [
    ("exponential", Exponential()),
    ("lomax", Lomax()),
    ("log_normal", LogNormalMixture(3)),
    ("dictionary", Dictionary(np.linspace(-3.0, 16.0, 20), 0.7)),
    ("piecewise", PiecewiseExponential(np.concatenate([[0.0], np.geomspace(0.1, 1e6, 32)]))),
    ("slow", Exponential()),
]
NAIVE: list[Named] = [("pooled", Exponential()), ("gamma", Lomax())]


@dataclass(frozen=True)
class Stream:
    """Sets in order of time and what every model answers at each: parameters issued and at arrival."""

    user: Ints
    time: Floats
    issued: list[Floats]
    arrival: list[Floats]

    def __len__(self) -> int:
        return len(self.user)

    def walks(self, sets: slice) -> list[Walk]:
        pairs = zip(self.issued, self.arrival, strict=True)
        return [Walk(wait_issued=issued[sets], wait_arrival=arrival[sets]) for issued, arrival in pairs]


def random_params(name: str, law_width: int, n: int, rng: np.random.Generator) -> Floats:
    """Plausible parameters for the laws in EXPERTS and NAIVE, (n, width)."""
    if law_width == 2:
        return np.column_stack([rng.lognormal(-4, 2, n), rng.uniform(0, 0.5, n)])
    if law_width == 3:
        return np.column_stack([rng.lognormal(0, 1, n), rng.lognormal(3, 1, n), rng.uniform(0, 0.3, n)])
    if name == "log_normal":
        parts = [rng.normal(0, 1, (n, 4)), rng.normal(3, 3, (n, 3)), rng.normal(0, 0.5, (n, 3))]
        return np.column_stack([*parts, rng.normal(-3, 1, n), rng.normal(-3, 1, n)])
    if name == "dictionary":
        return np.column_stack([rng.dirichlet(np.ones(law_width - 1), n), rng.uniform(0, 0.3, n)])
    return rng.lognormal(-4, 2, (n, law_width))


def random_stream(n: int, users: int, seed: int) -> Stream:
    """Sets of `users` users on a clock of one second, with random answers of every model."""
    rng = np.random.default_rng(seed)
    named = [*EXPERTS, *NAIVE]
    draw = [[random_params(name, law.width, n, rng) for name, law in named] for _ in range(2)]
    time = 1.7e9 + np.cumsum(np.ceil(rng.lognormal(0, 1.5, n)))
    return Stream(rng.integers(0, users, n), time, draw[0], draw[1])


class Sets(NamedTuple):
    """What a user's earlier sets say about each set."""

    dt: Floats
    earlier: Ints
    length: Ints


def sets_of(stream: Stream) -> Sets:
    """Gap, index of the user's previous set and number of sets before, for every set."""
    last: dict[int, int] = {}
    earlier = np.full(len(stream), -1)
    length = np.zeros(len(stream), np.int64)
    for s, user in enumerate(stream.user.tolist()):
        earlier[s] = last.get(user, -1)
        length[s] = length[earlier[s]] + 1 if earlier[s] >= 0 else 0
        last[user] = s
    dt = np.where(earlier >= 0, stream.time - stream.time[earlier], np.nan)
    return Sets(dt, earlier, length)


def batches(stream: Stream, cut: int) -> Iterator[tuple[Batch, list[Walk]]]:
    """The stream in cuts of `cut` sets, with the models' answers for each."""
    sets = sets_of(stream)
    for first in range(0, len(stream), cut):
        part = slice(first, min(first + cut, len(stream)))
        n = part.stop - first
        none = np.full((n, N_LAST), -1, np.int32)
        zero = np.zeros(n, np.int32)
        dt, earlier = sets.dt[part], sets.earlier[part]
        yield (
            Batch(
                serial=first,
                row=stream.user[part],
                partition=zero,
                time=stream.time[part],
                dt=dt,
                timed=dt > 0,
                start=np.arange(n + 1),
                mark=zero,
                n_known=np.ones(n, np.int64),
                previous=np.where(earlier >= first, earlier - first, -1),
                length=sets.length[part],
                before=none,
                after=none,
                gap=zero,
                gap_before=zero,
                repeat_before=zero,
                repeat_after=zero,
                hashes=np.zeros(1, np.uint64),
            ),
            stream.walks(part),
        )


def run(mixture: WaitingMixture, stream: Stream, cut: int) -> list[WaitScores]:
    """Step through the whole stream."""
    return [mixture.step(batch, walks) for batch, walks in batches(stream, cut)]


def fresh(users: int, experts: Sequence[Named] = EXPERTS, naive: Sequence[Named] = NAIVE) -> WaitingMixture:
    """A mixture with room for that many users."""
    return WaitingMixture(Columns(users, {}), experts, naive)
