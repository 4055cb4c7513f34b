"""Streams of single-mark sets as batches, cut as one likes, and the exposure counted by hand."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from streamrec.arrays import Array, Floats, Ints
from streamrec.batch import N_LAST, Batch, gap_bucket
from streamrec.models.base import Context
from streamrec.state.columns import Columns
from streamrec.waiting.risk import EDGES, N_BINS, RiskQueue


class Stream(NamedTuple):
    """Sets in the order of processing, (S,) each; `further` sets share the time of the one before."""

    row: Ints
    partition: Ints
    time: Floats
    mark: Ints


def batches(stream: Stream, cut: int) -> Iterator[Batch]:
    """The stream in cuts of `cut` sets."""
    n = len(stream.row)
    last: dict[int, int] = {}
    previous = np.full(n, -1)
    length = np.zeros(n, np.int64)
    for s, row in enumerate(stream.row.tolist()):
        previous[s] = last.get(row, -1)
        length[s] = length[previous[s]] + 1 if row in last else 0
        last[row] = s
    dt = np.where(previous >= 0, stream.time - stream.time[previous], np.nan)
    for a in range(0, n, cut):
        yield _batch(stream, slice(a, min(a + cut, n)), dt, previous, length)


def _batch(stream: Stream, part: slice, dt: Floats, previous: Ints, length: Ints) -> Batch:
    n = part.stop - part.start
    after = np.full((n, N_LAST), -1, np.int32)
    after[:, 0] = stream.mark[part]
    zeros = np.zeros(n, np.int32)
    return Batch(
        serial=part.start,
        row=stream.row[part],
        partition=stream.partition[part].astype(np.int32),
        time=stream.time[part],
        dt=dt[part],
        timed=~np.isnan(dt[part]) & (dt[part] > 0),
        start=np.arange(n + 1),
        mark=stream.mark[part].astype(np.int32),
        n_known=np.full(n, 64),
        previous=np.maximum(previous[part] - part.start, -1),
        length=length[part],
        before=np.full((n, N_LAST), -1, np.int32),
        after=after,
        gap=gap_bucket(dt[part]),
        gap_before=zeros,
        repeat_before=zeros,
        repeat_after=zeros,
        hashes=np.arange(64, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(77),
    )


def new_queue(users: int = 64, max_idle_s: float = np.inf) -> RiskQueue:
    """A queue over an arena of plain rows."""
    return RiskQueue(Columns(users, {}), max_idle_s)


def new_context(users: int = 64, seed: int = 0, max_idle_s: float = np.inf) -> Context:
    """What a model is built with."""
    queue = new_queue(users, max_idle_s)
    return Context("m", queue.arena, 0, seed, queue)


def counted_by_hand(stream: Stream, contexts: Ints, max_idle_s: float = np.inf) -> tuple[Array, Floats]:
    """Events (C, bins) and person-seconds (C, bins) of every context at the end, by one loop over sets."""
    n_contexts = int(contexts.max()) + 1
    events = np.zeros((n_contexts, N_BINS), np.int64)
    exposure = np.zeros((n_contexts, N_BINS))
    edges = np.concatenate([[0.0], EDGES, [np.inf]])
    clocks: dict[int, float] = {}
    last: dict[int, int] = {}

    def charge(s: int, until: float) -> None:
        waited = min(until - stream.time[s], max_idle_s)
        exposure[contexts[s]] += np.maximum(np.minimum(edges[1:], waited) - edges[:-1], 0.0)

    for s, (row, p, t) in enumerate(
        zip(stream.row.tolist(), stream.partition.tolist(), stream.time, strict=True)
    ):
        clocks[p] = max(clocks.get(p, -np.inf), t)
        if row in last:
            before = last[row]
            charge(before, t)
            gap = t - stream.time[before]
            if gap > 0 and t < stream.time[before] + max_idle_s:
                events[contexts[before], np.sum(stream.time[before] + EDGES <= t)] += 1
        last[row] = s
    for s in last.values():
        charge(s, clocks[int(stream.partition[s])])
    return events, exposure


def poisson_stream(rng: Any, users: int, rate: Floats, horizon: float) -> Stream:
    """Users (rates per second) from their first event on to the horizon, merged in order of time."""
    rows, times = [], []
    for u in range(users):
        t = np.cumsum(rng.exponential(1.0 / rate[u], int(rate[u] * horizon * 2) + 50))
        t = t[t < horizon]
        rows.append(np.full(len(t), u))
        times.append(t)
    return in_order(np.concatenate(rows), np.concatenate(times))


def head(stream: Stream, n: int) -> Stream:
    """The first n sets."""
    return Stream(stream.row[:n], stream.partition[:n], stream.time[:n], stream.mark[:n])


def in_order(row: Ints, time: Floats, mark: Ints | None = None) -> Stream:
    """One partition, sorted by time."""
    order = np.argsort(time, kind="stable")
    marks = np.zeros(len(row), np.int64) if mark is None else mark
    return Stream(row[order].astype(np.int64), np.zeros(len(row), np.int64), time[order], marks[order])


def walk_all(model: Any, stream: Stream, cut: int, start: int = 0) -> tuple[Floats, Floats]:
    """Arrival and issued parameters of all sets from `start` on, (S - start, width) each."""
    walks = []
    for batch in batches(stream, cut):
        if batch.serial >= start:
            model.risk.advance(batch)
            walks.append(model.walk(batch))
    return np.concatenate([w.wait_arrival for w in walks]), np.concatenate([w.wait_issued for w in walks])


def reloaded(model: Any, make: Any, users: int = 64, seed: int = 0) -> Any:
    """A fresh model that takes over rows, tables and scalars, as a restart would."""
    fresh = make(new_context(users, seed))
    for old, new in ((model.risk, fresh.risk), (model, fresh)):
        new.load_scalars({name: array.copy() for name, array in old.scalars().items()})
    pairs = [(model.risk.arena, fresh.risk.arena)]
    pairs += [(table, fresh.tables()[name]) for name, table in model.tables().items()]
    for old_rows, new_rows in pairs:
        new_rows.put(*old_rows.take_touched())
    return fresh


def score_against(law: Any, params: Floats, oracle: Any, truth: Floats, stream: Stream) -> Floats:
    """Σ ln p_model - ln p_oracle of every issued wait, ended by the user's next set or open at the end."""
    following = np.full(len(stream.row), -1)
    last: dict[int, int] = {}
    for s, row in enumerate(stream.row.tolist()):
        if row in last:
            following[last[row]] = s
        last[row] = s
    ended = following >= 0
    wait = np.where(ended, stream.time[following], stream.time.max()) - stream.time

    def log_p(family: Any, p: Floats) -> Floats:
        hazard = np.where(ended, family.log_hazard(p, wait), 0.0)
        return np.asarray(hazard + family.log_survival(p, wait))

    return log_p(law, params) - log_p(oracle, truth)
