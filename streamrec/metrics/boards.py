"""All score boards of a lane: marks at arrival, the published list, and waiting times.

The boards are part of the state, so that a restart changes no figure. Evaluation keeps a second set of
them for its windows.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from streamrec.arrays import Array, Bools, Floats, Ints, Ints32
from streamrec.batch import Batch
from streamrec.metrics.marks import MarkBoard
from streamrec.metrics.times import TimeBoard
from streamrec.state.columns import Columns


class MarkFigures(Protocol):
    """What a board reads of the mark mixture's answer; see `MarkScores`."""

    @property
    def log_score(self) -> Floats: ...
    @property
    def rank(self) -> Floats: ...
    @property
    def new(self) -> Bools: ...
    @property
    def issued_log_score(self) -> Floats: ...
    @property
    def issued_rank(self) -> Floats: ...
    @property
    def issued_known(self) -> Bools: ...


class TimeFigures(Protocol):
    """What a board reads of the waiting mixture's answer; see `WaitScores`."""

    @property
    def log_issued(self) -> Floats: ...
    @property
    def log_point(self) -> Floats: ...
    @property
    def log_arrival(self) -> Floats: ...
    @property
    def pit(self) -> Floats: ...
    @property
    def median(self) -> Floats: ...
    @property
    def mean(self) -> Floats: ...
    @property
    def log_density_issued(self) -> Floats: ...


class Boards:
    """Mark, issued-list and waiting-time boards over one stretch of the stream.

    Parameters
    ----------
    mark_names, time_names : scorers in the order in which the mixtures give them
    """

    def __init__(self, mark_names: Sequence[str], time_names: Sequence[str]) -> None:
        self.marks = MarkBoard(mark_names)
        self.issued = MarkBoard(["mixture"])
        self.times = TimeBoard(time_names)

    def add(
        self, batch: Batch, marks: MarkFigures, times: TimeFigures, counts: Ints, chosen: Bools | None = None
    ) -> None:
        """Add the scores of a cut.

        Parameters
        ----------
        counts : (K,) events of every mark after the cut
        chosen : (M,) marks to add; all by default. A set is added with its first mark
        """
        size = np.diff(batch.start)
        of_mark = np.repeat(np.arange(batch.n_sets), size)
        pick = np.arange(len(batch.mark)) if chosen is None else np.flatnonzero(chosen)
        if not len(pick):
            return
        before = _counted_before(batch.mark, counts)
        seen_user, length = ~np.isnan(batch.dt)[of_mark], batch.length[of_mark]
        self.marks.add(
            marks.log_score[:, pick],
            marks.rank[:, pick],
            marks.new[pick],
            seen_user[pick],
            before[pick],
            length[pick],
        )
        out = pick[marks.issued_known[pick]]
        self.issued.add(
            marks.issued_log_score[None, out], marks.issued_rank[None, out],
            marks.new[out], seen_user[out], before[out], length[out],
        )  # fmt: skip
        first = np.zeros(batch.n_sets, np.bool_)
        first[of_mark[pick[np.isin(pick, batch.start[:-1])]]] = True
        self._add_times(batch.dt, times, np.flatnonzero(batch.timed & first))

    def _add_times(self, dt: Floats, times: TimeFigures, at: Ints) -> None:
        self.times.add(
            dt[at], times.log_issued[:, at], times.log_point[:, at], times.log_arrival[:, at],
            times.pit[:, at], times.median[:, at], times.mean[:, at], times.log_density_issued[at],
        )  # fmt: skip

    def tables(self) -> Mapping[str, Columns]:
        """No tables."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """All sums."""
        return {f"{part}.{n}": a for part, board in self._parts() for n, a in board.scalars().items()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        for part, board in self._parts():
            mine = {n.removeprefix(part + "."): a for n, a in arrays.items() if n.startswith(part + ".")}
            board.load_scalars(mine)

    def _parts(self) -> list[tuple[str, MarkBoard | TimeBoard]]:
        return [("marks", self.marks), ("issued", self.issued), ("times", self.times)]


def _counted_before(mark: Ints32, counts: Ints) -> Ints:
    """Events of each mark before this one, those of the same cut included, (M,); `counts` are after the cut.

    Examples
    --------
    >>> _counted_before(np.array([1, 0, 1]), np.array([5, 7])).tolist()
    [5, 4, 6]
    """
    order = np.argsort(mark, kind="stable")
    in_cut = np.bincount(mark, minlength=len(counts))
    first = np.cumsum(in_cut) - in_cut
    before = np.empty(len(mark), np.int64)
    before[order] = np.arange(len(mark)) - first[mark[order]]
    return np.asarray(counts[mark] - in_cut[mark] + before)
