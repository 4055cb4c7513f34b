"""From the arrays of a cut to the published records.

The numbers were rounded before they were scored (`mixture/kernels_published.py`, `waiting_table.py`);
here they only change their form.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import repeat
from math import isfinite
from typing import Final

import numpy as np

from streamrec.event import TieSet
from streamrec.forecast import Forecast, Hazard, LargeSet, MarkChance, Wait
from streamrec.mixture.kernels_published import Published as PublishedMarks
from streamrec.mixture.waiting_table import LEVELS, round_printed
from streamrec.mixture.waiting_table import Published as PublishedWaits
from streamrec.state.vocabulary import Vocabulary

MODEL = "mixture"
_LEVELS: Final = [f"{level:g}" for level in LEVELS]

MarkPart = tuple[list[MarkChance], tuple[float, float, int, int], "list[str] | LargeSet"]


class Renderer:
    """Makes records of forecasts.

    Parameters
    ----------
    vocabulary : names of the marks
    within_s : horizons of `within`
    hazard : whether records carry the hazard table
    lane : number of the lane, for the ids
    """

    def __init__(
        self, vocabulary: Vocabulary, within_s: Sequence[float], hazard: bool, lane: int = 0
    ) -> None:
        self.vocabulary = vocabulary
        self.within_s = tuple(within_s)
        self.hazard = hazard
        self.lane = lane

    def records(
        self, sets: Sequence[TieSet], marks: PublishedMarks, waits: PublishedWaits
    ) -> Iterator[Forecast]:
        """One record per set, in order; an index of the published arrays belongs to a set each."""
        parts = self._marks(marks), self._waits(waits), _intervals(waits)
        for tie, (listed, chances, set90), wait, interval in zip(sets, *parts, strict=True):
            yield Forecast(
                f"{tie.topic}:{tie.partition}:{tie.offset}:{self.lane}:{MODEL}",
                tie.user,
                tie.time,
                listed,
                *chances,
                wait,
                set90,
                interval,
            )

    def _marks(self, marks: PublishedMarks) -> Iterator[MarkPart]:
        """What a record says of marks: the list; p_new_mark, p_rest, n_rest, n_new; set90."""
        ids, p, n = marks.mark.tolist(), marks.p.tolist(), marks.n.tolist()
        sizes = marks.n_rest.astype(np.int64).tolist(), marks.n_new.astype(np.int64).tolist()
        chances = zip(marks.p_new.tolist(), marks.p_rest.tolist(), *sizes, strict=True)
        sets = marks.set_size.astype(np.int64).tolist(), marks.set_p.tolist()
        mark_of = cache(self.vocabulary.mark_of)
        for mine, q, k, four, size, least in zip(ids, p, n, chances, *sets, strict=True):
            listed = [MarkChance(mark_of(mark), x) for mark, x in zip(mine[:k], q[:k], strict=True)]
            yield listed, four, smallest_set(listed, size, least)

    def _waits(self, waits: PublishedWaits) -> Iterator[Wait]:
        within = [round_printed(waits.within(h)).tolist() for h in self.within_s]
        horizons = [f"{h:g}" for h in self.within_s]
        quantiles, mean = round_printed(waits.quantiles).tolist(), round_printed(waits.mean).tolist()
        never = round_printed(waits.never).tolist()
        edges, rates, tails = waits.edges_s.tolist(), waits.rates.tolist(), waits.tail.tolist()
        chances = zip(*within, strict=True) if within else repeat((), len(mean))
        for row, middle, gone, p, rate, tail in zip(
            quantiles, mean, never, chances, rates, tails, strict=True
        ):
            hazard = Hazard(edges, rate, tail) if self.hazard else None
            yield Wait(dict(zip(_LEVELS, row)), middle, dict(zip(horizons, p)), gone, hazard)  # noqa: B905


def _intervals(waits: PublishedWaits) -> Iterator[list[float | None]]:
    for low, high in round_printed(waits.interval).tolist():
        yield [low, high if isfinite(high) else None]


def smallest_set(listed: Sequence[MarkChance], size: int, least: float) -> list[str] | LargeSet:
    """The smallest set of known marks that holds 90 %: by name where the published list reaches that far.

    Examples
    --------
    >>> smallest_set([MarkChance("a", 0.7), MarkChance("b", 0.25), MarkChance("c", 0.01)], 2, 0.25)
    ['a', 'b']
    >>> smallest_set([MarkChance("a", 0.5)], 812, 0.0004)
    LargeSet(size=812, p_threshold=0.0004)
    """
    if size <= len(listed):
        return [m.mark for m in listed[:size]]
    return LargeSet(size, least)
