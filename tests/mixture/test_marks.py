"""The mark mixture against its slow reference, its bounds, and its exactness under cuts and restarts."""

import numpy as np
import pytest
from mark_reference import Reference
from mark_stream import Set, random_stream, to_batches, walks_of

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
