import numpy as np
import pytest

from streamrec.errors import ConfigError
from streamrec.simulate import Hawkes, Poisson, Renewal, Simulation, hour_scale_processes, simulate

NAMES = sorted(hour_scale_processes(5, 0))


def run(name: str, seed: int = 0, events: int = 8000) -> Simulation:
    return simulate(hour_scale_processes(20, 3)[name], events=events, users=300, seed=seed, entry_s=3600.0)


@pytest.mark.parametrize("name", NAMES)
def test_the_compensator_counts_the_events_when_open_intervals_are_charged(name):
    """Σ cumulative hazard over closed and open intervals minus events is a martingale at its end."""
    outcome = run(name)
    hazard = outcome.cumulative_hazard[~np.isnan(outcome.cumulative_hazard)]
    excess = hazard.sum() - outcome.open_log_survival - len(hazard)
    assert abs(excess) < 4 * np.sqrt(len(hazard))


@pytest.mark.parametrize("name", NAMES)
def test_early_residuals_are_exponential(name):
    """Time rescaling; the first gap of each user is hardly ever cut off by the end."""
    outcome = run(name)
    first = {}
    for user, hazard in zip(outcome.user.tolist(), outcome.cumulative_hazard.tolist(), strict=True):
        if not np.isnan(hazard):
            first.setdefault(user, hazard)
    residuals = np.array(list(first.values()))
    assert abs(np.exp(-residuals).mean() - 0.5) < 4 * np.sqrt(1 / 12 / len(residuals))


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_fixes_every_bit(name):
    one, two, other = run(name, 1, 500), run(name, 1, 500), run(name, 2, 500)
    np.testing.assert_array_equal(one.time, two.time)
    np.testing.assert_array_equal(one.log_density, two.log_density)
    assert (one.time != other.time).any()


def test_entries_carry_no_figure_and_there_is_one_for_each_user():
    outcome = simulate(Poisson(rate=1.0, marks=4), events=2000, users=50, seed=0, entry_s=1.0)
    entries = np.isnan(outcome.log_density)
    assert entries.sum() == 50
    assert len(set(outcome.user[entries].tolist())) == 50


def test_the_hawkes_oracle_beats_a_poisson_of_the_same_rate():
    outcome = simulate(Hawkes(1.0, 0.8, 5.0, marks=4, seed=0), events=5000, users=20, seed=0, entry_s=1.0)
    timed = ~np.isnan(outcome.log_density)
    rate = timed.sum() / (20 * outcome.time[-1])
    oracle = outcome.log_density[timed].sum() + outcome.open_log_survival
    assert oracle > timed.sum() * (np.log(rate) - 1) + 100


def test_a_stream_that_dies_out_says_so():
    with pytest.raises(ConfigError, match="all users left after"):
        simulate(Renewal(10.0, 1.0, 0.9, marks=3, seed=0), events=1000, users=5, seed=0, entry_s=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_density_hazard_and_survival_of_the_oracle_belong_to_one_law(name):
    """S = exp(-Λ) at the gap, and the density is the slope of S there."""
    process, rng = hour_scale_processes(20, 3)[name], np.random.Generator(np.random.Philox(key=9))
    for user in range(20):
        process.enter(user, rng)
        for _ in range(8):
            draw = process.draw(user, rng)
            if draw.dt == np.inf:  # left for good
                break
            assert process.log_survival(user, draw.dt) == pytest.approx(-draw.cumulative_hazard, rel=1e-9)
            step = draw.dt * 1e-4
            before, after = (process.log_survival(user, s) for s in (draw.dt - step, draw.dt + step))
            log_slope = before + np.log(-np.expm1(after - before)) - np.log(2 * step)
            assert log_slope == pytest.approx(draw.log_density, abs=1e-4)
