"""One model with all that it stands on, and an odd stream for it: what the conformance list runs over.

`Stage` is the engine without mixture and boards: arena, vocabulary, history, risk queue and one model.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streamrec.arrays import Array, Floats, Ints
from streamrec.batch import Batch, MarkLists
from streamrec.event import TieSet
from streamrec.models.bank import DEFAULT_BANK, NAIVE
from streamrec.models.base import Context, Stateful, Walk, build
from streamrec.models.popularity import MEMBERS
from streamrec.state.arena import Arena
from streamrec.state.digest import learned_digest
from streamrec.state.history import History
from streamrec.state.snapshot import Snapshot, merge, restore_into, snapshot_of
from streamrec.state.vocabulary import Vocabulary
from streamrec.waiting.risk import RiskQueue

EVERY = sorted({*DEFAULT_BANK, *NAIVE})
TORCH = {"recurrent"}
COUNT = [name for name in EVERY if name not in TORCH]
B = len(MEMBERS)


class Answer(NamedTuple):
    """What a model said to one cut."""

    batch: Batch
    walk: Walk


class Stage:
    """A model on a stage of its own.

    Parameters
    ----------
    name : in the registry
    max_users, max_marks : caps; floors are a quarter of them
    """

    def __init__(self, name: str, max_users: int = 1000, max_marks: int = 1000, seed: int = 0) -> None:
        self.arena = Arena(max_users, max_users // 4)
        self.vocabulary = Vocabulary(max_marks, max_marks // 4)
        self.history = History(self.arena, self.vocabulary)
        self.risk = RiskQueue(self.arena)
        self.model = build(name, Context(name, self.arena, B, seed, self.risk))

    def components(self) -> Mapping[str, Stateful]:
        return {
            "arena": self.arena,
            "vocabulary": self.vocabulary,
            "history": self.history,
            "risk": self.risk,
            "model": self.model,
        }

    def digest(self) -> str:
        return learned_digest(self.components())

    def step(self, sets: Sequence[TieSet], learn: bool = True) -> Answer:
        """One cut, as the engine takes it."""
        batch = self.history.batch(sets)
        self.risk.advance(batch)
        walk = self.model.walk(batch)
        if learn:
            self.model.learn(batch)
        self._evict()
        return Answer(batch, walk)

    def run(self, sets: Sequence[TieSet], cut: int) -> list[Answer]:
        return [self.step(sets[a : a + cut]) for a in range(0, len(sets), cut)]

    def snapshot(self) -> Snapshot:
        return snapshot_of(self.components(), serial=self.history.serial)

    def load(self, *snapshots: Snapshot) -> None:
        merged = None
        for snapshot in snapshots:
            merged = merge(merged, snapshot)
        assert merged is not None
        restored = restore_into(self.components(), merged)
        assert restored.missing == restored.ignored == []

    def _evict(self) -> None:
        if self.arena.n_users > self.arena.max_users:
            self.risk.drop(self.arena.oldest())
            self.arena.evict()
        new_id = self.vocabulary.evict()
        if new_id is not None:
            self.history.remap_marks(new_id)
            self.model.remap_marks(new_id)


def odd_stream(seed: int, n_sets: int, n_users: int = 25, n_raw: int = 40) -> list[TieSet]:
    """Ties inside sets and between users, further sets, two partitions, users who come late, gaps of
    microseconds to years, new marks all along."""
    rng = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, n_raw + 1)
    last: dict[int, float] = {}
    sets, time = [], 1.7e9
    for i in range(n_sets):
        time += float(rng.choice([0.0, 1e-6, 1.0, 50.0, 4e3, 3e6], p=[0.3, 0.05, 0.3, 0.2, 0.14, 0.01]))
        reach = max(2, n_users * (i + n_sets // 4) // n_sets)
        user = int(rng.integers(reach))
        at = max(time - float(rng.choice([0.0, 30.0], p=[0.95, 0.05])), last.get(user, 0.0))
        further = last.get(user) == at
        size = int(rng.choice([1, 1, 1, 2, 5, 11]))
        shown = max(3, n_raw * (i + 10) // n_sets)
        p = weight[:shown] / weight[:shown].sum()
        marks = sorted(f"m{m:03d}" for m in rng.choice(min(shown, n_raw), size, p=p))
        sets.append(TieSet(f"u{user}", at, tuple(marks), partition=user % 2, offset=i, further=further))
        last[user] = at
    return sets


def swapped(sets: Sequence[TieSet]) -> list[TieSet]:
    """Neighbours of one time and of different users in the other order."""
    out, i = list(sets), 0
    while i + 1 < len(out):
        if out[i].time == out[i + 1].time and out[i].user != out[i + 1].user:
            out[i : i + 2] = out[i + 1], out[i]
            i += 1
        i += 1
    return out


def known_after(batch: Batch) -> Ints:
    """Marks known when each set's next forecast is issued."""
    top = [
        int(batch.mark[a:b].max(initial=-1)) + 1 for a, b in zip(batch.start, batch.start[1:], strict=False)
    ]
    known: Ints = np.maximum(batch.n_known, top)
    return known


def lists_of(answer: Answer) -> Iterator[tuple[MarkLists, Ints]]:
    """Both lists of an answer with the number of marks each forecast may know."""
    if answer.walk.marks_arrival is not None:
        yield answer.walk.marks_arrival, answer.batch.n_known
    if answer.walk.marks_issued is not None:
        yield answer.walk.marks_issued, known_after(answer.batch)


def rows_of(answers: Sequence[Answer]) -> list[dict[str, Array]]:
    """Everything said to every set, set by set, so that other cuts can be compared."""
    said: list[dict[str, Array]] = []
    for answer in answers:
        for s in range(answer.batch.n_sets):
            said.append(dict(_said(answer.walk, s)))
    return said


def _said(walk: Walk, s: int) -> Iterator[tuple[str, Array]]:
    for name in ("marks_arrival", "marks_issued"):
        lists = getattr(walk, name)
        if lists is not None:
            part = slice(lists.start[s], lists.start[s + 1])
            order = np.argsort(lists.mark[part], kind="stable")
            yield f"{name}.mark", lists.mark[part][order]
            yield f"{name}.p", lists.p[part][order]
            yield f"{name}.background", lists.background[s]
    for name in ("wait_issued", "wait_arrival"):
        params: Floats | None = getattr(walk, name)
        if params is not None:
            yield name, params[s]


def assert_same(
    one: Sequence[Mapping[str, Array]], other: Sequence[Mapping[str, Array]], rtol: float = 0.0
) -> None:
    """Both said the same to every set."""
    assert len(one) == len(other)
    for s, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a.keys() == b.keys()
        for name in a:
            if rtol == 0.0:
                np.testing.assert_array_equal(a[name], b[name], err_msg=f"{name} of set {s}")
            else:
                np.testing.assert_allclose(a[name], b[name], rtol, 1e-7, err_msg=f"{name} of set {s}")
