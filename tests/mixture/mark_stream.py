"""Random streams of tie sets, cut into batches, with random lists that depend on the set alone."""

from typing import NamedTuple

import numpy as np

from streamrec.arrays import Ints
from streamrec.batch import N_LAST, Batch, MarkLists, gap_bucket
from streamrec.models.base import Walk


class Set(NamedTuple):
    row: int
    time: float
    marks: tuple[int, ...]  # raw marks


def random_stream(seed: int, n_sets: int, n_users: int = 5, n_raw: int = 12, ties: float = 0.3) -> list[Set]:
    """Users come and go at random; marks by a Zipf law that turns over half way."""
    rng = np.random.default_rng(seed)
    popularity = 1.0 / np.arange(1, n_raw + 1)
    stream, time = [], 1.7e9
    for s in range(n_sets):
        time += float(rng.choice([0.0, 5.0, 400.0, 1e5]) * rng.random())
        size = 1 + rng.binomial(3, ties)
        p = np.roll(popularity, n_raw // 2 if s > n_sets // 2 else 0)
        marks = sorted(rng.choice(n_raw, size, p=p / p.sum()).tolist())
        stream.append(Set(int(rng.integers(n_users)), time, tuple(marks)))
    return stream


def hash_of(raw: Ints) -> np.ndarray:
    """A fixed 64-bit hash of raw marks."""
    return (np.asarray(raw, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)


def interned(stream: list[Set]) -> dict[int, int]:
    """Ids in the order of first appearance."""
    ids: dict[int, int] = {}
    for one in stream:
        for mark in one.marks:
            ids.setdefault(mark, len(ids))
    return ids


def to_batches(stream: list[Set], cut: int) -> list[Batch]:
    """The stream as cuts of `cut` sets."""
    ids = interned(stream)
    known, history, batches = 0, {}, []
    for serial in range(0, len(stream), cut):
        part = stream[serial : serial + cut]
        columns: dict[str, list] = {name: [] for name in ("n_known", "length", "dt", "repeat", "after")}
        for one in part:
            length, last, repeat, had = history.get(one.row, (0, np.nan, 0, frozenset()))
            marks = [ids[m] for m in one.marks]
            again = 2 if set(marks) <= had else 1
            for name, value in zip(columns, (known, length, one.time - last, repeat, again), strict=True):
                columns[name].append(value)
            known = max(known, *(m + 1 for m in marks))
            history[one.row] = (length + 1, one.time, again, had | set(marks))
        batches.append(make_batch(serial, part, ids, known, columns))
    return batches


def make_batch(
    serial: int, part: list[Set], ids: dict[int, int], known: int, columns: dict[str, list]
) -> Batch:
    """One cut; what the mixture does not read is filled with constants."""
    s = len(part)
    raw = sorted(ids, key=ids.__getitem__)[:known]
    gap = gap_bucket(np.array(columns["dt"], np.float64))
    return Batch(
        serial=serial,
        row=np.array([one.row for one in part], np.int64),
        partition=np.zeros(s, np.int32),
        time=np.array([one.time for one in part]),
        dt=np.array(columns["dt"], np.float64),
        timed=np.ones(s, np.bool_),
        start=np.concatenate([[0], np.cumsum([len(one.marks) for one in part])]).astype(np.int64),
        mark=np.array([ids[m] for one in part for m in one.marks], np.int32),
        n_known=np.array(columns["n_known"], np.int64),
        previous=np.full(s, -1, np.int64),
        length=np.array(columns["length"], np.int64),
        before=np.full((s, N_LAST), -1, np.int32),
        after=np.full((s, N_LAST), -1, np.int32),
        gap=gap,
        gap_before=gap,
        repeat_before=np.array(columns["repeat"], np.int32),
        repeat_after=np.array(columns["after"], np.int32),
        hashes=hash_of(np.array(raw, np.int64)),
    )


def lists_of(batch: Batch, n_backgrounds: int, expert: int, issued: bool) -> MarkLists:
    """Random lists over the marks known before (or after) each set; a function of the set's serial number."""
    start, marks, masses, backgrounds = [0], [], [], []
    ends = [*batch.n_known[1:], batch.n_marks] if issued else batch.n_known
    for s, known in enumerate(ends):
        rng = np.random.default_rng((batch.serial + s, expert, issued))
        listed = rng.permutation(int(known))[: rng.integers(0, 7)]
        mass = rng.dirichlet(np.full(len(listed) + n_backgrounds, 0.3))
        marks.extend(listed.tolist())
        masses.extend(mass[: len(listed)].tolist())
        backgrounds.append(mass[len(listed) :])
        start.append(len(marks))
    return MarkLists(np.array(start), np.array(marks, np.int32), np.array(masses), np.array(backgrounds))


def walks_of(batch: Batch, n_backgrounds: int, experts: range) -> list[Walk]:
    """Walks of random experts."""
    return [
        Walk(lists_of(batch, n_backgrounds, x, issued=False), lists_of(batch, n_backgrounds, x, issued=True))
        for x in experts
    ]
