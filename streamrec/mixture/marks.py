"""The mixture of mark models: what is served and scored as `mark` and `mark_issued`.

    lists of the models ─► popularity bank ─► gate ─► Soft-Bayes by context ─► Bayes over all ─► top 20
                           (backgrounds)      seen sets                        escape mass

Formulas stand in `models/popularity.py`, `gate.py`, `escape.py`, `soft_bayes.py`, `bayes.py`; the walk in
`kernels.py`. Guarantee, with N experts, on any stream: Σ ℓ_mixture ≤ min(Σ ℓ_k, Σ ℓ_soft_bayes) + ln(N + 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamrec.arrays import Array, Bools, Floats, Ints, Ints32
from streamrec.batch import Batch, MarkLists
from streamrec.errors import ConfigError, InvariantError
from streamrec.mixture.escape import new_escape
from streamrec.mixture.gate import new_gate, new_trust
from streamrec.mixture.kernels import Bench, Cut, Out, State, walk_marks
from streamrec.mixture.kernels_forecast import Lists, new_work
from streamrec.mixture.kernels_published import LISTED, Published, new_published
from streamrec.mixture.seen import SeenSets
from streamrec.mixture.soft_bayes import new_soft
from streamrec.models.base import Walk
from streamrec.models.popularity import MEMBERS, Member, PopularityBank
from streamrec.state.columns import Column, Columns

LEADING = ("mixture", "soft_bayes")
ADAPTIVE = "popularity"


@dataclass(frozen=True, slots=True)
class MarkScores:
    """Scores of the M marks of a cut by A models, and the lists published after its S sets.

    Parameters
    ----------
    names : (A,) mixture, soft_bayes, bank members, popularity, list-giving experts, naive rules
    log_score : (A, M) ln p(mark | it happens now), experts fixed inside a tie set; NaN for those asleep,
        -inf where a naive rule gives no mass
    rank : (A, M) mean of optimistic and pessimistic rank before the set; NaN for those asleep or not ranked
    new : (M,) the mark was not known before its set
    issued_log_score, issued_rank : (M,) of the list published after the user's previous set
    issued_known : (M,) there was one; NaN scores where not
    published : lists issued after the sets, S of them
    weight, soft_weight : (N+1,), (N,) weights of outer Bayes (Soft-Bayes last) and of Soft-Bayes
    """

    names: tuple[str, ...]
    log_score: Floats
    rank: Floats
    new: Bools
    issued_log_score: Floats
    issued_rank: Floats
    issued_known: Bools
    published: Published
    weight: Floats
    soft_weight: Floats


class MarkMixture:
    """Mixture of the popularity bank and list-giving mark models, with naive rules scored beside it.

    Parameters
    ----------
    arena : user rows; gets columns `seen.*` and `published.*`
    experts : names of the list-giving models, in the order of their walks
    naive : names of the naive rules that give marks; scored, never mixed or gated
    members : the popularity bank's grid
    rank_experts : rank every expert (one scan of the known marks each); the mixture is always ranked
    open_universe : unknown marks share the escape mass over placeholders; else over what is left of
        `n_universe` marks (for comparison with published figures only)

    Raises
    ------
    ConfigError
        If names repeat, or a closed universe has no size.

    Examples
    --------
    >>> mixture = MarkMixture(Columns(8, {}), experts=["markov"], naive=["repeat_last"])
    >>> mixture.names[:3], mixture.names[-3:]
    (('mixture', 'soft_bayes', 'pop_all'), ('popularity', 'markov', 'repeat_last'))
    """

    def __init__(
        self,
        arena: Columns,
        experts: Sequence[str] = (),
        naive: Sequence[str] = (),
        members: Sequence[Member] = MEMBERS,
        rank_experts: bool = True,
        open_universe: bool = True,
        n_universe: int = 0,
    ) -> None:
        self.bank = PopularityBank(members)
        self.names = (*LEADING, *self.bank.names, ADAPTIVE, *experts, *naive)
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"experts, naive: names must be distinct, got {self.names}")
        if not open_universe and n_universe < 1:
            raise ConfigError(
                f"n_universe: expected the number of marks of a closed universe, got {n_universe}"
            )
        self.n_lists, self.n_naive = len(experts), len(naive)
        self.n_mixed = self.bank.n_backgrounds + self.n_lists
        self.rank_experts = rank_experts
        self.arena, self.seen = arena, SeenSets(arena)
        self._add_published(arena)
        self.gate, self.escape = new_gate(), new_escape(0 if open_universe else n_universe)
        self.trust = new_trust(self.n_mixed)
        self.soft = new_soft(self.n_mixed)
        self.log_weight = np.full(self.n_mixed + 1, -np.log(self.n_mixed + 1))
        self._bench = self._new_bench(0, 0)

    @staticmethod
    def _add_published(arena: Columns) -> None:
        arena.add("published.n", Column(np.int32, (), -1))
        arena.add("published.mark", Column(np.int32, (LISTED,), -1))
        arena.add("published.p", Column(np.float64, (LISTED,)))
        for name in ("p_new", "p_rest", "n_new", "n_rest", "set_size", "set_p"):
            arena.add(f"published.{name}", Column(np.float64))

    def walk(
        self,
        batch: Batch,
        expert_walks: Sequence[Walk],
        naive_walks: Sequence[Walk] = (),
        awake: Bools | None = None,
    ) -> MarkScores:
        """Score, learn and issue the sets of a cut in order.

        Parameters
        ----------
        expert_walks, naive_walks : answers of the models, in the order of `experts` and `naive`;
            a model without lists sleeps through the cut
        awake : (E,) list-giving experts that take part; all by default

        Raises
        ------
        InvariantError
            If the masses of an expert that is awake do not sum to one.
        """
        self._check_count(expert_walks, naive_walks)
        arrivals = [w.marks_arrival for w in (*expert_walks, *naive_walks)]
        issues = [w.marks_issued for w in expert_walks]
        out = self._new_out(batch)
        bench = self._ready(batch, self._awake(arrivals, issues, awake))
        wrong = walk_marks(
            out,
            self._state(batch),
            bench,
            _cut(batch),
            self._pack(arrivals, batch.n_sets),
            self._pack(issues, batch.n_sets),
            self.rank_experts,
        )
        self._check_masses(wrong)
        new = batch.mark >= np.repeat(batch.n_known, np.diff(batch.start))
        weight = np.exp(self.log_weight)
        return MarkScores(
            self.names, out.log_score, out.rank, new, *out[2:], weight, self.soft.everywhere[0].copy()
        )

    def forecast(self, rows: Ints) -> Published:
        """The published lists of these rows as they were frozen; changes nothing."""
        frozen = self._frozen()
        return Published._make(column[rows] for column in frozen)

    def remap_marks(self, new_id: Ints) -> None:
        """Marks were evicted: mark i is now `new_id[i]`, or gone where that is -1.

        A mark that is gone leaves the bank, the seen sets and the published lists; there its mass joins
        that of the marks not listed.
        """
        self.bank.remap_marks(new_id)
        self.seen.remap_marks(new_id)
        frozen = self._frozen()
        for row in np.flatnonzero(frozen.n >= 0):
            _remap_published(frozen, int(row), new_id)
            self.arena.touched[row] = 1

    def drop(self, rows: Ints) -> None:
        """Users are evicted: free their pages, forget their lists; call before rows are reset."""
        self.seen.drop(rows)
        for name, fresh in zip(Published._fields, new_published(1), strict=True):
            self.arena[f"published.{name}"][rows] = np.asarray(fresh)[0]
        self.arena.touched[rows] = 1

    def tables(self) -> Mapping[str, Columns]:
        """Counts of the bank by mark, and pages of the seen sets; row columns are the arena's."""
        return {**self.bank.tables(), **self.seen.tables()}

    def scalars(self) -> Mapping[str, Array]:
        """Weights, counts of gate and escape mass, the bank's clock."""
        own: dict[str, Array] = {"gate": self.gate, "trust": self.trust, "bayes.log_weight": self.log_weight}
        own |= {f"escape.{name}": array for name, array in self.escape._asdict().items()}
        own |= {f"soft_bayes.{name}": array for name, array in self.soft._asdict().items()}
        return {**self.bank.scalars(), **self.seen.scalars(), **own}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        for name, array in self.scalars().items():
            array[...] = arrays[name]

    def _frozen(self) -> Published:
        return Published(*(self.arena[f"published.{name}"] for name in Published._fields))

    def _state(self, batch: Batch) -> State:
        seen = self.seen.arrays(batch.n_marks, len(batch.mark))
        bank = self.bank.arrays(batch.n_marks)
        return State(
            bank, seen, self.gate, self.trust, self.escape, self.soft, self.log_weight, self._frozen()
        )

    def _check_count(self, expert_walks: Sequence[Walk], naive_walks: Sequence[Walk]) -> None:
        got, want = (len(expert_walks), len(naive_walks)), (self.n_lists, self.n_naive)
        if got != want:
            raise ConfigError(f"walk: expected walks of {want} experts and naive rules, got {got}")

    def _awake(
        self, arrivals: Sequence[MarkLists | None], issues: Sequence[MarkLists | None], awake: Bools | None
    ) -> Bools:
        """Who speaks in this cut, (A,): the bank always; others if they have lists and may."""
        speaks = np.array([lists is not None for lists in arrivals], np.bool_)
        speaks[: self.n_lists] &= np.array([lists is not None for lists in issues], np.bool_)
        if awake is not None:
            speaks[: self.n_lists] &= awake
        return np.concatenate([np.ones(self.bank.n_backgrounds, np.bool_), speaks])

    def _check_masses(self, wrong: tuple[int, int]) -> None:
        if wrong[0] >= 0:
            raise InvariantError(
                f"mark mixture: the masses of {self.names[wrong[1] + 2]} at set {wrong[0]} of the cut do not "
                "sum to one (listed plus backgrounds); the model's lists are wrong"
            )

    def _pack(self, lists: Sequence[MarkLists | None], n_sets: int) -> Lists:
        """The lists of several experts in one piece; an expert without lists has none and no background."""
        starts = np.zeros((len(lists), n_sets + 1), np.int64)
        background = np.zeros((len(lists), n_sets, self.bank.n_backgrounds))
        at, marks, masses = 0, [np.zeros(0, np.int32)], [np.zeros(0)]
        for x, one in enumerate(lists):
            if one is not None:
                starts[x] = one.start + at
                background[x] = one.background
                marks.append(one.mark)
                masses.append(one.p)
                at += len(one.mark)
        return Lists(starts, np.concatenate(marks), np.concatenate(masses), background)

    def _new_bench(self, n_marks: int, largest: int) -> Bench:
        n_members, n_all = len(self.bank.names), self.n_mixed + self.n_naive
        return Bench(
            new_work(n_members, self.n_mixed, n_all, n_marks),
            np.zeros((largest, n_all)),
            np.full(n_marks, -1, np.int32),
            np.zeros(self.n_mixed + 1),
            np.zeros(self.n_mixed + 1),
            np.zeros(n_members),
            np.ones(n_all, np.bool_),
            np.ones(self.n_mixed + 1, np.bool_),
            np.ones(n_members, np.bool_),
        )

    def _ready(self, batch: Batch, awake: Bools) -> Bench:
        """Scratch that is large enough for the cut, with the awake experts set."""
        largest = int(np.diff(batch.start).max(initial=0))
        if len(self._bench.slot) < batch.n_marks or len(self._bench.point) < largest:
            self._bench = self._new_bench(2 * batch.n_marks, max(largest, 16))
        self._bench.awake[:] = awake
        self._bench.awake_outer[:-1] = awake[: self.n_mixed]
        return self._bench

    def _new_out(self, batch: Batch) -> Out:
        shape = (len(self.names), len(batch.mark))
        m = shape[1]
        nothing = np.full((2, m), np.nan)
        return Out(
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            nothing[0],
            nothing[1],
            np.zeros(m, np.bool_),
            new_published(batch.n_sets),
        )


def _cut(batch: Batch) -> Cut:
    return Cut(
        batch.row,
        batch.time,
        batch.start,
        batch.mark,
        batch.n_known,
        batch.length,
        batch.gap,
        batch.repeat_before,
        batch.repeat_after,
        batch.hashes,
    )


def _remap_published(frozen: Published, row: int, new_id: Ints) -> None:
    """Rename the marks of one list; those that are gone join the marks not listed."""
    n = int(frozen.n[row])
    marks: Ints32 = new_id[frozen.mark[row, :n]].astype(np.int32)
    p = frozen.p[row, :n].copy()
    kept = marks >= 0
    frozen.mark[row], frozen.p[row], frozen.n[row] = -1, 0.0, kept.sum()
    frozen.mark[row, : kept.sum()], frozen.p[row, : kept.sum()] = marks[kept], p[kept]
    frozen.p_rest[row] += p[~kept].sum()
    frozen.n_rest[row] += (~kept).sum()
