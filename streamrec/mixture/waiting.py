"""The mixture of waiting-time models: score what was issued, re-weight the row, publish the next.

For every set of a cut, in order:

    gap ──► score by the parameters frozen at the user's previous set (cells of the clock's grid)
        ──► the row's posterior over experts, one step of Bayes        (`waiting_weights`)
        ──► freeze the new parameters in the row, publish their mixture (`waiting_table`)

    while waiting   S(t | s) = Σ_k w_k S_k(s + t) / Σ_k w_k S_k(s)

Symbols: w_k weights of the row, S_k survival issued by expert k, s seconds since the user's last set. Naive
rules are scored beside the experts and carry no weight. Parameters are float32 in the row, and these
rounded numbers are what was issued everywhere: in scores, weights and tables.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from streamrec.arrays import Array, Bools, Floats, Floats32, Ints
from streamrec.batch import Batch
from streamrec.errors import ConfigError, InvariantError, StateError
from streamrec.mixture import waiting_table, waiting_weights
from streamrec.mixture.waiting_scores import Scored, WaitScores, Walked, among_sets
from streamrec.mixture.waiting_table import Published
from streamrec.models.base import Law, Walk
from streamrec.state.columns import Column, Columns
from streamrec.waiting.cells import log_open, score
from streamrec.waiting.piecewise_exponential import PiecewiseExponential
from streamrec.waiting.resolution import ClockResolution, to_grid

Named = tuple[str, Law]
LEADING = ("mixture", "soft_bayes")
OPEN_ROWS = 4096
"""Rows whose open wait is scored in one go."""

_QUIET = np.errstate(divide="ignore", invalid="ignore", over="ignore")
"""NaN stands for an expert without a forecast, and is carried through."""


class _Knots(Protocol):
    def log_survival(self, params: Floats) -> Floats: ...


@runtime_checkable
class Tabulated(Protocol):
    """A law that answers faster at times that are the same for all rows."""

    def at_knots(self, times: Floats) -> _Knots:
        """Survival at fixed times, for any rows."""
        ...


class WaitingMixture:
    """Bayes mixture of waiting-time experts with a posterior in every user's row.

    Parameters
    ----------
    arena : user rows; columns `wait.*` are added
    experts : (name, law) of the K models that are mixed; at least one
    naive : (name, law) of the rules that are scored only
    horizon_s : published quantiles and means are given an event within this time
    resolution : the clock's grid; found from the gaps by default

    Raises
    ------
    ConfigError
        If there is no expert, a name is taken twice, or the horizon is not above one second.

    Examples
    --------
    >>> from streamrec.waiting.exponential import Exponential
    >>> mixture = WaitingMixture(Columns(4, {}), [("poisson", Exponential())], [])
    >>> mixture.names
    ('mixture', 'soft_bayes', 'poisson')
    """

    def __init__(
        self,
        arena: Columns,
        experts: Sequence[Named],
        naive: Sequence[Named],
        horizon_s: float = 365 * 86400.0,
        resolution: ClockResolution | None = None,
    ) -> None:
        self.names = (*LEADING, *(name for name, _ in [*experts, *naive]))
        if not experts or len(set(self.names)) < len(self.names):
            raise ConfigError(f"waiting mixture: expected experts with names of their own, got {self.names}")
        if not 1 < horizon_s < np.inf:
            raise ConfigError(f"forecast_horizon_s: expected more than 1 s, got {horizon_s}")
        self.arena, self.resolution = arena, resolution or ClockResolution()
        self.laws: list[Law] = [law for _, law in [*experts, *naive]]
        self.n_experts = len(experts)
        self.edges = waiting_table.table_edges(horizon_s)
        k = self.n_experts
        self.counts: Floats = np.append(np.ones(k), float(k))  # the team begins with half of the prior
        self.team: Floats = np.full(k, 1.0 / k)
        self.team_n: Floats = np.zeros(1)
        self._knots = waiting_table.knots(self.edges)
        self._printed = PiecewiseExponential(self.edges)
        ends = np.cumsum([0, *(law.width for law in self.laws)])
        self._slices = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self._at_knots = [self._survival_at_knots(law) for law in self.laws]
        self._tabulated = {k for k, law in enumerate(self.laws) if isinstance(law, Tabulated)}
        arena.add("wait.params", Column(np.float32, (int(ends[-1]),), np.nan))
        arena.add("wait.log_w", Column(np.float64, (k + 1,), np.nan))
        arena.add("wait.log_v", Column(np.float64, (k,), np.nan))
        arena.add("wait.begun", Column(np.uint8))
        arena.add("wait.middles", Column(np.float32, (len(self.names), 2), np.nan))
        arena.add("wait.table", Column(np.float32, (len(self.edges),), np.nan))

    def log_prior(self) -> Floats:
        """ln w0, the weights that a user's row would start from now, the team's last, (K+1,)."""
        share, floor = self.counts / self.counts.sum(), waiting_weights.FLOOR
        return np.asarray(np.log(floor / (self.n_experts + 1) + (1 - floor) * share))

    @_QUIET
    def step(self, batch: Batch, walks: Sequence[Walk]) -> WaitScores:
        """Score, re-weight, freeze and publish every set of a cut.

        Parameters
        ----------
        batch : the cut
        walks : answers of the experts, then of the naive rules, in the order of the constructor

        Raises
        ------
        InvariantError
            If the walks do not fit the laws.
        """
        issued = self._block([walk.wait_issued for walk in walks], batch.n_sets)
        arrival = self._block([walk.wait_arrival for walk in walks], batch.n_sets)
        scored = self._scored(batch, issued)
        scores = self._score_laws(scored, arrival[scored.at], batch.dt[scored.at])
        log_s, log_d = self._survive(issued), self._log_defects(issued)
        walked = self._walk_weights(batch, scored.at, scores, ~np.isnan(log_s[: self.n_experts, :, 0].T))
        published = self._publish(log_s[: self.n_experts], walked.served, log_d)
        middles = self._middles(issued, log_s, published, walked.team)
        cell, point, at_arrival, pit = np.concatenate([walked.leading, scores], axis=1)
        median, mean = self._issued_middles(batch, scored, middles)
        density = self._printed_density(batch, scored, published)
        self._freeze(batch, issued, middles, published)
        among = partial(among_sets, batch.n_sets, scored.at)
        return WaitScores(
            self.names,
            among(cell),
            among(point),
            among(at_arrival),
            among(pit),
            among(median),
            among(mean),
            among(density),
            among(scored.delta),
            walked.after,
            published,
        )

    @_QUIET
    def forecast(self, rows: Ints, elapsed: Floats) -> Published:
        """The remaining wait of users that have been silent for `elapsed` seconds; stores nothing.

        Parameters
        ----------
        rows : (N,) rows with an outstanding forecast
        elapsed : (N,) s since each user's last set
        """
        params = self.arena["wait.params"][rows].astype(np.float64)
        k = self.n_experts
        silent = self._survive_until(params, elapsed)
        log_w = (
            waiting_weights.serve_rows(self.arena["wait.log_w"][rows], self.arena["wait.log_v"][rows])
            + silent
        )
        start = elapsed[:, None] + np.zeros(len(self._knots))
        stop = elapsed[:, None] + self._knots
        log_s = [-law.compensator(p, start, stop) for law, p in self._split(params)[:k]]
        return self._publish(np.stack(log_s), log_w, self._log_defects(params) - silent)

    @_QUIET
    def open_rows(self, rows: Ints, elapsed: Floats) -> Floats:
        """ln S(elapsed)/S(δ/2) of every name's outstanding forecast, (E, N); NaN where it has none."""
        params = self.arena["wait.params"][rows].astype(np.float64)
        delta = np.full(len(rows), self.resolution.delta_s)
        each = np.stack([log_open(law, p, elapsed, delta) for law, p in self._split(params)])
        experts = np.ascontiguousarray(each[: self.n_experts].T)
        log_w, log_v = self.arena["wait.log_w"][rows], self.arena["wait.log_v"][rows]
        team = waiting_weights.mixed_rows(log_v, experts)
        mix = waiting_weights.mixed_rows(log_w, np.column_stack([experts, team]))
        return np.concatenate([mix[None, :], team[None, :], each])

    def open_score(self, rows: Ints, elapsed: Floats) -> Floats:
        """Sum of `open_rows` over the open users, (E,); a name without a forecast counts nothing.

        Parameters
        ----------
        rows : (N,) rows of the open users
        elapsed : (N,) s since each user's last set
        """
        total = np.zeros(len(self.names))
        for first in range(0, len(rows), OPEN_ROWS):
            chunk = slice(first, first + OPEN_ROWS)
            total += np.nansum(self.open_rows(rows[chunk], elapsed[chunk]), axis=1)
        return total

    def tables(self) -> Mapping[str, Columns]:
        """No tables: everything large is in the arena's rows."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """Counts of the prior and the clock's state."""
        clock = {f"clock.{name}": array for name, array in self.resolution.scalars().items()}
        return {"counts": self.counts.copy(), "team": self.team.copy(), "team_n": self.team_n.copy(), **clock}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave.

        Raises
        ------
        StateError
            If the state is that of another number of experts.
        """
        if arrays["counts"].shape != self.counts.shape:
            raise StateError(
                f"waiting mixture: the state has {len(arrays['counts']) - 1} experts, the settings "
                f"{self.n_experts}: start with the models that the state was made with"
            )
        self.counts = np.array(arrays["counts"], np.float64)
        self.team, self.team_n = np.array(arrays["team"], np.float64), np.array(arrays["team_n"], np.float64)
        clock = {name[6:]: array for name, array in arrays.items() if name.startswith("clock.")}
        self.resolution.load_scalars(clock)

    def _survival_at_knots(self, law: Law) -> Callable[[Floats], Floats]:
        if isinstance(law, Tabulated):
            return law.at_knots(self._knots).log_survival
        return lambda params: law.log_survival(params, np.tile(self._knots, (len(params), 1)))

    def _block(self, parts: Sequence[Floats | None], n: int) -> Floats32:
        """All parameters side by side as float32, (S, W); NaN for who has nothing to say."""
        if len(parts) != len(self.laws):
            raise InvariantError(f"waiting mixture: expected {len(self.laws)} walks, got {len(parts)}")
        block = np.full((n, self._slices[-1].stop), np.nan, np.float32)
        for name, law, columns, part in zip(self.names[2:], self.laws, self._slices, parts, strict=True):
            if part is None:
                continue
            if part.shape != (n, law.width):
                raise InvariantError(f"{name}: expected {(n, law.width)} parameters, got {part.shape}")
            block[:, columns] = part
        return block

    def _split(self, params: Array) -> list[tuple[Law, Floats]]:
        """Every law with its own columns in float64."""
        wide = params.astype(np.float64)
        pairs = zip(self.laws, self._slices, strict=True)
        return [(law, np.ascontiguousarray(wide[:, columns])) for law, columns in pairs]

    def _scored(self, batch: Batch, issued: Floats32) -> Scored:
        """What was frozen at the previous set of each timed one: in the cut, or in the row."""
        at = np.flatnonzero(batch.timed)
        rows, inside = batch.row[at], batch.previous[at] >= 0
        params = self.arena["wait.params"][rows]
        params[inside] = issued[batch.previous[at][inside]]
        tables = waiting_table.round_printed(self.arena["wait.table"][rows])
        delta = self.resolution.step(batch.dt[at], batch.time[at])
        return Scored(at, params, self.arena["wait.middles"][rows], tables, delta)

    def _score_laws(self, scored: Scored, arrival: Floats32, dt: Floats) -> Floats:
        """Cell, point, arrival and pit of all laws, (4, E-1, n)."""
        n = len(dt)
        on_grid, delta = np.tile(to_grid(dt, scored.delta), 2), np.tile(scored.delta, 2)
        found = np.empty((4, len(self.laws), n))
        if not n:
            return found
        for k, (law, params) in enumerate(self._split(np.concatenate([scored.params, arrival]))):
            both = score(law, params, on_grid, delta)
            found[:, k] = both.cell[:n], both.point[:n], both.cell[n:], both.pit[:n]
        return found

    def _walk_weights(self, batch: Batch, at: Ints, scores: Floats, awake: Bools) -> Walked:
        """Mix and re-weight in order."""
        n_sets, n, k = batch.n_sets, len(at), self.n_experts
        place = np.full(n_sets, -1)
        place[at] = np.arange(n)
        mix, after = np.empty((4, n)), np.empty((n_sets, k + 1))
        served, team = np.empty((n_sets, k)), np.empty((n_sets, k))
        every = np.full((4, n, k + 1), np.nan)
        every[:, :, :k] = scores[:, :k].transpose(0, 2, 1)
        waiting_weights.walk(
            batch.row,
            place,
            every,
            awake.astype(np.uint8),
            self.arena["wait.log_w"],
            self.arena["wait.log_v"],
            self.arena["wait.begun"],
            self.counts,
            self.team,
            self.team_n,
            waiting_weights.FLOOR,
            mix,
            after,
            served,
            team,
        )
        return Walked(np.stack([mix, every[:, :, k]], axis=1), after, served, team)

    def _survive(self, params: Array) -> Floats:
        """ln S at the knots for every law, (E-1, N, 33)."""
        pairs = zip(self._at_knots, self._split(params), strict=True)
        return np.stack([at_knots(p) for at_knots, (_, p) in pairs])

    def _survive_until(self, params: Floats, s: Floats) -> Floats:
        """ln S_k(s) of the experts, (N, K)."""
        split = self._split(params)[: self.n_experts]
        return np.stack([law.log_survival(p, s) for law, p in split], axis=1)

    def _log_defects(self, params: Array) -> Floats:
        """ln of the experts' defects, (N, K)."""
        split = self._split(params)[: self.n_experts]
        return np.stack([law.log_defect(p) for law, p in split], axis=1)

    def _publish(self, log_s: Floats, log_w: Floats, log_d: Floats) -> Published:
        log_defect = waiting_weights.mixed_rows(log_w, log_d)
        return waiting_table.publish(waiting_table.mix_survival(log_s, log_w), log_defect, self.edges)

    def _middles(self, issued: Floats32, log_s: Floats, published: Published, team: Floats) -> Floats32:
        """Median and mean of what every name issued, (S, E, 2)."""
        out = np.full((len(issued), len(self.names), 2), np.nan)
        out[:, 0, 0], out[:, 0, 1] = published.quantiles[:, 2], published.mean
        mixed = waiting_table.mix_survival(log_s[: self.n_experts], team)[None]
        every = waiting_table.middles(np.concatenate([mixed, log_s]), self.edges)
        out[:, 1:] = every.transpose(1, 0, 2)
        half = -0.5 * np.expm1(log_s[:, :, -2])
        for k, (law, params) in enumerate(self._split(issued)):
            if k not in self._tabulated:
                # the table's own middle is good to a bin only; where F(H) underflows it has to do
                median = law.quantile(params, half[k])
                out[:, k + 2, 0] = np.where(half[k] > 0, median, out[:, k + 2, 0])
        return out.astype(np.float32)

    @staticmethod
    def _issued_middles(batch: Batch, scored: Scored, middles: Floats32) -> tuple[Floats, Floats]:
        """Median and mean that the timed sets are compared with, (E, n) each."""
        previous = batch.previous[scored.at]
        chosen = np.where((previous >= 0)[:, None, None], middles[previous], scored.middles)
        return chosen[:, :, 0].T.astype(np.float64), chosen[:, :, 1].T.astype(np.float64)

    def _printed_density(self, batch: Batch, scored: Scored, published: Published) -> Floats:
        """ln of the printed table's density at the gaps as recorded, (n,)."""
        previous, dt = batch.previous[scored.at], batch.dt[scored.at]
        tables = np.where((previous >= 0)[:, None], published.tables[previous], scored.tables)
        return np.asarray(self._printed.log_hazard(tables, dt) + self._printed.log_survival(tables, dt))

    def _freeze(self, batch: Batch, issued: Floats32, middles: Floats32, published: Published) -> None:
        """Keep what each user's last set of the cut issued."""
        last = np.ones(batch.n_sets, np.bool_)
        last[batch.previous[batch.previous >= 0]] = False
        rows = batch.row[last]
        self.arena["wait.params"][rows] = issued[last]
        self.arena["wait.middles"][rows] = middles[last]
        self.arena["wait.table"][rows] = published.tables[last]
        self.arena.touched[rows] = 1
