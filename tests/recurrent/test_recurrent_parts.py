"""The parts of the recurrent expert: packing, cell, head, charges, tables, optimisers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recurrent_streams import hashes_of

from streamrec.arrays import Floats, Floats32
from streamrec.nn import hazard, heads
from streamrec.nn.fused import idle_edge, law_rows, plain_waiting_loss, waiting_loss
from streamrec.nn.gru import GAP_FEATURES, advance_waves, gap_features, gru_step, mean_embedding
from streamrec.nn.hazard import Opened, Pieces
from streamrec.nn.log_gaps import LogGaps
from streamrec.nn.mark_head import LISTED, MarkTable, hashed_uniform, lists, softmax_candidates
from streamrec.nn.optim import FlatWeights, adagrad_rows
from streamrec.nn.packing import pack, running_clock, set_inputs
from streamrec.waiting.log_normal import LogNormalMixture

UNIT = (2.0, 1.5)


def raw_numbers(n: int, components: int, seed: int) -> "torch.Tensor":
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(0, 1.5, (n, heads.raw_width(components))).astype(np.float32))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_waves_hold_every_set_once_in_each_users_order(rows: list[int]) -> None:
    row = np.array(rows)
    waves = pack(row)
    assert sorted(waves.order.tolist()) == list(range(len(row)))
    at = 0
    seen: dict[int, list[int]] = {}
    for n in waves.sizes:
        here = waves.order[at : at + n]
        assert row[here].tolist() == waves.users[:n].tolist()
        for s in here:
            seen.setdefault(int(row[s]), []).append(int(s))
        at += n
    for user, sets in seen.items():
        assert sets == np.flatnonzero(row == user).tolist()
    assert waves.last.tolist() == [np.flatnonzero(row == user)[-1] for user in waves.users]
    assert waves.users[waves.slot].tolist() == row.tolist()


def test_a_large_set_is_represented_by_the_same_marks_whatever_their_ids() -> None:
    hashes = hashes_of(20)
    marks = np.arange(20, dtype=np.int32)
    renamed = np.random.default_rng(0).permutation(20).astype(np.int32)
    moved = np.empty(20, np.uint64)
    moved[renamed] = hashes
    start = np.array([0, 20])
    chosen = set_inputs(start, marks, hashes, 8)
    again = set_inputs(start, renamed, moved, 8)
    assert hashes[chosen[0]].tolist() == moved[again[0]].tolist()
    assert len(set(chosen[0].tolist())) == 8


def test_the_running_clock_never_steps_back_and_knows_its_partition() -> None:
    time = np.array([5.0, 3.0, 7.0, 1.0])
    partition = np.array([0, 0, 1, 1], np.int32)
    assert running_clock(partition, time, np.array([4.0, -np.inf])).tolist() == [5.0, 5.0, 7.0, 7.0]


def test_the_written_out_gradient_of_the_cell_is_that_of_torch() -> None:
    random = np.random.default_rng(0)
    shapes = [(24, 5), (24, 8), (24,), (24,)]
    cell = [torch.from_numpy(random.normal(0, 0.5, s).astype(np.float32)).requires_grad_() for s in shapes]
    x = torch.from_numpy(random.normal(0, 1, (11, 5)).astype(np.float32)).requires_grad_()
    h = torch.from_numpy(random.normal(0, 1, (11, 8)).astype(np.float32))
    probe = torch.from_numpy(random.normal(0, 1, (11, 8)).astype(np.float32))
    ours, theirs = gru_step(x, h, tuple(cell)), torch.gru_cell(x, h, *cell)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    mine = torch.autograd.grad((ours * probe).sum(), [x, *cell])
    for a, b in zip(mine, torch.autograd.grad((theirs * probe).sum(), [x, *cell]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_waves_step_like_one_user_after_the_other() -> None:
    random = np.random.default_rng(1)
    row = random.integers(0, 5, 40)
    cell = tuple(torch.from_numpy(random.normal(0, 0.5, s)) for s in [(12, 3), (12, 4), (12,), (12,)])
    x, waves = torch.from_numpy(random.normal(0, 1, (40, 3))), pack(row)
    h = torch.from_numpy(random.normal(0, 1, (len(waves.users), 4)))
    before, after = advance_waves(cell, x, h.clone(), waves)
    state = {int(u): h[i : i + 1] for i, u in enumerate(waves.users)}
    for s in range(40):
        user = int(row[s])
        torch.testing.assert_close(before[s : s + 1], state[user])
        state[user] = torch.gru_cell(x[s : s + 1], state[user], *cell)
        torch.testing.assert_close(after[s : s + 1], state[user])


def test_gap_features_do_not_depend_on_the_unit_of_time() -> None:
    dt = np.array([0.5, 3.0, 0.0, np.nan, 1e4])
    seconds, hours = LogGaps(), LogGaps()
    seconds.measure(dt)
    hours.measure(dt / 3600.0)
    a = gap_features(dt, seconds.mean, seconds.deviation, seconds.floor)
    b = gap_features(dt / 3600.0, hours.mean, hours.deviation, hours.floor)
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a[[0, 1, 2, 4], : GAP_FEATURES - 3].sum(axis=1), 1.0, atol=1e-6)
    assert not a[3, : GAP_FEATURES - 1].any()


@given(st.lists(st.floats(1e-6, 1e9), min_size=2, max_size=50), st.integers(1, 49))
def test_log_gap_statistics_do_not_depend_on_how_the_stream_is_cut(dt: list[float], at: int) -> None:
    whole, parts = LogGaps(), LogGaps()
    whole.measure(np.array(dt))
    parts.measure(np.array(dt[:at]))
    parts.measure(np.array(dt[at:]))
    np.testing.assert_allclose(whole.state, parts.state, rtol=1e-8, atol=1e-8)


def test_the_mean_of_a_set_is_order_free_and_padding_adds_nothing() -> None:
    rows = torch.eye(4)
    alone = mean_embedding(rows, np.array([[2]], np.int32))
    padded = mean_embedding(rows, np.array([[2, -1, -1], [0, 1, 3], [-1, -1, -1]], np.int32))
    assert torch.equal(alone[0], padded[0])
    torch.testing.assert_close(padded[1], torch.tensor([1, 1, 0, 1]) / 3.0)
    assert not padded[2].any()


@pytest.mark.parametrize("components", [1, 2, 8])
def test_the_law_issued_is_the_density_trained_on(components: int) -> None:
    raw = raw_numbers(40, components, components)
    params = law_rows(raw.numpy(), *UNIT)
    np.testing.assert_allclose(params, heads.parameters(raw, *UNIT).numpy(), rtol=1e-9, atol=1e-9)
    law, mix = LogNormalMixture(components), heads.mixture(heads.parameters(raw, *UNIT))
    assert law.width == heads.raw_width(components)
    for s in (1e-3, 0.7, 30.0, 1e5):
        at, same = torch.full((40,), s, dtype=torch.float64), np.full(40, s)
        np.testing.assert_allclose(
            heads.log_survival(mix, at).numpy(), law.log_survival(params, same), rtol=1e-6, atol=1e-14
        )
        np.testing.assert_allclose(heads.log_hazard(mix, at).numpy(), law.log_hazard(params, same), rtol=1e-6)
        more = np.full(40, 1.01 * s)
        charge = heads.compensator(mix, at, torch.from_numpy(more)).numpy()
        np.testing.assert_allclose(charge, law.compensator(params, same, more), rtol=1e-5, atol=1e-14)


def test_the_fused_loss_and_its_gradient_are_those_of_autograd() -> None:
    random = np.random.default_rng(5)
    n, c = 30, 3
    a = np.where(random.random(80) < 0.3, 0.0, random.exponential(5, 80))
    pieces = Pieces(random.integers(0, n, 80), a, a + random.exponential(3, 80), random.uniform(0, 4, 80))
    events, s = random.integers(0, n, 25), random.lognormal(*UNIT, 25)
    one, two = (raw_numbers(n, c, 9).requires_grad_() for _ in range(2))
    fused, plain = (
        waiting_loss(one, UNIT, pieces, events, s),
        plain_waiting_loss(two, UNIT, pieces, events, s),
    )
    torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-10)
    torch.autograd.backward([fused, plain])
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-5, atol=1e-6)


def test_the_edge_between_strata_is_near_the_quantile_of_a_single_log_normal() -> None:
    raw = np.array([[12.0, -12.0, 0.0, 0.0, 0.0, -12.0]], np.float32)
    params = law_rows(raw, *UNIT)
    np.testing.assert_allclose(
        idle_edge(params), LogNormalMixture(1).quantile(params, np.array([0.95])), rtol=0.01
    )


def test_a_wait_is_charged_from_where_the_last_charge_ended() -> None:
    opened = Opened(np.array([2.0, 6.0]), np.array([2.0, 6.0]), np.zeros(2, np.int32))
    pieces = hazard.completed(np.arange(2), opened, np.array([9.0, 7.0]), np.array([5.0]), np.inf)
    assert pieces.a.tolist() == [3.0, 0.0] and pieces.b.tolist() == [7.0, 1.0]
    tail = hazard.still_open(np.arange(2), opened, np.array([5.0]), np.array([10.0]), np.inf)
    assert tail.a.tolist() == [3.0, 0.0] and tail.b.tolist() == [8.0, 4.0]


def test_a_wait_behind_the_clock_is_charged_when_it_ends_and_only_then() -> None:
    opened = Opened(np.array([2.0]), np.array([8.0]), np.zeros(1, np.int32))
    charged = np.array([8.0])
    early = hazard.completed(np.arange(1), opened, np.array([5.0]), charged, np.inf)
    assert (early.a.tolist(), early.b.tolist()) == ([0.0], [3.0])
    late = hazard.completed(np.arange(1), opened, np.array([11.0]), charged, np.inf)
    assert sorted(zip(late.a.tolist(), late.b.tolist(), strict=True)) == [(0.0, 6.0), (6.0, 9.0)]
    assert len(hazard.still_open(np.arange(1), opened, charged, charged, np.inf).wait) == 0


def test_nobody_is_at_risk_after_max_idle() -> None:
    opened = Opened(np.array([0.0]), np.array([0.0]), np.zeros(1, np.int32))
    tail = hazard.still_open(np.arange(1), opened, np.array([5.0]), np.array([50.0]), 12.0)
    assert (tail.a.tolist(), tail.b.tolist()) == ([5.0], [12.0])
    assert len(hazard.still_open(np.arange(1), opened, np.array([20.0]), np.array([50.0]), 12.0).a) == 0


def _open_world(n: int) -> tuple[Opened, Floats]:
    random = np.random.default_rng(n)
    last = random.uniform(0, 90, n)
    last[::7] = np.nan
    return Opened(last, last.copy(), np.zeros(n, np.int32)), np.full(n, 20.0)


@pytest.mark.parametrize("n", [100, 1500, 9000])
def test_sampled_exposure_is_unbiased(n: int) -> None:
    opened, edge = _open_world(n)
    taken = np.arange(0, n, 11)
    clocks = np.array([95.0]), np.array([97.0])
    truth = np.setdiff1d(np.flatnonzero(~np.isnan(opened.last)), taken)
    value = np.sqrt(97.0 - opened.last)
    sums = []
    for serial in range(200):
        sample = hazard.sample_open(opened, edge, taken, clocks, 256, hazard.generator(3, serial))
        assert len(sample.rows) <= 256 and not np.isin(sample.rows, taken).any()
        sums.append(float((sample.weight * value[sample.rows]).sum()))
    error = np.std(sums) / np.sqrt(200)
    assert abs(np.mean(sums) - value[truth].sum()) <= 3.5 * error + 1e-6
    if len(truth) <= 256:
        assert error < 1e-9


def test_first_rows_of_marks_depend_on_seed_and_hash_alone() -> None:
    hashes = hashes_of(50)
    one, two = MarkTable(4, 6, 7), MarkTable(4, 6, 7)
    one.fit(hashes)
    order = np.random.default_rng(0).permutation(50)
    two.fit(hashes[order[:20]])
    two.fit(hashes[order])
    for name in ("enter", "leave"):
        np.testing.assert_array_equal(one.columns[name][order], two.columns[name][:50])
    assert not np.array_equal(hashed_uniform(hashes, 7, 3), hashed_uniform(hashes, 8, 3))
    big: Floats32 = hashed_uniform(hashes_of(20_000), 7, 2)
    assert (
        abs(big.mean()) < 0.02
        and abs(big.std() - 3**-0.5) < 0.01
        and abs((big[:, 0] * big[:, 1]).mean()) < 0.01
    )


def test_remapping_moves_rows_and_forgets_the_evicted() -> None:
    table = MarkTable(4, 6, 7)
    table.fit(hashes_of(5))
    table.count(np.array([0, 1, 2, 2, 4], np.int32))
    before = {name: table.columns[name].copy() for name in table.columns}
    table.remap(np.array([-1, 0, 1, -1, 2]))
    for name, old in before.items():
        np.testing.assert_array_equal(table.columns[name][:3], old[[1, 2, 4]])
    assert table.columns["made"][:5].tolist() == [1, 1, 1, 0, 0]
    assert table.columns["count"][3:5].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("marks", [5, 2500])
def test_lists_sum_to_one_and_hold_only_known_marks(marks: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (6, marks)).astype(np.float32))
    row, known = (
        np.array([0, 1, 2, 5, 5]),
        np.array([marks, marks - 2, marks - 3, marks, 0 if marks == 5 else 1]),
    )
    made = lists(logits, row, known, 3)
    assert made.background.shape == (5, 4)
    for f in range(5):
        ids, p = (part[made.start[f] : made.start[f + 1]] for part in (made.mark, made.p))
        assert (ids < known[f]).all() and len(set(ids.tolist())) == len(ids) and (p >= 0).all()
        assert p.sum() + made.background[f].sum() == pytest.approx(1.0, abs=1e-9)
        exact = torch.softmax(logits[row[f], : known[f]].double(), dim=0).numpy()
        np.testing.assert_allclose(p, exact[ids], rtol=1e-5)
        assert len(ids) == known[f] if marks == 5 else len(ids) <= LISTED


def test_sampled_candidates_hold_the_targets_and_weigh_like_the_full_softmax() -> None:
    table = MarkTable(4, 6, 7)
    table.fit(hashes_of(3000))
    table.count(np.repeat(np.arange(3000), 1 + 3000 // (1 + np.arange(3000))).astype(np.int32))
    mark = np.array([0, 5, 2999], np.int32)
    full = np.exp(table.log_prior(3000).astype(np.float64)).sum()
    sums = []
    for serial in range(60):
        drawn, offset = softmax_candidates(table, mark, 3000, hazard.generator(0, serial))
        assert np.isin(mark, drawn).all() and (np.diff(drawn) > 0).all()
        others = ~np.isin(drawn, mark)
        sums.append(np.exp(offset.astype(np.float64))[others].sum())
    rest = full - np.exp(table.log_prior(3000)[mark].astype(np.float64)).sum()
    assert np.mean(sums) == pytest.approx(rest, rel=0.25)


def test_adagrad_follows_its_formula_and_leaves_other_rows_alone() -> None:
    table, squares = np.ones((3, 2), np.float32), np.zeros(3, np.float32)
    for _ in range(2):
        adagrad_rows(table, squares, np.array([2]), np.array([[1.0, 3.0]], np.float32), 0.1)
    expected = 1.0 - 0.1 * np.array([1.0, 3.0]) * (1 / np.sqrt(5.0) + 1 / np.sqrt(10.0))
    np.testing.assert_allclose(table[2], expected, rtol=1e-6)
    assert squares.tolist() == [0.0, 0.0, 10.0] and (table[:2] == 1.0).all()


def test_the_flat_step_is_adam() -> None:
    weights = FlatWeights({"w": np.array([1.0, -2.0], np.float32)})
    mirror = torch.tensor([1.0, -2.0], requires_grad=True)
    adam = torch.optim.Adam([mirror], lr=0.01, betas=(0.9, 0.99))
    for k in range(5):
        gradient = torch.tensor([0.5 * k, 1.0])
        weights.gradient.copy_(gradient)
        weights.step(0.01, 1.0)
        mirror.grad = gradient.clone()
        adam.step()
    torch.testing.assert_close(weights.flat, mirror.detach(), rtol=1e-5, atol=1e-6)
    weights.roll_back()
    assert weights.flat.tolist() == [1.0, -2.0] and not weights.second.any()
