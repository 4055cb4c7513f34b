"""The whole engine: bits that must not change, and the bounds of both mixtures on real and simulated logs."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from model_stage import odd_stream

from streamrec.arrays import Floats
from streamrec.errors import ConfigError
from streamrec.evaluate import evaluate, open_scores
from streamrec.event import Event, TieSet
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import open_files
from streamrec.eventlog.memory import MemorySource
from streamrec.lane import Lane
from streamrec.mixture.waiting_weights import FLOOR
from streamrec.models.bank import DEFAULT_BANK
from streamrec.outputs import Outputs
from streamrec.processor import CutResult, Engine
from streamrec.settings import load_settings
from streamrec.simulate import hour_scale_processes, simulate
from streamrec.state.digest import learned_digest
from streamrec.state.snapshot import merge, restore_into, snapshot_of
from streamrec.stream import Coded, Events, drive

COUNT = tuple(name for name in DEFAULT_BANK if name != "recurrent")
STREAM = odd_stream(5, 500)


def engine(**flags: object) -> Engine:
    return Engine(load_settings(None, {name.replace("__", "."): v for name, v in flags.items()}, {}))


def run(one: Engine, sets: Sequence[TieSet], cut: int) -> list[CutResult]:
    return [one.process(sets[a : a + cut]) for a in range(0, len(sets), cut)]


def digest(one: Engine) -> str:
    return learned_digest(one.components())


def fields_of(published: object) -> Sequence[str]:
    """Names of the columns that have a row for every set."""
    return getattr(published, "_fields", None) or [
        n for n in type(published).__dataclass_fields__ if n != "edges_s"
    ]


def scores(results: Sequence[CutResult]) -> dict[str, Floats]:
    """Every score of a run, and what was published."""
    joined = {}
    for part, names in (
        ("marks", ("log_score", "rank", "issued_log_score", "issued_rank")),
        ("waits", ("log_issued", "log_point", "log_arrival", "pit", "median", "mean", "log_density_issued")),
    ):
        for name in names:
            joined[name] = np.concatenate([getattr(getattr(r, part), name) for r in results], axis=-1)
    for part in ("marks", "waits"):
        for name in fields_of(getattr(results[0], part).published):
            columns = [np.asarray(getattr(getattr(r, part).published, name)) for r in results]
            joined[f"{part}.{name}"] = np.concatenate(columns)
    return joined


def assert_same(one: dict[str, Floats], other: dict[str, Floats]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.parametrize("cut", [1, 7, 64])
def test_without_neural_experts_the_size_of_a_cut_changes_no_bit(cut):
    sets = STREAM[:160]
    one, other = engine(models__enabled=COUNT), engine(models__enabled=COUNT)
    assert_same(scores(run(one, sets, len(sets))), scores(run(other, sets, cut)))
    for name, component in one.components().items():
        if name != "boards":  # sums of scores are taken cut by cut, and so rounded
            assert learned_digest({name: component}) == learned_digest({name: other.components()[name]}), name
    for name, sums in one.boards.scalars().items():
        np.testing.assert_allclose(sums, other.boards.scalars()[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_an_engine_loaded_from_a_base_and_what_was_touched_goes_on_as_if_never_stopped():
    straight, saved, resumed = engine(), engine(), engine()
    run(straight, STREAM[:320], 32)
    run(saved, STREAM[:160], 32)
    base = snapshot_of(saved.components(), 160)
    run(saved, STREAM[160:320], 32)
    restored = restore_into(resumed.components(), merge(base, snapshot_of(saved.components(), 320)))
    assert restored.missing == restored.ignored == []
    assert digest(resumed) == digest(saved) == digest(straight)
    assert_same(scores(run(straight, STREAM[320:], 32)), scores(run(resumed, STREAM[320:], 32)))
    assert digest(resumed) == digest(straight)


def test_small_caps_and_long_streams_leave_an_engine_that_replays_and_resumes():
    caps = {"state__max_users": 32, "state__user_floor": 8, "state__max_marks": 48, "state__mark_floor": 8}
    stream = odd_stream(6, 1200, n_users=120, n_raw=200)
    straight, resumed = engine(**caps), engine(**caps)
    results = run(straight, stream[:800], 40)
    straight.make_room()  # the next cut would begin with it
    assert straight.arena.n_evicted > 40 and straight.vocabulary.n_ever > straight.vocabulary.n_marks
    assert straight.arena.n_users <= 32 and straight.vocabulary.n_marks <= 48
    for result in results:
        mixed = result.waits.log_issued[0]
        assert np.isfinite(result.marks.log_score[0]).all() and np.isfinite(mixed[~np.isnan(mixed)]).all()
    saved = engine(**caps)
    run(saved, stream[:400], 40)
    base = snapshot_of(saved.components(), 400)
    run(saved, stream[400:800], 40)
    restore_into(resumed.components(), merge(base, snapshot_of(saved.components(), 800)))
    assert_same(scores(run(straight, stream[800:], 40)), scores(run(resumed, stream[800:], 40)))
    assert digest(resumed) == digest(straight)


def as_events(sets: Sequence[TieSet]) -> list[Event]:
    return [Event(s.user, m, s.time, partition=s.partition) for s in sets if not s.further for m in s.marks]


def driven(events: list[Event], **flags: object) -> Lane:
    settings = load_settings(None, {name.replace("__", "."): v for name, v in flags.items()}, {})
    lane = Lane(settings, Outputs())
    log = Coded(MemorySource.of_events(events), JsonCodec(FieldNames()), len(events))
    for _ in drive(Events(log), lane):
        pass
    return lane


def test_the_order_in_which_tied_events_arrive_changes_no_bit_of_what_is_learned():
    events = as_events(STREAM[:300])
    rng = np.random.default_rng(0)
    turned, i = [], 0
    while i < len(events):
        j = i
        while j < len(events) and (events[j].user, events[j].time) == (events[i].user, events[i].time):
            j += 1
        turned += [events[k] for k in i + rng.permutation(j - i)]
        i = j
    assert sum(a.mark != b.mark for a, b in zip(events, turned, strict=True)) > 100
    assert driven(events).learned() == driven(turned).learned()


def test_asking_for_forecasts_changes_no_bit_and_strangers_are_refused():
    lane = driven(as_events(STREAM[:200]))
    before, position = lane.learned(), lane.position()
    rows = np.arange(lane.engine.arena.n_users)
    lane.engine.marks.forecast(rows)
    lane.engine.waits.forecast(rows, np.full(len(rows), 100.0))
    lane.engine.waits.open_score(rows, np.full(len(rows), 100.0))
    record = lane.forecast("u1", lane.engine.last_time("u1") + 5.0)
    assert record.user == "u1" and lane.forecast("u1", lane.engine.last_time("u1") + 5.0) == record
    with pytest.raises(ConfigError, match="never seen"):
        lane.forecast("nobody")
    assert (lane.learned(), lane.position()) == (before, position)


def simulated(kind: str, events: int = 2500) -> list[Event]:
    outcome = simulate(hour_scale_processes(12, 3)[kind], events, users=60, seed=4, entry_s=7200.0)
    columns = (outcome.user.tolist(), outcome.mark.tolist(), np.round(outcome.time).tolist())
    return [Event(f"u{u}", f"m{m}", 1.7e9 + t) for u, m, t in zip(*columns, strict=True)]


class Outcome(NamedTuple):
    """A stream that an engine has seen: its report, its results in order, and its digest."""

    report: dict
    results: list[CutResult]
    engine: Engine
    open_at: Floats


@cache
def outcome_of(name: str, folder: Path | None) -> Outcome:
    lane = Lane(load_settings(None, {}, {}), Outputs())
    if folder is None:
        events = simulated(name)
        log = Coded(MemorySource.of_events(events), JsonCodec(FieldNames()), len(events))
    else:
        log = open_files([str(folder / f"{name}.csv.gz")], FieldNames())
    results: list[CutResult] = []
    report = evaluate(Events(log, 2500), lane, on_cut=results.append)
    return Outcome(report, results, lane.engine, lane.extra["windows"].open_at)


SIMULATED, REAL = ("sessions", "hawkes", "renewal"), ("taxi", "taobao", "helpdesk", "movielens_small")


@pytest.fixture(params=[*SIMULATED, *REAL])
def outcome(request: pytest.FixtureRequest) -> Outcome:
    if request.param in SIMULATED:
        return outcome_of(request.param, None)
    return outcome_of(request.param, request.getfixturevalue("data"))


def test_marks_cost_at_most_ln_n_plus_1_more_than_the_best_member_where_it_was_awake(outcome):
    score = np.concatenate([r.marks.log_score for r in outcome.results], axis=1)
    mixture, members = score[0], score[1 : 1 + outcome.engine.marks.n_mixed + 1]
    assert len(members) == outcome.engine.marks.n_mixed + 1
    for name, member in zip(outcome.engine.marks.names[1:], members, strict=False):
        awake = ~np.isnan(member)
        regret = (member - mixture)[awake].sum()
        assert regret <= np.log(len(members)) + 1e-6, name


def test_waits_cost_no_user_more_than_its_prior_against_any_expert_or_their_team(outcome):
    """Σ over a user's gaps of (member - mixture) <= -ln w0 of that member, where the member was awake."""
    names, n = outcome.engine.waits.names, outcome.engine.waits.n_experts
    row = np.concatenate([r.batch.row for r in outcome.results])
    first = np.concatenate([np.isnan(r.batch.dt) for r in outcome.results])
    score = np.concatenate([r.waits.log_issued for r in outcome.results], axis=1)
    log_w = np.concatenate([r.waits.log_weights for r in outcome.results])
    assert names[:2] == ("mixture", "soft_bayes") and log_w.shape[1] == n + 1
    prior = np.full((row.max() + 1, n + 1), np.nan)
    prior[row[first]] = log_w[first]
    assert (prior >= np.log(FLOOR / (n + 1)) - 1e-12).all()
    for member, column in [(score[2 + k], k) for k in range(n)] + [(score[1], n)]:
        lost = np.bincount(row, np.nan_to_num(member - score[0]), len(prior))
        assert (lost <= -prior[:, column] + 1e-6).all(), names[2 + column if column < n else 1]


