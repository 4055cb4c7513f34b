"""The neural expert alone, test-then-train, beside a per-event torch loop and river's classifiers.

    ours    Recurrent: issued forecast (mark lists, their top 10, law of the wait), hazard loss with
            sampled open users, one optimiser step per cut of 128
    loop    bench/loops.py

All sides take the same events in turn, a few hundred at a time, in one process; a ratio is (µs per event of
the other side) / (ours) of the same round. Beside it stands how good each became on these very events.
"""

import json
import math
from typing import Any

import numpy as np
from loops import TOP, Learner, RiverLoop, Scores, TorchLoop
from machine import Clock, digits, machine, small_wanted, spread
from river.linear_model import SoftmaxRegression
from river.naive_bayes import MultinomialNB
from river.tree import HoeffdingTreeClassifier
from stream import CUT, as_events, cuts, hawkes, sets_of

from streamrec.batch import MarkLists
from streamrec.event import Event
from streamrec.models.base import Context
from streamrec.models.recurrent import Recurrent
from streamrec.state.arena import Arena
from streamrec.state.history import History
from streamrec.state.vocabulary import Vocabulary

MARKS, USERS, ENTRY_S = 100, 20_000, 360_000.0
CLASSIFIERS: tuple[Any, ...] = (HoeffdingTreeClassifier, MultinomialNB, SoftmaxRegression)


class Ours:
    """The recurrent model without the rest of the bank."""

    def __init__(self) -> None:
        self.scores, arena = Scores(), Arena()
        self.history = History(arena, Vocabulary())
        self.model = Recurrent(Context("recurrent", arena, n_backgrounds=1, seed=0))
        self.issued: dict[int, np.ndarray[Any, Any]] = {}

    def take(self, events: list[Event]) -> None:
        """Walk and learn cut by cut; score by what was issued."""
        for sets in cuts(sets_of(events)):
            batch = self.history.batch(sets)
            walk = self.model.walk(batch)
            assert walk.marks_arrival is not None and walk.marks_issued is not None
            assert walk.wait_issued is not None
            best, p = _best_and_p(walk.marks_arrival, batch.mark)
            top_ten(walk.marks_issued)
            self._score(batch, best == batch.mark, p, walk.wait_issued)
            self.model.learn(batch)

    def _score(self, batch: Any, hit: Any, p: Any, issued: Any) -> None:
        told, params = [], []
        for s, row in enumerate(batch.row.tolist()):
            if batch.timed[s] and row in self.issued:
                told.append(s)
                params.append(self.issued[row])
            self.issued[row] = issued[s]
        if told:
            gaps, laws = np.maximum(batch.dt[told], 1e-6), np.array(params)
            log_f = self.model.law.log_hazard(laws, gaps) + self.model.law.log_survival(laws, gaps)
            log_p = np.log(np.maximum(p[told], 1e-6)).sum()
            self.scores = self.scores.plus(
                float(hit[told].sum()), float(log_p), float(log_f.sum()), len(told)
            )


def _best_and_p(lists: MarkLists, mark: Any) -> tuple[Any, Any]:
    """Most probable mark of every list, and the probability of the mark that came (0 if it is not listed)."""
    best, p = np.full(len(mark), -1), np.zeros(len(mark))
    for s, (a, b) in enumerate(zip(lists.start[:-1].tolist(), lists.start[1:].tolist(), strict=True)):
        if b > a:
            best[s] = lists.mark[a:b][np.argmax(lists.p[a:b])]
            p[s] = lists.p[a:b][lists.mark[a:b] == mark[s]].sum()
    return best, p


def top_ten(lists: MarkLists) -> list[Any]:
    """The ten most probable marks of every list, best first."""
    out = []
    for a, b in zip(lists.start[:-1].tolist(), lists.start[1:].tolist(), strict=True):
        p = lists.p[a:b]
        some = np.argpartition(-p, TOP - 1)[:TOP] if b - a > TOP else np.arange(b - a)
        out.append(lists.mark[a:b][some[np.argsort(-p[some], kind="stable")]])
    return out


def rounds(learners: dict[str, Learner], events: list[Event], size: int) -> dict[str, list[float]]:
    """µs of processor time per event of every side, round by round, in alternating order."""
    cost: dict[str, list[float]] = {name: [] for name in learners}
    for r, first in enumerate(range(0, len(events) - size + 1, size)):
        names = list(learners)[:: 1 if r % 2 == 0 else -1]
        for name in names:
            clock = Clock()
            learners[name].take(events[first : first + size])
            cost[name].append(1e6 * clock.cpu / size)
    return cost


def main(small: bool = False) -> dict[str, Any]:
    """Costs, ratios and scores."""
    size, n, further = (CUT, 4 * CUT, 4 * CUT) if small else (4 * CUT, 40 * CUT, 400 * CUT)
    run = hawkes(n + further, USERS, MARKS, ENTRY_S / (40 if small else 1))
    events = as_events(run.user, run.mark, run.time)
    gaps = np.log(np.random.default_rng(0).exponential(3600.0, 1000))
    ours = Ours()
    learners: dict[str, Learner] = {
        "ours": ours,
        "torch_loop": TorchLoop(MARKS, (float(gaps.mean()), float(gaps.std()))),
        **{f"river.{kind.__name__}": RiverLoop(kind()) for kind in CLASSIFIERS},
    }
    cost = {name: values[1:] for name, values in rounds(learners, events[:n], size).items()}
    early = {name: _rounded(learner.scores) for name, learner in learners.items()}
    alone, mean = _go_on(ours, events[n:])
    others = [name for name in learners if name != "ours"]
    ratios = {name: [a / b for a, b in zip(cost[name], cost["ours"], strict=True)] for name in others}
    return {
        "bench": "neural",
        "marks": MARKS,
        "users": USERS,
        "events": n,
        "rounds": len(cost["ours"]),
        "us_per_event": {name: spread(values) for name, values in cost.items()},
        "times_ours": {name: spread(values) for name, values in ratios.items()},
        "reached": early,
        "oracle": _oracle(run.log_p_mark[:n], run.log_density[:n]),
        "ours_later": {"events": further, "us_per_event": spread(alone), "reached": mean},
        "oracle_later": _oracle(run.log_p_mark[n:], run.log_density[n:]),
        "machine": machine(),
    }


def _go_on(ours: Ours, events: list[Event]) -> tuple[list[float], dict[str, float | None]]:
    """Ours alone on further events, in ten pieces; the scores are those of the later half."""
    size, cost = max(len(events) // 10 // CUT, 1) * CUT, []
    for i, first in enumerate(range(0, len(events), size)):
        if i == 5:
            ours.scores = Scores()
        piece, clock = events[first : first + size], Clock()
        ours.take(piece)
        cost.append(1e6 * clock.cpu / len(piece))
    return cost, _rounded(ours.scores)


def _rounded(scores: Scores) -> dict[str, float | None]:
    means = scores.means().items()
    return {"n": scores.n, **{name: None if math.isnan(x) else digits(x) for name, x in means}}


def _oracle(log_p: Any, log_f: Any) -> dict[str, float]:
    return {"ln_p_mark": digits(float(np.nanmean(log_p))), "ln_f_wait": digits(float(np.nanmean(log_f)))}


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
