"""The clock's grid: found from the first gaps, then fixed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.arrays import Floats
from streamrec.errors import ConfigError
from streamrec.waiting.resolution import CANDIDATES_S, N_DECIDING, N_TRUSTED, ClockResolution, to_grid

START = 1.7e9


def stream(gaps: Floats, start: float = START) -> tuple[Floats, Floats]:
    """Gaps as they come out of float64 times, and the times."""
    times = start + np.concatenate([[0.0], np.cumsum(gaps)])
    return np.diff(times), times[1:]


@pytest.mark.parametrize("delta", CANDIDATES_S)
def test_the_step_of_a_clock_is_found(delta: float) -> None:
    rng = np.random.default_rng(1)
    gaps, times = stream(rng.integers(1, 50, 1500) * np.float64(delta))
    clock = ClockResolution()
    clock.step(gaps, times)
    assert (clock.decided, clock.delta_s, clock.off_grid) == (True, delta, 0)


def test_continuous_times_have_no_grid() -> None:
    gaps, times = stream(np.random.default_rng(2).exponential(3.0, 2000), start=0.0)
    clock = ClockResolution()
    assert clock.step(gaps, times)[-1] == 0 and clock.delta_s == 0 and clock.off_grid == 0


def test_a_microsecond_clock_is_not_claimed_where_floats_cannot_show_it() -> None:
    gaps, times = stream(np.random.default_rng(3).integers(1, 9, 1200) * np.float64(0.25e-4), start=4e9)
    clock = ClockResolution()
    clock.step(gaps, times)
    assert clock.delta_s == 0


@given(st.lists(st.sampled_from([60.0, 3600.0, 1.0, 0.5]), min_size=1, max_size=40), st.data())
def test_the_answer_for_a_gap_depends_on_the_gaps_before_it_and_on_no_cut(
    gaps: list[float], data: st.DataObject
) -> None:
    dt, times = stream(np.array(gaps))
    whole = ClockResolution().step(dt, times)
    at = data.draw(st.integers(0, len(gaps)))
    pieces = ClockResolution()
    np.testing.assert_array_equal(
        np.concatenate([pieces.step(dt[:at], times[:at]), pieces.step(dt[at:], times[at:])]), whole
    )
    changed = ClockResolution().step(np.append(dt[:-1], 0.25), np.append(times[:-1], times[-1]))
    assert changed[-1] == whole[-1]


def test_few_gaps_are_scored_on_the_finest_grid() -> None:
    dt, times = stream(np.full(N_TRUSTED + 1, 7200.0))
    delta = ClockResolution().step(dt, times)
    assert (delta[:N_TRUSTED] == 1e-6).all() and delta[N_TRUSTED] == 3600.0


def test_after_the_decision_a_gap_off_the_grid_is_rounded_and_counted() -> None:
    dt, times = stream(np.append(np.full(N_DECIDING, 120.0), [30.0, 121.0, 180.0]))
    clock = ClockResolution()
    delta = clock.step(dt, times)
    assert (delta[-3:] == 60).all() and clock.off_grid == 2
    assert to_grid(dt, delta)[-3:].tolist() == [60.0, 120.0, 180.0]


def test_a_declared_step_is_kept_whatever_comes() -> None:
    clock = ClockResolution(0.5)
    dt, times = stream(np.array([1.0, 1.25]))
    assert clock.decided and clock.step(dt, times).tolist() == [0.5, 0.5] and clock.off_grid == 1
    with pytest.raises(ConfigError, match="expected seconds >= 0"):
        ClockResolution(-1.0)


def test_the_state_survives_a_round_trip() -> None:
    dt, times = stream(np.append(np.full(1500, 60.0), 61.0))
    whole, first, second = ClockResolution(), ClockResolution(), ClockResolution()
    whole.step(dt, times)
    first.step(dt[:700], times[:700])
    second.load_scalars(first.scalars())
    second.step(dt[700:], times[700:])
    for name, array in whole.scalars().items():
        np.testing.assert_array_equal(array, second.scalars()[name])
