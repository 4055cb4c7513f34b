import numpy as np
import pytest

from streamrec.metrics.marks import MarkBoard
from streamrec.metrics.times import TimeBoard, pit_ks


def add_marks(board: MarkBoard, log_score: np.ndarray, rank: np.ndarray) -> None:
    m = log_score.shape[1]
    new, seen = np.zeros(m, bool), np.ones(m, bool)
    board.add(log_score, rank, new, seen, np.full(m, 100), np.arange(m))


def test_a_scorer_is_not_scored_where_it_slept_and_its_lead_is_over_the_same_events():
    board = MarkBoard(["mixture", "late"])
    log_score = np.log([[0.5, 0.5, 0.25], [0.1, 0.1, 0.5]])
    log_score[1, :2] = np.nan
    rank = np.array([[1.0, 1.0, 2.0], [np.nan, np.nan, 1.0]])
    add_marks(board, log_score, rank)
    late = board.report("late", "all")
    assert late["events"] == 1 and late["accuracy"] == 1.0
    assert late["nll"] == pytest.approx(np.log(2))
    assert late["lead"] == pytest.approx(-np.log(2))
    assert board.report("mixture", "all")["lead"] == 0.0


def test_the_slices_of_a_cut_add_up():
    board = MarkBoard(["mixture"])
    rng = np.random.default_rng(0)
    add_marks(board, np.log(rng.uniform(0.1, 1, (1, 50))), rng.integers(1, 30, (1, 50)).astype(float))
    short, long = board.report("mixture", "short"), board.report("mixture", "long")
    whole = board.report("mixture", "all")
    assert short["events"] + long["events"] == whole["events"] == 50
    both = (short["nll"] * short["events"] + long["nll"] * long["events"]) / 50
    assert both == pytest.approx(whole["nll"])


def test_scores_by_hand():
    board = MarkBoard(["mixture"])
    add_marks(board, np.log([[0.5, 0.25]]), np.array([[1.0, 4.0]]))
    report = board.report("mixture", "all")
    assert report["accuracy"] == 0.5 and report["hit@5"] == 1.0
    assert report["mrr@10"] == pytest.approx((1 + 0.25) / 2)
    assert report["ndcg@10"] == pytest.approx((1 + 1 / np.log2(5)) / 2)


def test_waiting_times_of_a_scorer_that_had_issued_nothing_are_left_out():
    board = TimeBoard(["mixture", "late"])
    two = np.array([[-1.0, -2.0], [np.nan, -1.5]])
    board.add(np.array([10.0, 20.0]), two, two, two, np.where(np.isnan(two), np.nan, 0.5), two * 0 + 12.0,
              two * 0 + 15.0, np.array([-1.0, -2.0]))  # fmt: skip
    late = board.report("late", open_sum=-0.5)
    assert late["events"] == 1 and late["mae_median_s"] == 8.0 and late["rmse_mean_s"] == 5.0
    assert late["log_likelihood_issued"] == -1.5 and late["log_likelihood_open"] == -2.0
    assert late["lead"] == pytest.approx(-0.5)
    assert board.report("mixture", 0.0)["log_density_issued"] == -1.5


def test_the_pit_of_uniform_draws_is_near_zero_and_of_a_biased_law_is_not():
    uniform = np.histogram(np.random.default_rng(1).uniform(size=20_000), bins=50, range=(0, 1))[0].astype(
        float
    )
    assert pit_ks(uniform) < 0.02
    assert pit_ks(np.eye(50)[0] * 9.0) == pytest.approx(0.98)
