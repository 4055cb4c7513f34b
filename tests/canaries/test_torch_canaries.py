"""The recurrent expert inside the whole engine against the truth, and the loss that the canary must catch."""

from functools import cache

import numpy as np
import pytest
from truths import WHOLE, Verdict, canary, engine_of, judge

from streamrec.arrays import Floats, Ints
from streamrec.models.recurrent import Recurrent, Trace
from streamrec.nn.hazard import Opened, Pieces

BANK = ("recurrent", "gamma_poisson", "context_1")
CUTS = [
    ("poisson", 1),
    *((kind, cut) for kind in ("poisson", "gamma-poisson", "hawkes") for cut in (64, 512)),
]


@cache
def verdict_of(kind: str, cut: int) -> Verdict:
    return judge(engine_of(BANK), canary(kind), cut, events=5000 if cut == 1 else None)


@pytest.mark.parametrize("kind, cut", CUTS)
def test_with_a_neural_expert_nobody_beats_the_truth(kind, cut):
    verdict = verdict_of(kind, cut)
    assert "recurrent" in verdict.names and "recurrent" in verdict.mark_names
    assert verdict.offenders() == {} and verdict.mark_offenders() == {}


@pytest.mark.parametrize("kind, cut", CUTS[1:])
def test_in_settled_times_the_neural_score_at_arrival_is_the_one_issued(kind, cut):
    """The second half of 24,000 events of 300 users; 12,000 are too few for the network to have settled."""
    verdict = judge(engine_of(BANK), canary(kind, 24_000, 300), cut)
    assert abs(verdict.apart[verdict.names.index("recurrent")]) <= 0.05
    assert verdict.offenders() == {}


class AtArrival(Recurrent):
    """The loss that may not be used: -ln f(dt) at arrival, on the stored state; nothing for open waits."""

    def _pieces(self, trace: Trace, ended: Ints, end: Floats, drawn: Opened, weight: Floats) -> Pieces:
        return Pieces.of(ended, np.zeros(len(ended)), end - trace.opened.last[ended])


def test_the_canary_dies_of_the_loss_at_arrival_with_stored_states(monkeypatch):
    monkeypatch.setattr(Recurrent, "_pieces", AtArrival._pieces)
    leaky, honest = judge(engine_of(BANK), canary("poisson"), 64), verdict_of("poisson", 64)
    at = leaky.names.index("recurrent")
    assert leaky.arrival_late[at] > WHOLE
    assert leaky.apart[at] > 0.05
    assert leaky.whole[at] < honest.whole[at]
