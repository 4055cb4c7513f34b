"""kill -9 at every named place, and what is left after going on equals an undisturbed run to the byte."""

import random
from pathlib import Path

import pytest
from program import Kept, Warm, command, kept, run_args

from streamrec.failpoints import OF_LANES

pytestmark = pytest.mark.timeout(900)  # the first test of all may have to compile every kernel

WRITER = ("before_sync", "before_transaction", "mid_transaction", "after_transaction", "before_generation")
"""Places in the writer thread: on a slow disk it skips checkpoints, and may not come there five times."""

PLACES = [name for name in OF_LANES if name != "in_restore"]


def test_the_undisturbed_run_has_something_to_lose(straight: Kept) -> None:
    assert straight.n_events == 1500
    assert straight.forecasts.count(b"\n") > 500
    assert straight.letters.count(b"\n") == 15


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("place", PLACES)
def test_killed_anywhere_and_resumed_is_the_undisturbed_run_to_the_byte(
    place: str, n: int, warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    ended = warm.command(run_args(log), folder, f"{place}:{n}").code
    assert ended == -9 or (ended == 0 and n == 5 and place in WRITER)
    resumed = warm.command(run_args(log), folder)
    assert resumed.code == 0, resumed.err
    assert kept(folder) == straight
    if n == 2:
        verified = warm.command(["verify", "state", "--against", str(log)], folder)
        assert (verified.code, verified.out.splitlines()[-1]) == (0, "equal"), verified.err


@pytest.mark.parametrize("n", [1, 2, 3])
def test_killed_while_a_state_is_loaded(n: int, warm: Warm, folder: Path, log: Path, straight: Kept) -> None:
    assert warm.command(run_args(log), folder, "after_emit:9").code == -9
    assert warm.command(run_args(log), folder, f"in_restore:{n}").code == -9
    assert warm.command(run_args(log), folder).code == 0
    assert kept(folder) == straight


@pytest.mark.parametrize("seed", range(6))
def test_killed_again_and_again(seed: int, warm: Warm, folder: Path, log: Path, straight: Kept) -> None:
    draw = random.Random(seed)
    assert warm.command(run_args(log), folder, f"after_emit:{draw.randint(2, 8)}").code == -9
    places = [f"{draw.choice(list(OF_LANES))}:{draw.randint(1, 4)}" for _ in range(5)]
    assert {warm.command(run_args(log), folder, place).code for place in places} <= {-9, 0}
    assert warm.command(run_args(log), folder).code == 0
    assert kept(folder) == straight


def test_killed_in_a_fresh_interpreter(folder: Path, log: Path, straight: Kept) -> None:
    killed = command(run_args(log), folder, {"STREAMREC_FAILPOINT": "mid_transaction:3"})
    assert killed.code == -9
    resumed = command(run_args(log), folder)
    assert resumed.code == 0
    assert "resumed after" in resumed.err
    assert kept(folder) == straight


def test_none_of_these_runs_needs_torch(warm: Warm, straight: Kept) -> None:
    assert not warm.torch
