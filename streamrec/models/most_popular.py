"""Popularity alone: every forecast is one member of the popularity bank; two naive rules.

    p(i) = b_j(i),    j = 0 for all-time popularity, j = 1 for the recent one (half-life 500 events)

Symbols: b_j member j of the bank (a background of `MarkLists`). The bank counts; these rules point at it.
"""

from collections.abc import Mapping

import numpy as np

from streamrec.arrays import Array, Ints
from streamrec.batch import Batch, MarkLists
from streamrec.errors import ConfigError
from streamrec.models.base import Context, Law, Walk
from streamrec.state.columns import Columns


class MostPopular:
    """The same forecast for every user: all-time popularity.

    Parameters
    ----------
    background : column of the bank's member that is the forecast

    Raises
    ------
    ConfigError
        If the bank has no such member.

    Examples
    --------
    >>> MostPopular(Context("most_popular", None, n_backgrounds=2, seed=0)).background
    0
    """

    gives_marks = True
    law: Law | None = None

    def __init__(self, context: Context, background: int = 0) -> None:
        if not 0 <= background < context.n_backgrounds:
            raise ConfigError(
                f"{context.name}: background: expected below {context.n_backgrounds}, got {background}"
            )
        self.name = context.name
        self.background, self.n_columns = background, context.n_backgrounds + 1

    def walk(self, batch: Batch) -> Walk:
        """The same lists at arrival and at issue; the bank differs between the two moments."""
        return Walk(marks_arrival=self._lists(batch), marks_issued=self._lists(batch))

    def learn(self, batch: Batch) -> None:
        """Nothing to learn here."""

    def remap_marks(self, new_id: Ints) -> None:
        """No mark is kept here."""

    def tables(self) -> Mapping[str, Columns]:
        """No tables."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """No state."""
        return {}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Nothing to take back."""

    def _lists(self, batch: Batch) -> MarkLists:
        background = np.zeros((batch.n_sets, self.n_columns), np.float64)
        background[:, self.background] = 1.0
        start = np.zeros(batch.n_sets + 1, np.int64)
        return MarkLists(start, np.empty(0, np.int32), np.empty(0, np.float64), background)


class RecentPopular(MostPopular):
    """Popularity that halves every 500 events, member 1 of the bank."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, background=1)
