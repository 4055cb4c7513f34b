"""The walk of one cut, from tie sets to forecasts; the only place that sees all of it.

    evict ─► sets ─► batch ─► risk ─► every model walks ─► waiting times scored, issued ─► marks likewise
                                                                                            │
                                      score boards ◄── every model learns, once ◄───────────┘

Count models learn set by set inside their walk, torch models once per cut after everything of the cut
was issued. Nothing after a set's own time reaches the forecast that is issued for it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streamrec.arrays import Array, Bools
from streamrec.batch import Batch
from streamrec.errors import ConfigError
from streamrec.event import TieSet
from streamrec.failpoints import failpoint
from streamrec.metrics.boards import Boards
from streamrec.mixture.marks import MarkMixture, MarkScores
from streamrec.mixture.waiting import WaitingMixture
from streamrec.mixture.waiting_scores import WaitScores
from streamrec.models.bank import NAIVE, chosen
from streamrec.models.base import Context, Law, Model, Stateful, build
from streamrec.models.popularity import MEMBERS
from streamrec.settings import Settings
from streamrec.state.arena import Arena
from streamrec.state.history import History
from streamrec.state.vocabulary import Vocabulary
from streamrec.waiting.risk import RiskQueue


class CutResult(NamedTuple):
    """What became of a cut: its sets, their arrays, and the scores with the forecasts issued."""

    sets: Sequence[TieSet]
    batch: Batch
    marks: MarkScores
    waits: WaitScores


class Engine:
    """All learned state of a lane, and the one way to move it: `process` the sets of a cut.

    Parameters
    ----------
    settings : decides models, caps and seeds
    n_universe : marks of a closed universe (`forecast.universe = "known"`), else 0

    Raises
    ------
    ConfigError
        If a model is not known, or none of them forecasts marks or none waiting times.
    """

    def __init__(self, settings: Settings, n_universe: int = 0) -> None:
        self.settings = settings
        self.arena = Arena(settings.state.max_users, settings.state.user_floor)
        self.vocabulary = Vocabulary(settings.state.max_marks, settings.state.mark_floor)
        self.history = History(self.arena, self.vocabulary)
        self.risk = RiskQueue(self.arena, settings.models.max_idle_s or np.inf)
        self.experts = self._build(chosen(settings.models))
        self.naive = self._build([n for n in NAIVE if n not in self.experts])
        self.models = {**self.experts, **self.naive}
        self.marks = self._mark_mixture(n_universe)
        self.waits = self._waiting_mixture()
        self.boards = Boards(self.marks.names, self.waits.names)

    def process(self, sets: Sequence[TieSet]) -> CutResult:
        """Score, issue, mix and learn the sets of one cut, in their order.

        Users and marks above the caps go before the cut, not after it: whoever reads the result still finds
        the marks of its forecasts by their ids.
        """
        self.make_room()
        batch = self.history.batch(sets)
        self.risk.advance(batch)
        walks = {name: model.walk(batch) for name, model in self.models.items()}
        waits = self.waits.step(batch, [walks[n] for n in _with_law(self.models)])
        failpoint("mid_cut")
        marks = self.marks.walk(
            batch,
            [walks[n] for n in _with_marks(self.experts)],
            [walks[n] for n in _with_marks(self.naive)],
            self._awake(),
        )
        failpoint("before_update")
        for model in self.models.values():
            model.learn(batch)
        failpoint("after_update")
        self.boards.add(batch, marks, waits, self.vocabulary.counts)
        return CutResult(sets, batch, marks, waits)

    def components(self) -> dict[str, Stateful]:
        """Everything that is learned, by name; what the checkpoint keeps and the digest covers."""
        own: dict[str, Stateful] = {
            "arena": self.arena,
            "vocabulary": self.vocabulary,
            "history": self.history,
            "risk": self.risk,
            "marks": self.marks,
            "waits": self.waits,
            "boards": self.boards,
        }
        return own | {f"model.{name}": model for name, model in self.models.items()}

    def last_time(self, user: str) -> float:
        """Time of the user's last processed set, NaN if there is none."""
        row = self.arena.find(user)
        return float(self.arena["last_time"][row]) if row >= 0 else float("nan")

    def forget(self, user: str) -> None:
        """Drop a user's row, as if it were evicted."""
        row = self.arena.find(user)
        if row >= 0:
            rows = np.array([row], np.int64)
            self._let_go(rows)
            self.arena.drop(rows)

    def _build(self, names: Sequence[str]) -> dict[str, Model]:
        n, seed = len(MEMBERS), self.settings.models.seed
        return {name: build(name, Context(name, self.arena, n, seed, self.risk)) for name in names}

    def _mark_mixture(self, n_universe: int) -> MarkMixture:
        return MarkMixture(
            self.arena,
            _with_marks(self.experts),
            _with_marks(self.naive),
            open_universe=self.settings.forecast.universe == "open",
            n_universe=n_universe,
        )

    def _waiting_mixture(self) -> WaitingMixture:
        experts = _with_law(self.experts)
        if not experts:
            raise ConfigError(
                f"models.enabled: none of {', '.join(self.experts)} forecasts waiting times; "
                "add one that does, such as gamma_poisson"
            )
        return WaitingMixture(
            self.arena,
            list(experts.items()),
            list(_with_law(self.naive).items()),
            self.settings.forecast.horizon_s,
        )

    def _awake(self) -> Bools:
        awake = [getattr(self.experts[n], "awake", True) for n in _with_marks(self.experts)]
        return np.array(awake, np.bool_)

    def make_room(self) -> None:
        """Between cuts: let users and marks above the caps go; `process` begins with it."""
        if self.arena.n_users > self.arena.max_users:
            self._let_go(self.arena.oldest())
            self.arena.evict()
        new_id = self.vocabulary.evict()
        if new_id is not None:
            self.history.remap_marks(new_id)
            self.marks.remap_marks(new_id)
            for model in self.models.values():
                model.remap_marks(new_id)

    def _let_go(self, rows: Array) -> None:
        self.risk.drop(rows)
        self.marks.drop(rows)


def _with_marks(models: Mapping[str, Model]) -> list[str]:
    return [name for name, model in models.items() if model.gives_marks]


def _with_law(models: Mapping[str, Model]) -> dict[str, Law]:
    return {name: model.law for name, model in models.items() if model.law is not None}
