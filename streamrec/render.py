"""From the arrays of a cut to the published records.

The numbers were rounded before they were scored (`mixture/kernels_published.py`, `waiting_table.py`);
here they only change their form.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from streamrec.event import TieSet
from streamrec.forecast import Forecast, Hazard, LargeSet, MarkChance, Wait
from streamrec.mixture.kernels_published import Published as PublishedMarks
from streamrec.mixture.waiting_table import LEVELS, round_printed
from streamrec.mixture.waiting_table import Published as PublishedWaits
from streamrec.state.vocabulary import Vocabulary

MODEL = "mixture"


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
        waiting = self._waits(waits)
        for i, (tie, wait, interval) in enumerate(zip(sets, waiting, _intervals(waits), strict=True)):
            listed = self._marks(marks, i)
            yield Forecast(
                id=f"{tie.topic}:{tie.partition}:{tie.offset}:{self.lane}:{MODEL}",
                user=tie.user,
                issued_at=tie.time,
                marks=listed,
                p_new_mark=float(marks.p_new[i]),
                p_rest=float(marks.p_rest[i]),
                n_rest=int(marks.n_rest[i]),
                n_new=int(marks.n_new[i]),
                wait=wait,
                set90=smallest_set(listed, int(marks.set_size[i]), float(marks.set_p[i])),
                interval90=interval,
            )

    def _marks(self, marks: PublishedMarks, i: int) -> list[MarkChance]:
        n = int(marks.n[i])
        pairs = zip(marks.mark[i, :n].tolist(), marks.p[i, :n].tolist(), strict=True)
        return [MarkChance(self.vocabulary.mark_of(mark), p) for mark, p in pairs]

    def _waits(self, waits: PublishedWaits) -> Iterator[Wait]:
        names = [f"{level:g}" for level in LEVELS]
        within = {f"{h:g}": round_printed(waits.within(h)).tolist() for h in self.within_s}
        quantiles, mean = round_printed(waits.quantiles).tolist(), round_printed(waits.mean).tolist()
        never = round_printed(waits.never).tolist()
        edges, rates, tails = waits.edges_s.tolist(), waits.rates.tolist(), waits.tail.tolist()
        for i, row in enumerate(quantiles):
            yield Wait(
                quantiles=dict(zip(names, row, strict=True)),
                mean=mean[i],
                within={h: values[i] for h, values in within.items()},
                never=never[i],
                hazard=Hazard(edges, rates[i], tails[i]) if self.hazard else None,
            )


def _intervals(waits: PublishedWaits) -> Iterator[list[float | None]]:
    for low, high in round_printed(waits.interval).tolist():
        yield [low, high if np.isfinite(high) else None]


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
