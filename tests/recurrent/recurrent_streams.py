"""Streams of sets as batches, for the tests of the recurrent expert."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from streamrec.arrays import Floats, Ints
from streamrec.batch import N_LAST, Batch, MarkLists, gap_bucket
from streamrec.models.base import Context, Walk
from streamrec.models.recurrent import Recurrent
from streamrec.state.columns import Columns


class Stream(NamedTuple):
    """Sets in order of time; set i has the marks mark[start[i]:start[i+1]]."""

    row: Ints
    time: Floats
    start: Ints
    mark: Ints

    @property
    def n(self) -> int:
        return len(self.row)

    @staticmethod
    def of(row: Ints, time: Floats, mark: Ints) -> "Stream":
        order = np.lexsort((row, time))
        return Stream(row[order], time[order], np.arange(len(row) + 1), mark[order])


def hashes_of(n: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    return (np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(12345)


class Cutter:
    """Cuts a stream into batches; keeps what one cut must know of the earlier ones."""

    def __init__(self, stream: Stream, partitions: int = 1) -> None:
        self.stream, self.partitions = stream, partitions
        last = np.full(int(stream.row.max(initial=0)) + 1, -1)
        self.previous = np.empty(stream.n, np.int64)
        for i, row in enumerate(stream.row):
            self.previous[i], last[row] = last[row], i
        first = np.maximum.reduceat(stream.mark, stream.start[:-1]) if stream.n else np.empty(0, np.int64)
        self.known = np.maximum.accumulate(np.concatenate([[-1], first])) + 1

    def cut(self, a: int, b: int) -> Batch:
        """Sets a to b."""
        s = self.stream
        before = self.previous[a:b]
        dt = np.where(before >= 0, s.time[a:b] - s.time[np.maximum(before, 0)], np.nan)
        n = b - a
        none = np.full((n, N_LAST), -1, np.int32)
        zero = np.zeros(n, np.int32)
        return Batch(
            serial=a, row=s.row[a:b], partition=(s.row[a:b] % self.partitions).astype(np.int32),
            time=s.time[a:b], dt=dt, timed=dt > 0,
            start=s.start[a : b + 1] - s.start[a], mark=s.mark[s.start[a] : s.start[b]].astype(np.int32),
            n_known=self.known[a:b], previous=np.where(before >= a, before - a, -1),
            length=zero.astype(np.int64), before=none, after=none, gap=gap_bucket(dt), gap_before=zero,
            repeat_before=zero, repeat_after=zero, hashes=hashes_of(int(self.known[b])),
        )  # fmt: skip

    def cuts(self, size: int, until: int | None = None) -> Iterator[tuple[int, Batch]]:
        n = self.stream.n if until is None else until
        for a in range(0, n, size):
            yield a, self.cut(a, min(a + size, n))


def context(rows: int, seed: int = 0) -> Context:
    return Context("recurrent", Columns(rows, {}), n_backgrounds=2, seed=seed)


def poisson(users: int, events: int, seed: int, marks: int = 3, rate: float = 1.0) -> tuple[Stream, float]:
    """Homogeneous Poisson over a fixed span, about `events` a user; also the span in seconds."""
    random = np.random.default_rng(seed)
    span = events / rate
    counts = random.poisson(events, users)
    row = np.repeat(np.arange(users), counts)
    time = random.uniform(0, span, len(row))
    return Stream.of(row, time, _interned(random.integers(0, marks, len(row)), row, time)), span


def _interned(mark: Ints, row: Ints, time: Floats) -> Ints:
    order = np.lexsort((row, time))
    _, first, inverse = np.unique(mark[order], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    out = np.empty(len(mark), np.int64)
    out[order] = rank[inverse]
    return out


class Answers(NamedTuple):
    """What a model said over a stream: law parameters by set, and the walks."""

    issued: Floats
    arrival: Floats
    walks: list[Walk]


def run(model: Recurrent, stream: Stream, cut: int, partitions: int = 1, learn: bool = True) -> Answers:
    """Walk, and learn, a stream in cuts."""
    walks = []
    for _, batch in Cutter(stream, partitions).cuts(cut):
        walks.append(model.walk(batch))
        if learn:
            model.learn(batch)
    issued, arrival = (
        np.concatenate([w for walk in walks if (w := getattr(walk, name)) is not None])
        for name in ("wait_issued", "wait_arrival")
    )
    return Answers(issued, arrival, walks)


def dense_marks(lists: MarkLists, n: int) -> Floats:
    """Listed masses as a matrix, (F, n)."""
    out = np.zeros((len(lists.start) - 1, n))
    out[np.repeat(np.arange(len(out)), np.diff(lists.start)), lists.mark] = lists.p
    return out


def gains(
    model: Recurrent, stream: Stream, answers: Answers, params: Floats, rate: float
) -> tuple[Floats, Floats]:
    """ln(model / Poisson of `rate`) of every completed wait, by its last set, and of those open at the end.

    `params` are the rows of the law that each completed wait is scored with, by the set that ended it;
    open waits are scored with what was issued. NaN where a set ended no wait.
    """
    previous, law = Cutter(stream).previous, model.law
    ended = previous >= 0
    dt = np.where(ended, stream.time - stream.time[np.maximum(previous, 0)], 1.0)
    log_f = law.log_hazard(params, dt) + law.log_survival(params, dt)
    completed = np.where(ended, log_f - (np.log(rate) - rate * dt), np.nan)
    last = np.setdiff1d(np.arange(stream.n), previous)
    idle = stream.time[-1] - stream.time[last]
    left_open = np.full(stream.n, np.nan)
    left_open[last] = law.log_survival(answers.issued[last], idle) + rate * idle
    return completed, left_open


def scored_with_issued(stream: Stream, answers: Answers) -> Floats:
    """Rows of the law that were issued when the wait that each set ended began."""
    rows: Floats = answers.issued[np.maximum(Cutter(stream).previous, 0)]
    return rows