def test_no_score_of_a_mixture_or_expert_is_infinite(outcome):
    names = outcome.engine.waits.names
    for name, figures in {"mixture": outcome.report["mixture"], **outcome.report["experts"]}.items():
        for part in ("mark", "time"):
            if part in figures and figures[part]["events"]:
                key = "nll" if part == "mark" else "log_likelihood_open"
                assert np.isfinite(figures[part][key]), (name, part)
    assert names[0] == "mixture"


def test_the_open_likelihood_is_a_sum_over_windows_and_over_gaps_and_open_waits(outcome):
    """A window without a scored gap has no mean to show; its share is the change of the open waits."""
    report, names, opened = outcome.report, outcome.engine.waits.names, np.diff(outcome.open_at, axis=0)
    issued = np.concatenate([r.waits.log_issued for r in outcome.results], axis=1)
    by_hand = np.nansum(issued, axis=1) + open_scores(outcome.engine)
    for i, name in enumerate(names):
        whole, windows = (_time_of(part, name) for part in (report, report["windows"]))
        n = [w["events"] for w in windows]
        assert len(windows) == 20 and sum(n) == whole[0]["events"] > 0
        total = sum(
            w["log_likelihood_open"] * k if k else opened[v, i]
            for v, (w, k) in enumerate(zip(windows, n, strict=True))
        )
        figure = whole[0]["log_likelihood_open"] * whole[0]["events"]
        np.testing.assert_allclose([total, figure], by_hand[i], rtol=1e-9, err_msg=name)


def _time_of(reports: dict | list[dict], name: str) -> list[dict]:
    several = reports if isinstance(reports, list) else [reports]
    return [
        (r["mixture"] if name == "mixture" else {**r["naive"], **r["layers"], **r["experts"]}[name])["time"]
        for r in several
    ]


def test_evaluating_a_log_learns_what_running_it_learns():
    events = simulated("sessions")
    assert outcome_of("sessions", None).report["digest"] == driven(events).learned()
