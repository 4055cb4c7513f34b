"""The simulator can fail: it finds bugs that were planted, and a seed that fails can be run again."""

import pytest
from chunks import in_memory, run_once
from run_seeds import FailedSeedError, run_seed
from wrong_daemons import PLANTED

SEEDS = 1_000


def finds(seed: int) -> bool:
    """Whether a seed fails."""
    with in_memory() as folder:
        try:
            run_seed(seed, folder)
        except FailedSeedError as error:
            assert f"make simulate SEED={seed}" in str(error)
            return True
        return False


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str) -> None:
    with PLANTED[bug]():
        found = next((seed for seed in range(SEEDS) if finds(seed)), None)
    assert found is not None, f"{bug}: not found in {SEEDS} seeds"
    print(f"{bug}: found by seed {found}")
    assert not finds(found), "the seed fails without the bug, too"


@pytest.mark.parametrize("seed", [3, 12, 41])
def test_a_seed_run_twice_leaves_the_same_trace(seed: int) -> None:
    assert run_once(seed) == run_once(seed)


def test_seeds_differ() -> None:
    assert run_once(3).trace != run_once(4).trace
