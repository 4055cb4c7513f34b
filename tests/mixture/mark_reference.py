"""The mark mixture once more, slow and dense: vectors over all known marks, plain loops and dicts."""

from typing import Any

import numpy as np

from streamrec.batch import Batch, MarkLists
from streamrec.models.base import Walk
from streamrec.models.popularity import MEMBERS

LN = np.log


def bucket(length: int) -> int:
    return min(9, int(np.floor(np.log2(length + 1))))


class Reference:
    """Scores a stream set by set; `tests/mixture/test_marks.py` compares the kernels with it."""

    def __init__(self, n_lists: int, n_naive: int) -> None:
        self.n_lists, self.n_naive = n_lists, n_naive
        self.b = len(MEMBERS)
        self.n = self.b + 1 + n_lists
        self.count = np.zeros((self.b, 0))
        self.v = np.full(self.b, 1 / self.b)
        self.events, self.time = 0, 0.0
        self.seen: dict[int, dict[int, int]] = {}
        self.gate = np.zeros((31, 2))
        self.trust = np.zeros((10, self.n))
        self.escape = np.zeros((3, 11, 2))
        self.escape_w, self.ever = np.full(3, 1 / 3), 0
        self.levels: list[dict[Any, list]] = [{}, {}, {}]
        self.outer = np.full(self.n + 1, 1 / (self.n + 1))
        self.frozen: dict[int, dict[str, Any]] = {}

    def backgrounds(self, n: int) -> np.ndarray:
        c = np.concatenate([self.count, np.zeros((self.b, n - self.count.shape[1]))], axis=1)
        b0 = (c[0] + 0.5) / (c[0].sum() + 0.5 * n)
        rest = [(c[j] + b0) / (c[j].sum() + 1) for j in range(1, self.b)]
        rows = np.array([b0, *rest])
        return np.vstack([rows, self.v @ rows])

    def experts(self, lists: list[MarkLists], s: int, n: int, row: int, context: int) -> np.ndarray:
        """Gated distributions of all experts over the n known marks, (A, n)."""
        b = self.backgrounds(n)
        dense = list(b)
        for x, one in enumerate(lists):
            p = one.background[s] @ b
            for i in range(one.start[s], one.start[s + 1]):
                p[one.mark[i]] += one.p[i]
            dense.append((1 - 1e-6) * p + 1e-6 * b[-1] if x < self.n_lists else p)
        seen = np.zeros(n, bool)
        seen[list(self.seen.get(row, {}))] = True
        everywhere = (self.gate[-1, 0] + 0.5) / (self.gate[-1, 1] + 1)
        rho = (self.gate[context, 0] + 2 * everywhere) / (self.gate[context, 1] + 2)
        rho = 0.0 if not seen.any() else 1.0 if seen.all() else rho
        self.gated = np.ones((self.n, 2))  # on unseen, on seen marks
        for k, p in enumerate(dense[: self.n]):
            sides = [(1, seen, rho), (0, ~seen, 1 - rho)]
            for u, side, mass in sides:
                self.gated[k, u] = mass / p[side].sum() if side.any() else 1.0
            v = 1 / (1 + np.exp(-self.trust[context // 3, k]))
            for u, side, _ in sides:
                p[side] *= v * self.gated[k, u] + 1 - v
        return np.array(dense)

    def p_new(self, length: int, n: int) -> float:
        return 1.0 if n == 0 else float(self.escape_w @ self.escape_by_rate(length))

    def escape_by_rate(self, length: int) -> np.ndarray:
        new, every = self.escape[:, bucket(length)].T
        shared = (self.escape[:, -1, 0] + 0.5) / (self.escape[:, -1, 1] + 1)
        return (new + 4 * shared) / (every + 4)

    def soft(self, keys: tuple) -> np.ndarray:
        w = np.full(self.n, 1 / self.n)
        for level, key in zip(self.levels, keys, strict=False):
            if key in level:
                own, times = level[key]
                share = 1.0 if level is self.levels[0] else times / (times + 300)
                w = share * own + (1 - share) * w
        return w

    def learn_soft(self, keys: tuple, p: np.ndarray) -> None:
        parent = np.full(self.n, 1 / self.n)
        for level, key in zip(self.levels, keys, strict=True):
            level.setdefault(key, [parent.copy(), 0])
            parent = level[key][0].copy()
        for level, key in zip(self.levels, keys, strict=True):
            w, times = level[key]
            rate = max(0.02, min(0.5, 2 / np.sqrt(times + 1)))
            level[key] = [w * (1 - rate + rate * p / (w @ p / w.sum())), times + 1]

    def rank(self, p: np.ndarray, mark: int, q: float, holders: float) -> tuple[float, float]:
        others = (
            [*np.delete(p, mark), *[q] * int(holders)] if mark < len(p) else [*p, *[q] * int(holders - 1)]
        )
        value = p[mark] if mark < len(p) else q
        near = np.isclose(others, value, rtol=1e-12, atol=0)
        greater = int(np.sum((np.array(others) > value) & ~near))
        return 1.0 + greater, 1.0 + greater + int(near.sum())

    def step(self, batch: Batch, s: int, walks: list[Walk]) -> dict[str, Any]:
        """Score, learn and issue one set."""
        row, length, n = int(batch.row[s]), int(batch.length[s]), int(batch.n_known[s])
        marks = batch.mark[batch.start[s] : batch.start[s + 1]].tolist()
        c = (bucket(length), int(batch.repeat_before[s]))
        keys = (0, c, (c, int(batch.gap[s])))
        e, holders = self.p_new(length, n), max(1000.0, self.ever)
        q = e / holders
        p = self.experts([w.marks_arrival for w in walks], s, n, row, c[0] * 3 + c[1]) if n else None
        soft = self.soft(keys)
        out: dict[str, Any] = {"log_score": [], "rank": [], "dense": p, "escape": e}
        if p is not None:
            mixed = (self.outer[:-1] + self.outer[-1] * soft) @ p[: self.n]
            everybody = np.vstack([mixed, soft @ p[: self.n], p])
            out["rank"] = [[self.rank((1 - e) * d, m, q, holders) for d in everybody] for m in marks]
        for m in marks:
            out["log_score"].append(self.score(p, m, n, e, q, keys))
        out["issued"] = [self.score_issued(row, m) for m in marks]
        self.learn(batch, s, marks, row, length, n, c)
        self.issue(batch, s, [w.marks_issued for w in walks[: self.n_lists]], row, length + 1, out)
        return out

    def score(self, p: np.ndarray | None, m: int, n: int, e: float, q: float, keys: tuple) -> list[float]:
        if m >= n or p is None:
            return [float(LN(q))] * (2 + self.n + self.n_naive)
        with np.errstate(divide="ignore"):
            own = (1 - e) * p[:, m]
            both = np.append(own[: self.n], self.soft(keys) @ own[: self.n])
            mixed = self.outer @ both
            self.outer = self.outer * both / mixed
            self.learn_soft(keys, own[: self.n])
            return LN([mixed, both[-1], *own]).tolist()

    def learn(self, batch: Batch, s: int, marks: list[int], row: int, length: int, n: int, c: tuple) -> None:
        b, seen = self.backgrounds(n) if n else None, self.seen.setdefault(row, {})
        choice, before = 0 < len(seen) < n, dict(seen)
        for m in marks:
            rates = self.escape_by_rate(length)
            self.escape_w = self.escape_w * (rates if m >= n else 1 - rates)
            self.escape_w = self.escape_w / self.escape_w.sum()
            for k in (bucket(length), 10):
                self.escape[:, k] *= 0.5 ** (1 / np.array([100, 1000, np.inf]))[:, None]
                self.escape[:, k] += [m >= n, 1]
            if m < n:
                rate = max(0.02, min(0.5, 2 / np.sqrt(self.events + 1)))
                self.v = self.v * (1 - rate + rate * b[:-1, m] / (self.v @ b[:-1, m] / self.v.sum()))
                if choice:
                    self.gate[[c[0] * 3 + c[1], 30]] += [m in before, 1]
                    with np.errstate(divide="ignore"):
                        step = LN(self.gated[:, int(m in before)])
                    self.trust[c[0]] = np.clip(self.trust[c[0]] + np.maximum(step, -6), -6, 6)
        n_after = max(n, max(marks) + 1)
        self.ever += n_after - n
        for m in marks:
            if m not in seen and len(seen) == 512:
                del seen[min(seen, key=lambda k: (seen[k], batch.hashes[k]))]
            seen[m] = length
        self.count = np.concatenate([self.count, np.zeros((self.b, n_after - self.count.shape[1]))], axis=1)
        dt = max(0.0, batch.time[s] - self.time) if self.events else 0.0
        for j, member in enumerate(MEMBERS):
            self.count[j] *= 0.5 ** (len(marks) / member.events + dt / member.seconds)
            np.add.at(self.count[j], marks, 1.0)
        self.events, self.time = self.events + len(marks), max(self.time, batch.time[s])

    def issue(self, batch: Batch, s: int, lists: list, row: int, length: int, out: dict[str, Any]) -> None:
        n, c = self.count.shape[1], (bucket(length), int(batch.repeat_after[s]))
        p = self.experts(lists, s, n, row, c[0] * 3 + c[1])
        e, holders = self.p_new(length, n), max(1000.0, self.ever)
        mixed = (1 - e) * ((self.outer[:-1] + self.outer[-1] * self.soft((0, c))) @ p)
        top = sorted(range(n), key=lambda i: (-mixed[i], batch.hashes[i]))[:20]
        printed = {i: float(f"{mixed[i]:.6g}") for i in top}
        rest = float(f"{np.delete(mixed, top).sum():.6g}")
        out["mixed"], out["p_new"] = mixed, e
        self.frozen[row] = {"p": printed, "other": (rest + float(f"{e:.6g}")) / (n - len(top) + holders)}
        self.frozen[row]["others"] = n - len(top) + holders

    def score_issued(self, row: int, m: int) -> tuple[float, float]:
        if row not in self.frozen:
            return np.nan, np.nan
        one = self.frozen[row]
        if m not in one["p"]:
            return float(LN(one["other"])), len(one["p"]) + (one["others"] + 1) / 2
        p = np.array(list(one["p"].values()))
        return float(LN(one["p"][m])), 0.5 + np.sum(p > one["p"][m]) + np.sum(p == one["p"][m]) / 2
