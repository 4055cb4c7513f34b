"""No score beats the truth: canaries with a known oracle, and the leak that they must catch."""

from typing import NamedTuple

import numpy as np
import pytest
from recurrent_streams import Cutter, Stream, context, dense_marks, gains, poisson, run, scored_with_issued

from streamrec.arrays import Floats, Ints
from streamrec.batch import Batch
from streamrec.models.base import Walk
from streamrec.models.recurrent import Recurrent, Trace
from streamrec.nn.hazard import Opened, Pieces

LN_1000 = np.log(1000.0)


class Leaky(Recurrent):
    """The loss that may not be used: −ln f(dt) at arrival, on the stored state."""

    def _pieces(self, trace: Trace, ended: Ints, end: Floats, drawn: Opened, weight: Floats) -> Pieces:
        return Pieces.of(ended, np.zeros(len(ended)), end - trace.opened.last[ended])


class Verdict(NamedTuple):
    """Sums of ln(model / oracle) with open waits charged, and the mean difference in the second half."""

    issued: float
    arrival: float
    apart: float
    mean_issued: float


def judge(model: Recurrent, stream: Stream, cut: int, rate: float = 1.0) -> Verdict:
    answers = run(model, stream, cut)
    issued, left_open = gains(model, stream, answers, scored_with_issued(stream, answers), rate)
    arrival, _ = gains(model, stream, answers, answers.arrival, rate)
    late = np.arange(stream.n) >= stream.n // 2
    return Verdict(
        issued=float(np.nansum(issued) + np.nansum(left_open)),
        arrival=float(np.nansum(arrival[late])),
        apart=float(np.nanmean((arrival - issued)[late])),
        mean_issued=float(np.nanmean(issued[late])),
    )


@pytest.fixture(scope="module")
def many_users() -> Stream:
    return poisson(1500, 12, 1)[0]


@pytest.mark.parametrize("cut", [64, 512])
def test_on_poisson_the_issued_score_never_beats_the_oracle_and_arrival_agrees(
    many_users: Stream, cut: int
) -> None:
    verdict = judge(Recurrent(context(1500), width=32), many_users, cut)
    assert verdict.issued <= LN_1000
    assert abs(verdict.apart) <= 0.05


def test_the_planted_leak_beats_the_oracle_at_arrival_and_ruins_what_is_issued(many_users: Stream) -> None:
    honest = judge(Recurrent(context(1500), width=32), many_users, 64)
    leaky = judge(Leaky(context(1500), width=32), many_users, 64)
    assert leaky.arrival > LN_1000
    assert leaky.apart > 0.05
    assert leaky.mean_issued < honest.mean_issued - 0.05


def renewal(users: int, events: int, seed: int) -> Stream:
    """Two marks in turn: a short wait after mark 0, a long one after mark 1, both log-normal."""
    random = np.random.default_rng(seed)
    turn = (np.arange(events) + random.integers(0, 2, (users, 1))) % 2
    gap = np.exp(random.normal(np.where(turn == 1, 0.0, 4.0), 0.5))
    begin = random.uniform(0, 60.0 * events, (users, 1))
    row = np.repeat(np.arange(users), events)
    first = int(turn.ravel()[np.argmin((begin + np.cumsum(gap, axis=1)).ravel())])
    return Stream.of(row, (begin + np.cumsum(gap, axis=1)).ravel(), turn.ravel() ^ first)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 3600.0])
def test_a_renewal_stream_is_learned_in_any_unit_of_time(unit: float) -> None:
    stream = renewal(150, 50, 4)
    stream = stream._replace(time=stream.time * unit)
    model = Recurrent(context(150), width=32)
    answers = run(model, stream, 64)
    late = np.arange(stream.n) >= stream.n // 2
    at_risk = np.array([stream.time[-1] - stream.time[stream.row == u].min() for u in range(150)]).sum()
    rate = (stream.n - 150) / at_risk
    better, _ = gains(model, stream, answers, scored_with_issued(stream, answers), rate)
    assert np.nanmean(better[late]) > 1.0  # ln of the ratio to a pooled Poisson process, in nats an event
    p = np.concatenate(
        [_p_of_marks(walk, b) for walk, (_, b) in zip(answers.walks, Cutter(stream).cuts(64), strict=True)]
    )
    assert p[late].mean() > 0.9


def _p_of_marks(walk: Walk, batch: Batch) -> Floats:
    """Probability at arrival of the one mark of every set."""
    assert walk.marks_arrival is not None
    p: Floats = dense_marks(walk.marks_arrival, batch.n_marks)[np.arange(batch.n_sets), batch.mark]
    return p
