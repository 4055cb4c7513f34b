"""No count model, naive rule or mixture beats the truth, at any cut; planted leaks do, and are seen to."""

from functools import cache

import numpy as np
import pytest
from truths import COUNT, WAITING, WHOLE, WINDOW, Canary, Verdict, canary, engine_of, judge, plant

from streamrec.arrays import Floats
from streamrec.batch import Batch
from streamrec.models.base import Walk
from streamrec.processor import Engine

KINDS = ("poisson", "gamma-poisson", "hawkes")
OF_THE_LAW = {"poisson": "hawkes_1s", "gamma-poisson": "gamma_poisson", "hawkes": "hawkes_1m"}
"""An expert that issues the same law as the truth, and lends it its place."""


@cache
def count_verdict(kind: str, cut: int) -> Verdict:
    """The whole bank at 64, the waiting experts with one mark expert at other cuts."""
    enabled = COUNT if cut == 64 else (*WAITING, "context_3")
    return judge(engine_of(enabled), canary(kind), cut, events=3000 if cut == 1 else None)


def settled(kind: str) -> Canary:
    """Few users with 80 events each: a cut of 64 is a fifth of a gap long."""
    return canary(kind, 24_000, 300)


@pytest.mark.parametrize("cut", [1, 64, 512])
@pytest.mark.parametrize("kind", KINDS)
def test_no_issued_wait_beats_the_truth(kind, cut):
    verdict = count_verdict(kind, cut)
    assert len(verdict.names) >= 9
    assert verdict.offenders() == {}
    assert np.isfinite(verdict.whole).all()


@pytest.mark.parametrize("cut", [1, 64, 512])
@pytest.mark.parametrize("kind", KINDS)
def test_no_mark_forecast_beats_the_truth(kind, cut):
    assert count_verdict(kind, cut).mark_offenders() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_at_microseconds_cells_and_densities_are_the_same_score(kind):
    verdict = count_verdict(kind, 64)
    assert verdict.resolution == 1e-6
    assert verdict.cell_minus_point < 2e-5


@pytest.mark.parametrize("kind", KINDS)
def test_in_settled_times_the_score_at_arrival_is_the_one_issued(kind):
    """A rule that gives a gap ten times its median loses 9.5 nats a gap, and 1 % of that is no leak."""
    verdict = judge(engine_of((*WAITING, "context_1")), settled(kind), 64)
    apart = dict(zip(verdict.names, np.abs(verdict.apart), strict=True))
    if kind == "hawkes":
        del apart["constant_gap"]
    assert {name: a for name, a in apart.items() if not a <= 0.02} == {}
    assert verdict.offenders() == {}


def telling_the_truth(stream: Canary, kind: str) -> Engine:
    """An engine in which one expert issues what the truth would."""
    laws = stream.laws()

    def change(batch: Batch, walk: Walk) -> Walk:
        return walk._replace(wait_issued=laws[batch.serial : batch.serial + batch.n_sets])

    return plant(engine_of((*WAITING[:4], "context_1")), OF_THE_LAW[kind], change)


@pytest.mark.parametrize("cut", [64, 512])
@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_itself_gains_nothing_in_any_window(kind, cut):
    """So grid, frozen parameters, open waits and windows add neither more nor less."""
    verdict = judge(telling_the_truth(canary(kind), kind), canary(kind), cut)
    told = verdict.names.index(OF_THE_LAW[kind])
    np.testing.assert_allclose(verdict.windows[told], 0.0, atol=5e-3)
    assert abs(verdict.whole[told]) < 5e-3


def issued_at_the_end(stream: Canary, kind: str) -> Engine:
    """The truth of a user, published when the cut is over and it is known how long the user stayed silent."""
    laws, times = stream.laws(), np.array([s.time for s in stream.sets])

    def change(batch: Batch, walk: Walk) -> Walk:
        here = np.arange(batch.serial, batch.serial + batch.n_sets)
        following = np.full(batch.n_sets, -1)
        later = np.flatnonzero(batch.previous >= 0)
        following[batch.previous[later]] = here[later]
        silent = np.where(following < 0, times[here[-1]] - times[here], 0.0)
        return walk._replace(wait_issued=_knowing(laws[here], silent, kind))

    return plant(engine_of((*WAITING[:4], "context_1")), OF_THE_LAW[kind], change)


def _knowing(laws: Floats, silent: Floats, kind: str) -> Floats:
    known = laws.copy()
    if kind == "gamma-poisson":
        known[:, 1] += silent
    else:
        known[:, 1] *= np.exp(-laws[:, 2] * silent)
    return known


@pytest.mark.parametrize("cut", [64, 512])
@pytest.mark.parametrize("kind", ["gamma-poisson", "hawkes"])
def test_the_canary_dies_of_a_truth_that_is_issued_when_the_cut_is_over(kind, cut):
    stream = settled(kind) if cut == 64 else canary(kind)
    verdict = judge(issued_at_the_end(stream, kind), stream, cut)
    leak = verdict.names.index(OF_THE_LAW[kind])
    assert verdict.whole[leak] > WHOLE
    if cut == 512:
        assert verdict.windows[leak].max() > WINDOW


def with_late_gamma_poisson(kind: str, cut: int) -> Verdict:
    """The model itself, asked again for every set of a cut after the cut was learned."""
    engine = engine_of(("gamma_poisson", "context_1"))
    model, arena = engine.models["gamma_poisson"], engine.arena

    def change(batch: Batch, walk: Walk) -> Walk:
        shape, scale, gone = model.prior()
        n, spent, since = (arena[f"gamma_poisson.{c}"][batch.row] for c in ("n", "spent", "since"))
        silent = batch.time.max() - since
        late = np.stack([shape + n, scale + spent + silent, np.full(batch.n_sets, gone)], axis=1)
        return walk._replace(wait_issued=late)

    return judge(plant(engine, "gamma_poisson", change), canary(kind), cut)


@pytest.mark.parametrize("kind", ["poisson", "gamma-poisson"])
def test_the_canary_dies_of_a_gamma_poisson_that_issues_after_learning(kind):
    """Where the model itself is still far from the truth, the windows see what the whole does not."""
    offenders = with_late_gamma_poisson(kind, 512).offenders()
    assert {"gamma_poisson in a window", "mixture in a window"} <= offenders.keys()
    assert kind == "poisson" or {"gamma_poisson", "mixture"} <= offenders.keys()


def test_the_canary_dies_of_mark_lists_made_after_the_cut_was_learned():
    engine = engine_of(("gamma_poisson", "context_3"))
    model = engine.models["context_3"]
    walk = model.walk
    model.walk = lambda batch: (walk(batch), walk(batch))[1]
    verdict = judge(engine, canary("poisson"), 512)
    assert verdict.mark_windows[verdict.mark_names.index("context_3")].max() > WINDOW
    assert "mixture in a window" in verdict.mark_offenders()
