"""Bayes, Soft-Bayes, gate, escape mass, seen sets and printed numbers, each alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.errors import ConfigError
from streamrec.mixture.bayes import bayes_step
from streamrec.mixture.escape import learn_escape, new_escape, p_escape
from streamrec.mixture.gate import gate_context, learn_gate, new_gate, p_repeat
from streamrec.mixture.kernels_published import six_digits
from streamrec.mixture.marks import MarkMixture
from streamrec.mixture.seen import SEEN_MARKS, SeenSets, close_seen, learn_seen, open_seen
from streamrec.mixture.soft_bayes import soft_step
from streamrec.models.popularity import Member, PopularityBank, learn_counts, member_p, refresh_members
from streamrec.state.columns import Columns

LOSSES = st.lists(st.lists(st.floats(-700, 0), min_size=3, max_size=3), min_size=1, max_size=60)
AWAKE = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=60, max_size=60)


@settings(max_examples=60, deadline=None)
@given(LOSSES, AWAKE)
def test_bayes_keeps_its_bound_on_any_stream_for_any_sleepers(log_p, awake):
    log_w, behind = np.log([0.2, 0.3, 0.5]), np.zeros(3)
    start = log_w.copy()
    for row, mask in zip(np.array(log_p), np.array(awake), strict=False):
        if mask.any():
            mixed = bayes_step(log_w, row, mask)
            behind[mask] += row[mask] - mixed
    assert np.all(behind <= -start + 1e-9)


@settings(max_examples=60, deadline=None)
@given(LOSSES, AWAKE, st.floats(0.001, 0.5))
def test_soft_bayes_preserves_the_mass_of_those_awake(log_p, awake, rate):
    w = np.full(3, 1 / 3)
    for row, mask in zip(np.exp(np.array(log_p)), np.array(awake), strict=False):
        if mask.any():
            before = w.copy()
            soft_step(w, row, mask, rate)
            assert w[mask].sum() == pytest.approx(before[mask].sum(), rel=1e-12)
            np.testing.assert_array_equal(w[~mask], before[~mask])


def test_soft_bayes_comes_near_the_best_convex_combination_where_bayes_cannot():
    rng = np.random.default_rng(0)
    p = np.where(
        rng.random((4000, 1)) < 0.5, [0.9, 0.1], [0.1, 0.9]
    )  # either expert is right half of the time
    both, w, log_w = np.ones(2, bool), np.full(2, 0.5), np.log(np.full(2, 0.5))
    soft = -sum(np.log(soft_step(w, row, both, 0.005)) for row in p)
    bayes = -sum(bayes_step(log_w, np.log(row), both) for row in p)
    assert soft < 4000 * np.log(2) + 30 < bayes


@pytest.mark.parametrize("p", [1.0, 0.9999996, 0.1, 0.09999999, 1 / 3, 2 / 3e4, 5.4321987e-9, 1e-12])
def test_printed_numbers_are_the_nearest_with_six_digits(p):
    assert six_digits(p) == float(f"{p:.6g}")


def test_the_gate_learns_the_share_of_repeats_and_has_none_where_there_is_no_choice():
    gate, context = new_gate(), gate_context(5, 1)
    for i in range(3000):
        learn_gate(gate, context, i % 10 < 7)
    assert p_repeat(gate, context, 3, 9) == pytest.approx(0.7, abs=0.001)
    assert p_repeat(gate, gate_context(900, 2), 3, 9) == pytest.approx(0.7, abs=0.001)  # a fresh context
    assert p_repeat(gate, context, 0, 9) == 0 and p_repeat(gate, context, 9, 9) == 1


def test_the_escape_mass_falls_where_new_marks_cease_and_a_closed_universe_runs_dry():
    escape = new_escape(0)
    assert p_escape(escape, 0, 0) == 1
    for i in range(4000):
        learn_escape(escape, 0, i < 200)
    assert 0 < p_escape(escape, 0, 50) < 0.002
    assert p_escape(new_escape(7), 0, 7) == 0 < p_escape(new_escape(7), 0, 6)


def test_the_512_most_recent_marks_are_kept_and_ties_go_by_hash():
    seen, hashes = SeenSets(Columns(1, {})), np.arange(600, dtype=np.uint64)[::-1].copy()
    arrays = seen.arrays(600, 600)
    for mark in range(600):
        n = open_seen(arrays, 0)
        close_seen(arrays, learn_seen(arrays, 0, n, mark, mark // 100, hashes))
    evicted = set(range(600)) - set(seen.marks_of(0).tolist())
    assert len(evicted) == 600 - SEEN_MARKS == 88
    assert evicted == set(range(12, 100))  # of the first hundred, the same stamp: the smallest hashes went


@pytest.mark.parametrize("member", [Member("e", events=30), Member("s", seconds=600)])
def test_counts_fade_by_half_in_a_half_life_across_scale_downs(member):
    bank = PopularityBank((Member("all"), member))
    arrays, c, n = bank.arrays(3), np.zeros(3), 3
    time = 1.7e9
    rng = np.random.default_rng(1)
    for _ in range(20_000):
        gap, mark = float(rng.choice([1.0, 300.0])), int(rng.integers(3))
        time += gap
        fade = 0.5 ** (1 / 30) if np.isfinite(member.events) else 0.5 ** (gap / 600)
        c = c * fade
        c[mark] += 1
        learn_counts(arrays, np.array([mark], np.int32), time, n)
    refresh_members(arrays, n)
    b0 = (bank.marks["count"][:3, 0] + 0.5) / 20_001.5
    expected = (c + b0) / (c.sum() + 1)
    np.testing.assert_allclose([member_p(arrays, 1, i) for i in range(3)], expected, rtol=1e-9)
    assert 0 <= bank.exponent[1] <= 400


def test_settings_that_cannot_hold_are_refused():
    with pytest.raises(ConfigError, match="first one must never forget"):
        PopularityBank((Member("e", events=3),))
    with pytest.raises(ConfigError, match="distinct"):
        MarkMixture(Columns(1, {}), ["popularity"])
    with pytest.raises(ConfigError, match="n_universe"):
        MarkMixture(Columns(1, {}), open_universe=False)
