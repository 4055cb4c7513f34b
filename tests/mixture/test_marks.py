"""The mark mixture against its slow reference, its bounds, and its exactness under cuts and restarts."""

import numpy as np
import pytest
from mark_reference import Reference
from mark_stream import Set, random_stream, to_batches, walks_of

from streamrec.errors import InvariantError
from streamrec.mixture.marks import MarkMixture, MarkScores
from streamrec.models.popularity import N_BACKGROUNDS
from streamrec.state.columns import Columns

EXPERTS, NAIVE = ["a", "b", "c"], ["rule"]


def new_mixture(**settings: object) -> MarkMixture:
    return MarkMixture(Columns(16, {}), EXPERTS, NAIVE, **settings)


def run(mixture: MarkMixture, stream: list[Set], cut: int) -> list[MarkScores]:
    scores = []
    for batch in to_batches(stream, cut):
        walks = walks_of(batch, N_BACKGROUNDS, range(4))
        scores.append(mixture.walk(batch, walks[:3], walks[3:]))
    return scores


def joined(scores: list[MarkScores], name: str) -> np.ndarray:
    return np.concatenate([getattr(s, name) for s in scores], axis=-1)


@pytest.mark.parametrize("seed", range(4))
def test_the_kernels_equal_the_dense_reference(seed):
    stream = random_stream(seed, 250, n_raw=[5, 12, 40, 60][seed])
    scores = run(new_mixture(), stream, 40)
    reference = Reference(3, 1)
    steps = []
    for batch in to_batches(stream, 40):
        walks = walks_of(batch, N_BACKGROUNDS, range(4))
        steps.extend(reference.step(batch, s, walks) for s in range(batch.n_sets))
    expected = np.array([row for step in steps for row in step["log_score"]]).T
    np.testing.assert_allclose(joined(scores, "log_score"), expected, rtol=1e-12, atol=1e-12)
    low, high = np.array([row for step in steps[1:] for row in step["rank"]]).transpose(2, 1, 0)
    ranks = joined(scores, "rank")[:, len(stream[0].marks) :]
    assert np.all((low <= ranks) & (ranks <= high))  # marks within 1e-12 of each other may or may not be tied
    assert np.mean(ranks == (low + high) / 2) > 0.99
    issued = np.array([row for step in steps for row in step["issued"]])
    np.testing.assert_allclose(joined(scores, "issued_log_score"), issued[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(joined(scores, "issued_rank"), issued[:, 1])


def state_of(mixture: MarkMixture) -> dict[str, np.ndarray]:
    tables = {**mixture.tables(), "arena": mixture.arena}
    kept = {f"{t}.{name}": c[name].copy() for t, c in tables.items() for name in c}
    return kept | {name: a.copy() for name, a in mixture.scalars().items()}


def assert_same_state(one: MarkMixture, other: MarkMixture) -> None:
    mine, theirs = state_of(one), state_of(other)
    for name, array in mine.items():
        n = min(len(array), len(theirs[name]))  # tables may have grown in other steps
        np.testing.assert_array_equal(array[:n], theirs[name][:n], err_msg=name)


SCORES = ("log_score", "rank", "new", "issued_log_score", "issued_rank", "issued_known")


@pytest.mark.parametrize("cut", [1, 7, 300])
def test_the_size_of_a_cut_changes_no_bit(cut):
    stream = random_stream(5, 300, n_raw=30)
    one, other = new_mixture(), new_mixture()
    expected, got = run(one, stream, 64), run(other, stream, cut)
    for name in SCORES:
        np.testing.assert_array_equal(joined(expected, name), joined(got, name), err_msg=name)
    assert_same_state(one, other)


def test_touched_rows_and_scalars_restore_everything():
    stream = random_stream(6, 400, n_users=9, n_raw=50)
    batches = to_batches(stream, 50)
    one, copy = new_mixture(), new_mixture()
    for i, batch in enumerate(batches):
        walks = walks_of(batch, N_BACKGROUNDS, range(4))
        scores = one.walk(batch, walks[:3], walks[3:])
        if i > 5:
            np.testing.assert_array_equal(copy.walk(batch, walks[:3], walks[3:]).log_score, scores.log_score)
            assert_same_state(one, copy)
            continue
        pairs = [(one.arena, copy.arena), *zip(one.tables().values(), copy.tables().values(), strict=True)]
        for mine, its in pairs:  # a checkpoint after every cut holds what was touched, and nothing else
            its.put(*mine.take_touched())
        copy.load_scalars({name: a.copy() for name, a in one.scalars().items()})


@pytest.mark.parametrize("seed", range(3))
def test_the_mixture_loses_at_most_ln_n_plus_1_to_the_best_model(seed):
    scores = run(new_mixture(), random_stream(seed, 400, n_raw=8), 50)
    losses = -joined(scores, "log_score").sum(axis=1)
    mixed = losses[1:-1]  # Soft-Bayes and the experts; the naive rule is not mixed
    assert losses[0] <= mixed.min() + np.log(len(mixed)) + 1e-9


def test_an_expert_that_sleeps_keeps_its_bound_over_the_events_at_which_it_is_awake():
    mixture = new_mixture()
    behind = np.zeros(len(mixture.names))
    for i, batch in enumerate(to_batches(random_stream(8, 400), 20)):
        walks = walks_of(batch, N_BACKGROUNDS, range(4))
        awake = np.array([True, i % 2 == 0, i % 3 == 0])
        scores = mixture.walk(batch, walks[:3], walks[3:], awake)
        asleep = np.isnan(scores.log_score).all(axis=1)
        assert asleep[-4:-1].tolist() == (~awake).tolist()
        behind += np.where(
            asleep, 0.0, np.nan_to_num(scores.log_score).sum(axis=1) - scores.log_score[0].sum()
        )
        assert abs(scores.weight.sum() - 1) < 1e-9
    assert np.all(behind[1:-1] <= np.log(mixture.n_mixed + 1) + 1e-9)


def test_an_expert_whose_masses_do_not_sum_to_one_is_named():
    batch = to_batches(random_stream(0, 20), 20)[0]
    walks = walks_of(batch, N_BACKGROUNDS, range(4))
    walks[1].marks_arrival.background[5] *= 0.9
    with pytest.raises(InvariantError, match="masses of b at set 5"):
        new_mixture().walk(batch, walks[:3], walks[3:])


@pytest.mark.parametrize("closed", [0, 14])
def test_all_marks_that_could_come_share_a_mass_of_one(closed):
    stream = random_stream(2, 120, n_raw=12)
    total = np.zeros(9)
    for raw in range(
        14 if closed else 13
    ):  # every way in which the last set might have gone; 12 and 13 are new
        tried = [*stream, Set(0, stream[-1].time + 1, (raw,))]
        mixture = new_mixture(open_universe=not closed, n_universe=closed)
        last = run(mixture, tried, 121)[-1]
        p, times = np.exp(last.log_score[:, -1]), 1000 if last.new[-1] and not closed else 1
        total = total + times * p[[0, 1, 2, 3, 9, 17, 18, 19, 20]]
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def test_a_published_list_is_scored_as_it_stands_in_the_row():
    mixture, batches = new_mixture(), to_batches(random_stream(3, 200, n_users=3, n_raw=60), 1)
    for batch in batches:
        before = mixture.forecast(batch.row)
        again = mixture.forecast(batch.row)
        assert all(np.array_equal(a, b) for a, b in zip(before, again, strict=True))
        walks = walks_of(batch, N_BACKGROUNDS, range(4))
        scores = mixture.walk(batch, walks[:3], walks[3:])
        for m, mark in enumerate(batch.mark):
            if before.n[0] < 0:
                assert not scores.issued_known[m]
                continue
            listed = dict(zip(before.mark[0, : before.n[0]].tolist(), before.p[0].tolist(), strict=False))
            rest = (before.p_rest[0] + before.p_new[0]) / (before.n_rest[0] + before.n_new[0])
            assert scores.issued_log_score[m] == pytest.approx(np.log(listed.get(int(mark), rest)), abs=1e-14)
        after = mixture.forecast(batch.row)
        assert after.p.sum() + after.p_new[0] + after.p_rest[0] == pytest.approx(1, abs=2e-5)
        assert all(float(f"{p:.6g}") == p for p in [*after.p[0], after.p_new[0], after.p_rest[0]])


def test_evicted_users_and_marks_leave_no_trace():
    stream = random_stream(4, 200, n_users=4, n_raw=30)
    mixture = new_mixture()
    scores = run(mixture, stream, 50)
    n = len(to_batches(stream, 200)[0].hashes)
    new_id = np.full(n, -1)
    new_id[np.arange(0, n, 2)] = np.arange(len(range(0, n, 2)))
    seen = [set(mixture.seen.marks_of(row).tolist()) for row in range(4)]
    frozen, total = mixture.forecast(np.arange(4)), mixture.bank.marks["count"][:n:2].copy()
    mixture.remap_marks(new_id)
    kept = [{i // 2 for i in s if i % 2 == 0} for s in seen]
    assert [set(mixture.seen.marks_of(r).tolist()) for r in range(4)] == kept
    np.testing.assert_array_equal(mixture.bank.marks["count"][: len(total)], total)
    assert not mixture.bank.marks["count"][len(total) :].any()
    after = mixture.forecast(np.arange(4))
    np.testing.assert_allclose(after.p.sum(1) + after.p_rest, frozen.p.sum(1) + frozen.p_rest)
    mixture.drop(np.arange(4))
    assert not mixture.arena["seen.kept"].any() and np.all(mixture.forecast(np.arange(4)).n == -1)
    pages = mixture.seen.pool[1]
    free, page = 0, mixture.seen.pool[0]
    while page >= 0:
        free, page = free + 1, mixture.seen.pages["next"][page]
    assert free == pages > 0 and scores[-1].published.n.min() > 0
