"""Batches out of plain lists of (user, time, marks), for tests of mark models.

The history columns are computed here in plain Python from the definitions in `Batch`, one set after the
other. Users get rows and marks get ids in order of first appearance.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from streamrec.arrays import Array, Floats
from streamrec.batch import N_LAST, Batch, MarkLists, gap_bucket

Happening = tuple[str, float, Sequence[str]]


@dataclass
class History:
    """What a user did so far."""

    row: int
    time: float = math.nan
    gap: int = -1
    last: list[int] = field(default_factory=lambda: [-1] * N_LAST)
    seen: set[int] = field(default_factory=set)
    repeat: int = 0
    length: int = 0


@dataclass
class Streams:
    """Users and marks met so far; `batches` may be called again to go on."""

    users: dict[str, History] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    serial: int = 0

    def batches(self, happenings: Sequence[Happening], cut: int) -> Iterator[Batch]:
        """One batch per `cut` sets."""
        for first in range(0, len(happenings), cut):
            yield self.batch(happenings[first : first + cut])

    def batch(self, happenings: Sequence[Happening]) -> Batch:
        """All sets in one batch."""
        lines: list[dict[str, Any]] = []
        start, mark = [0], list[int]()
        latest: dict[str, int] = {}
        for s, (name, time, marks) in enumerate(happenings):
            user = self.users.setdefault(name, History(row=len(self.users)))
            line, ids = self._set(user, time, marks)
            lines.append(line | {"previous": latest.get(name, -1)})
            latest[name] = s
            mark.extend(ids)
            start.append(len(mark))
        batch = self._batch(lines, start, mark)
        self.serial += len(happenings)
        return batch

    def _set(self, user: History, time: float, marks: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
        line: dict[str, Any] = {
            "row": user.row,
            "time": time,
            "length": user.length,
            "n_known": len(self.marks),
        }
        ids = [self.marks.setdefault(m, len(self.marks)) for m in sorted(marks, key=str.encode)]
        dt = time - user.time
        line |= {"dt": dt, "timed": dt > 0, "gap": int(gap_bucket(np.array([dt]))[0]), "gap_before": user.gap}
        line |= {"before": user.last, "repeat_before": user.repeat}
        user.repeat = 2 if set(ids) <= user.seen else 1
        user.last = [*reversed(ids), *user.last][:N_LAST]
        user.seen |= set(ids)
        user.time, user.gap, user.length = time, line["gap"], user.length + 1
        return line | {"after": user.last, "repeat_after": user.repeat}, ids

    def _batch(self, lines: list[dict[str, Any]], start: list[int], mark: list[int]) -> Batch:
        def column(name: str, dtype: Any) -> Array:
            return np.array([line[name] for line in lines], dtype)

        return Batch(
            serial=self.serial,
            row=column("row", np.int64),
            partition=np.zeros(len(lines), np.int32),
            time=column("time", np.float64),
            dt=column("dt", np.float64),
            timed=column("timed", np.bool_),
            start=np.array(start, np.int64),
            mark=np.array(mark, np.int32),
            n_known=column("n_known", np.int64),
            previous=column("previous", np.int64),
            length=column("length", np.int64),
            before=column("before", np.int32),
            after=column("after", np.int32),
            gap=column("gap", np.int32),
            gap_before=column("gap_before", np.int32),
            repeat_before=column("repeat_before", np.int32),
            repeat_after=column("repeat_after", np.int32),
            hashes=np.array([hash_of(m) for m in self.marks], np.uint64),
        )


def hash_of(mark: str) -> int:
    """64-bit hash of a mark's raw bytes."""
    return int.from_bytes(blake2b(mark.encode(), digest_size=8).digest(), "little")


def random_stream(seed: int, n: int = 300, users: int = 7, marks: int = 12) -> list[Happening]:
    """Sets of one to three marks; every third set repeats what the user did before."""
    rng = np.random.default_rng(seed)
    happenings: list[Happening] = []
    last: dict[int, list[str]] = {}
    time = np.cumsum(rng.exponential(60.0, n))
    for i in range(n):
        user = int(rng.integers(users))
        fresh = [f"m{min(int(rng.geometric(0.2)), marks)}" for _ in range(int(rng.choice([1, 1, 1, 2, 3])))]
        last[user] = last.get(user, fresh) if rng.random() < 0.3 else fresh
        happenings.append((f"u{user}", float(time[i]), last[user]))
    return happenings


def as_dict(lists: MarkLists, f: int) -> tuple[dict[int, float], Floats]:
    """Forecast f as masses by mark, and its masses on the backgrounds."""
    at = slice(int(lists.start[f]), int(lists.start[f + 1]))
    marks, p = lists.mark[at].tolist(), lists.p[at].tolist()
    assert len(set(marks)) == len(marks), "a mark is listed twice"
    return dict(zip(marks, p, strict=True)), lists.background[f]
