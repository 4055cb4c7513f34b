"""The contract of the recurrent expert: pure forecasts, exact charges, state that survives."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from recurrent_streams import Answers, Cutter, Stream, context, dense_marks, hashes_of, poisson, run

from streamrec.batch import Batch
from streamrec.errors import InvariantError
from streamrec.models.base import Walk
from streamrec.models.recurrent import Recurrent, Trace
from streamrec.nn.network import Work
from streamrec.state.columns import Columns


def small(rows: int = 40, seed: int = 0, rate: float = 6e-3, table_rate: float = 0.1) -> Recurrent:
    return Recurrent(context(rows, seed), 16, 8, 3, rate, table_rate)


def tied_stream(users: int = 12, events: int = 12, seed: int = 3, marks: int = 6) -> Stream:
    """A stream whose sets hold one to eleven marks."""
    stream, _ = poisson(users, events, seed, marks)
    random = np.random.default_rng(seed)
    counts = random.choice([1, 1, 1, 2, 11], stream.n)
    known = np.maximum.accumulate(np.concatenate([[-1], stream.mark]))[:-1] + 1
    sets = [
        [m, *random.integers(0, max(k, 1), c - 1)] for m, k, c in zip(stream.mark, known, counts, strict=True)
    ]
    mark = np.concatenate(sets).astype(np.int64)
    return stream._replace(start=np.concatenate([[0], np.cumsum(counts)]), mark=mark)


def assert_same_answers(one: Answers, two: Answers, rtol: float) -> None:
    compare = (
        np.testing.assert_array_equal
        if rtol == 0
        else lambda a, b: np.testing.assert_allclose(a, b, rtol, 1e-6)
    )
    compare(one.issued, two.issued)
    compare(one.arrival, two.arrival)
    for name in ("marks_arrival", "marks_issued"):
        a, b = (np.concatenate([getattr(w, name).p for w in answers.walks]) for answers in (one, two))
        compare(a, b)


def test_frozen_weights_answer_alike_one_by_one_in_cuts_and_at_once() -> None:
    stream = tied_stream()
    trained = small()
    run(trained, stream, 16)
    answers = []
    for cut in (1, 5, 64, stream.n):
        model = small()
        model.marks = trained.marks
        model.network = trained.network
        answers.append(run(model, stream, cut, learn=False))
    for other in answers[1:]:
        assert_same_answers(answers[0], other, 1e-5)


def test_batch_mates_do_not_matter() -> None:
    stream = tied_stream()
    trained = small()
    run(trained, stream, 16)
    mine = np.flatnonzero(stream.row == 4)
    alone = small()
    alone.marks, alone.network = trained.marks, trained.network
    again = small()
    again.marks, again.network = trained.marks, trained.network
    everyone = run(again, stream, 32, learn=False)
    cutter = Cutter(stream)
    for s in mine.tolist():
        batch = cutter.cut(s, s + 1)
        walk = alone.walk(batch)
        assert walk.wait_issued is not None
        np.testing.assert_allclose(walk.wait_issued[0], everyone.issued[s], rtol=1e-5, atol=1e-6)


def test_nothing_later_reaches_a_forecast() -> None:
    stream = tied_stream()
    model, other = small(), small()
    cutter = Cutter(stream)
    for _, batch in cutter.cuts(64, 64):
        for m in (model, other):
            m.walk(batch)
            m.learn(batch)
    batch = cutter.cut(64, 128)
    at = 30
    first = int(batch.start[at])
    random = np.random.default_rng(0)
    mark, time, dt = batch.mark.copy(), batch.time.copy(), batch.dt.copy()
    mark[first:] = random.integers(0, 3, len(mark) - first)
    time[at:] += 5.0
    dt[at:] *= 3.0
    a = model.walk(batch)
    b = other.walk(replace(batch, mark=mark, time=time, dt=dt))
    for one, two in ((a.wait_issued, b.wait_issued), (a.wait_arrival, b.wait_arrival)):
        assert one is not None and two is not None
        assert np.array_equal(one[:at], two[:at])
        assert not np.array_equal(one[at:], two[at:])
    for x, y in ((a.marks_issued, b.marks_issued), (a.marks_arrival, b.marks_arrival)):
        assert x is not None and y is not None
        p, q = dense_marks(x, batch.n_marks), dense_marks(y, batch.n_marks)
        assert np.array_equal(p[:at], q[:at])


def test_arrival_repeats_what_was_issued_as_long_as_nothing_is_learned() -> None:
    stream = tied_stream()
    answers = run(small(), stream, 16, learn=False)
    previous = Cutter(stream).previous
    later = previous >= 0
    np.testing.assert_allclose(answers.arrival[later], answers.issued[previous[later]], rtol=1e-5, atol=1e-6)


def test_listed_masses_sum_to_one_over_known_marks() -> None:
    stream = tied_stream()
    cutter, model = Cutter(stream), small()
    for _, batch in cutter.cuts(20):
        walk = model.walk(batch)
        assert walk.marks_arrival is not None and walk.marks_issued is not None
        for lists in (walk.marks_arrival, walk.marks_issued):
            total = dense_marks(lists, batch.n_marks).sum(axis=1) + lists.background.sum(axis=1)
            np.testing.assert_allclose(total, 1.0, atol=1e-9)
        for s in range(batch.n_sets):
            ids = walk.marks_arrival.mark[walk.marks_arrival.start[s] : walk.marks_arrival.start[s + 1]]
            assert sorted(ids.tolist()) == list(range(batch.n_known[s]))
        model.learn(batch)


def test_an_untrained_model_forecasts_the_popularity_of_marks() -> None:
    stream, _ = poisson(30, 10, 5, marks=4)
    model = small(30, rate=0.0, table_rate=0.0)
    model.network.weights.flat.zero_()
    run(model, stream, 32)
    model.marks.columns["leave"][:] = 0
    walk = model.walk(Cutter(stream).cut(stream.n - 1, stream.n))
    assert walk.marks_arrival is not None
    count = np.bincount(stream.mark) + 0.5
    np.testing.assert_allclose(walk.marks_arrival.p, count / count.sum(), rtol=1e-5)


def copied(model: Recurrent, rows: int) -> Recurrent:
    """A model restored from what a checkpoint would hold."""
    fresh = small(rows)
    arena: Columns = model.arena
    where, columns = arena.take_touched()
    fresh.arena.put(where, columns)
    for name, table in model.tables().items():
        rows_of_table, values = table.take_touched()
        fresh.tables()[name].put(rows_of_table, values)
    fresh.load_scalars({name: array.copy() for name, array in model.scalars().items()})
    return fresh


def answer(walk: Walk) -> Answers:
    assert walk.wait_issued is not None and walk.wait_arrival is not None
    return Answers(walk.wait_issued, walk.wait_arrival, [walk])


def assert_same_state(one: Recurrent, two: Recurrent) -> None:
    for name, array in one.scalars().items():
        np.testing.assert_array_equal(array, two.scalars()[name], err_msg=name)
    for name in one.arena:
        np.testing.assert_array_equal(one.arena[name], two.arena[name], err_msg=name)
    a, b = one.marks.columns, two.marks.columns
    for name in a:
        n = min(a.capacity, b.capacity)
        np.testing.assert_array_equal(a[name][:n], b[name][:n], err_msg=name)


def test_a_restored_model_goes_on_to_the_last_bit() -> None:
    stream = tied_stream(events=24)
    cutter, model = Cutter(stream, 3), small()
    batches = [batch for _, batch in cutter.cuts(24)]
    for batch in batches[:5]:
        model.walk(batch)
        model.learn(batch)
    restored = copied(model, 40)
    assert_same_state(model, restored)
    for batch in batches[5:]:
        a, b = model.walk(batch), restored.walk(batch)
        assert_same_answers(answer(a), answer(b), 0)
        model.learn(batch)
        restored.learn(batch)
    assert_same_state(model, restored)


def test_a_replay_of_the_same_cuts_gives_the_same_bits() -> None:
    stream = tied_stream()
    one, two = small(), small()
    assert_same_answers(run(one, stream, 16, 2), run(two, stream, 16, 2), 0)
    assert_same_state(one, two)


class Recorder(Recurrent):
    """Keeps what every cut was charged for."""

    charged_s = 0.0
    works: list[Work]

    def _work(self, batch: Batch, trace: Trace, random: np.random.Generator) -> Work:
        work = super()._work(batch, trace, random)
        self.charged_s += float(((work.pieces.b - work.pieces.a) * work.pieces.weight).sum())
        self.works = [*getattr(self, "works", []), work]
        return work


def at_risk(stream: Stream, partitions: int) -> float:
    """Seconds from every user's first set to its partition's last time."""
    first = {int(r): t for r, t in zip(stream.row[::-1], stream.time[::-1], strict=True)}
    end = [stream.time[stream.row % partitions == p].max(initial=-np.inf) for p in range(partitions)]
    return float(sum(end[row % partitions] - t for row, t in first.items()))


@pytest.mark.parametrize(("cut", "partitions"), [(1, 1), (16, 1), (16, 4), (1000, 1), (50, 3)])
def test_every_second_at_risk_is_charged_exactly_once(cut: int, partitions: int) -> None:
    stream = tied_stream(users=30)
    model = Recorder(context(40), width=4, embedding=4, components=1)
    run(model, stream, cut, partitions)
    assert model.charged_s == pytest.approx(at_risk(stream, partitions), rel=1e-9)


def test_sampled_charges_add_up_on_average() -> None:
    stream, _ = poisson(400, 4, 0)
    model = Recorder(context(400), width=4, embedding=4, components=1, sampled=32)
    run(model, stream, 16)
    assert model.charged_s == pytest.approx(at_risk(stream, 1), rel=0.05)


def test_a_cut_that_leaves_the_clock_still_carries_its_waiting_terms_on() -> None:
    stream = tied_stream()
    model = Recorder(context(40), width=4, embedding=4, components=1)
    batches = [batch for _, batch in Cutter(stream).cuts(20)]
    for batch in batches[:3]:
        model.walk(batch)
        model.learn(batch)
    assert model.network.carried_sets == 0 and not model.network.carried.any()
    still = np.full(batches[3].n_sets, model.clock[0])
    before = model.network.weights["head"][:, :-1].detach().clone()  # the law's part
    model.network.weights.first.zero_()
    model.walk(replace(batches[3], time=still))
    model.learn(replace(batches[3], time=still))
    assert not model.works[-1].moved and model.network.carried_sets == 20 and model.network.carried.any()
    assert torch.equal(before, model.network.weights["head"][:, :-1])
    model.walk(batches[4])
    model.learn(batches[4])
    assert model.network.carried_sets == 0 and not torch.equal(before, model.network.weights["head"][:, :-1])


def test_learning_a_cut_that_was_not_walked_is_refused() -> None:
    batch = Cutter(tied_stream()).cut(0, 8)
    with pytest.raises(InvariantError, match=r"call walk\(batch\) just before"):
        small().learn(batch)


def test_broken_updates_are_skipped_counted_and_rolled_back() -> None:
    stream = tied_stream(events=24)
    batches = [batch for _, batch in Cutter(stream).cuts(16)]
    model = small()
    for batch in batches[:4]:
        model.walk(batch)
        model.learn(batch)
    copy = model.network.weights.copy.clone()
    model.network.weights["head"].data[0, 0] = np.nan
    for k, batch in enumerate(batches[4:7]):
        walk = model.walk(batch)
        assert walk.wait_issued is not None and np.isfinite(walk.wait_issued).all()
        assert walk.marks_issued is not None and np.isfinite(walk.marks_issued.p).all()
        model.learn(batch)
        assert model.counter("skipped") == k + 1 and not model.awake
    assert model.counter("rolled_back") == 1 and model.counter("streak") == 0
    assert torch.equal(model.network.weights.flat, copy) and not model.network.weights.first.any()
    for batch in batches[7:]:
        model.walk(batch)
        model.learn(batch)
    assert model.counter("skipped") == 3 and bool(torch.isfinite(model.network.weights.flat).all())


def test_a_broken_state_or_mark_row_heals() -> None:
    stream = tied_stream(events=24)
    batches = [batch for _, batch in Cutter(stream).cuts(16)]
    model = small()
    for batch in batches[:4]:
        model.walk(batch)
        model.learn(batch)
    model.arena["recurrent.h"][:5] = np.nan
    model.marks.columns["leave"][1] = np.inf
    for batch in batches[4:]:
        model.walk(batch)
        model.learn(batch)
    assert model.counter("rolled_back") == 1 and np.isfinite(model.marks.columns["leave"]).all()
    assert np.isfinite(model.arena["recurrent.h"][np.unique(stream.row)]).all()


def test_the_weight_copy_is_taken_every_thousand_cuts() -> None:
    model = small()
    model.counters[0] = 998
    stream = tied_stream()
    first = model.network.weights.copy.clone()
    batches = [batch for _, batch in Cutter(stream).cuts(16)]
    for k, batch in enumerate(batches[:2]):
        model.walk(batch)
        model.learn(batch)
        assert torch.equal(first, model.network.weights.copy) == (k == 0)


def test_evicting_marks_changes_no_forecast_of_the_rest_but_their_share() -> None:
    stream, _ = poisson(20, 20, 2, marks=5)
    one, two = small(20), small(20)
    cutter = Cutter(stream)
    half = stream.n // 2
    for _, batch in cutter.cuts(16, half):
        for model in (one, two):
            model.walk(batch)
            model.learn(batch)
    two.remap_marks(np.array([4, 3, 2, 1, 0]))
    batch = cutter.cut(half, half + 10)
    turned = replace(batch, mark=(4 - batch.mark).astype(np.int32), hashes=batch.hashes[::-1])
    a, b = one.walk(batch), two.walk(turned)
    assert a.marks_issued is not None and b.marks_issued is not None
    np.testing.assert_allclose(
        dense_marks(a.marks_issued, 5), dense_marks(b.marks_issued, 5)[:, ::-1], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(answer(a).issued, answer(b).issued, rtol=1e-5, atol=1e-6)
    two.remap_marks(np.array([0, -1, 1, 2, 3]))
    assert two.marks.columns["made"][:5].tolist() == [1, 1, 1, 1, 0]
    assert not (two.arena["recurrent.ids"] == 4).any()


def test_an_evicted_user_is_new_and_no_longer_at_risk() -> None:
    stream = tied_stream(users=30)
    cutter, model = Cutter(stream), Recorder(context(40), width=4, embedding=4, components=1)
    for _, batch in cutter.cuts(32, 160):
        model.walk(batch)
        model.learn(batch)
    gone = np.arange(30)
    model.arena.reset(gone)
    batch = cutter.cut(160, 192)
    walk = model.walk(replace(batch, dt=np.where(batch.previous >= 0, batch.dt, np.nan)))
    model.learn(batch)
    assert walk.wait_arrival is not None
    fresh = batch.previous < 0
    assert (walk.wait_arrival[fresh] == walk.wait_arrival[fresh][0]).all()
    assert len(model.works[-1].h) == len(np.unique(batch.row)) + batch.n_sets


def test_many_marks_take_the_sampled_softmax_and_short_lists() -> None:
    random = np.random.default_rng(0)
    n, users = 3000, 50
    mark = np.concatenate([np.arange(2600), random.integers(0, 2600, n - 2600)])
    stream = Stream(random.integers(0, users, n), np.arange(n, dtype=float), np.arange(n + 1), mark)
    model = small(users)
    answers = run(model, stream, 128)
    lists = answers.walks[-1].marks_issued
    assert lists is not None and (np.diff(lists.start) == 64).all()
    assert (lists.background[:, :-1] == 0).all() and (lists.background[:, -1] > 0.5).all()
    assert model.counter("skipped") == 0 and len(hashes_of(2600)) == int(model.marks.columns["made"].sum())


def test_the_model_wakes_after_twenty_learned_cuts() -> None:
    stream, _ = poisson(40, 20, 1, marks=4)
    model = small()
    for k, (_, batch) in enumerate(Cutter(stream).cuts(16, 16 * 22)):
        model.walk(batch)
        assert model.awake == (k >= 20)
        model.learn(batch)
    assert copied(model, 40).awake


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, streamrec, streamrec.models.base, streamrec.batch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
