import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamrec.mixture.kernels_published import LISTED, SET_MASS, new_published, publish


def published(y: np.ndarray, escape: float):
    lists = new_published(1)
    hashes = np.arange(len(y), dtype=np.uint64)
    publish(lists, 0, y.copy(), len(y), escape, 1000.0, hashes)
    return lists


def smallest(y: np.ndarray, escape: float) -> int:
    """Marks of the smallest set that holds 90 %, by sorting."""
    held = np.cumsum(np.sort((1 - escape) * y)[::-1])
    return int(np.searchsorted(held, SET_MASS - 1e-9) + 1)


@given(st.integers(1, 400), st.floats(0, 0.09), st.floats(0.05, 3.0), st.integers(0, 10_000))
def test_the_set_is_the_smallest_that_holds_ninety_percent(n, escape, sharpness, seed):
    y = np.random.default_rng(seed).gamma(sharpness, size=n) + 1e-12
    y /= y.sum()
    lists = published(y, escape)
    inside = (1 - escape) * y >= lists.set_p[0] * (1 - 1e-5)
    assert inside.sum() == lists.set_size[0]
    assert ((1 - escape) * y[inside]).sum() >= SET_MASS - 1e-5
    assert abs(lists.set_size[0] - smallest(y, escape)) <= 1


def test_a_sharp_forecast_needs_no_more_than_its_list():
    y = np.full(100, 0.05 / 99)
    y[7] = 0.95
    lists = published(y, 0.0)
    assert lists.set_size[0] == 1 and lists.mark[0, 0] == 7 and lists.set_p[0] == 0.95


def test_ties_enter_the_set_together():
    lists = published(np.full(200, 1 / 200), 0.0)
    assert lists.set_size[0] == 200 > LISTED


def test_where_even_all_known_marks_hold_less_the_set_is_all_of_them():
    lists = published(np.full(50, 1 / 50), 0.4)
    assert lists.set_size[0] == 50 and lists.set_p[0] == 0.0
