"""Runs seeds of the simulator: `python tests/simulator/run_seeds.py --seeds 1000`, or one with `--seed 123`.

A failing seed prints the line that runs it again.
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from checks import check
from world import World, empty

MIN_EVENTS = 300


class Outcome(NamedTuple):
    """What a seed did: its trace, the digests of its lanes, the faults that fired, events, turns."""

    trace: str
    digests: tuple[tuple[str, str], ...]
    fired: Counter[str]
    n_events: int
    turns: int


class FailedSeedError(AssertionError):
    """A seed broke a rule; says how to see it again."""


def scratch() -> Path:
    """A folder in memory where there is one: fsync is slow elsewhere."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="streamrec-sim-", dir=memory if memory.is_dir() else None))


def run_seed(
    seed: int, folder: Path, planted: Callable[[Any], None] | None = None, log: list[str] | None = None
) -> Outcome:
    """Run a seed and check it.

    Raises
    ------
    FailedSeedError
        If anything does not hold.
    """
    world = World(seed, empty(folder / "state"), planted)
    world.log = log
    try:
        world.run()
        digests = check(world)
        fired = world.faults.fired
        assert world.workload.n_written >= MIN_EVENTS, f"only {world.workload.n_written} events"
        assert len(world.broker.places()) >= 2, "fewer than two partitions"
        assert fired.total() > 0, "no fault fired"
        world.note("digests", *digests)
    except Exception as error:
        raise FailedSeedError(
            f"seed {seed}: {type(error).__name__}: {error} -- again with: make simulate SEED={seed}"
        ) from error
    return Outcome(world.trace, tuple(digests), fired, world.workload.n_written, world.turns)


def table(fired: Counter[str], seeds: int) -> str:
    """Faults that fired, by kind."""
    lines = [f"{kind:<32}{n:>8}" for kind, n in sorted(fired.items())]
    return "\n".join([f"faults that fired in {seeds} seeds", *lines])


def main() -> int:
    """Run seeds; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=None, help="only this one, with what happened in it")
    asked = parser.parse_args()
    folder = scratch()
    try:
        if asked.seed is not None:
            return _one(asked.seed, folder)
        return _many(asked.first, asked.seeds, folder)
    finally:
        shutil.rmtree(folder)


def _one(seed: int, folder: Path) -> int:
    log: list[str] = []
    try:
        outcome = run_seed(seed, folder, log=log)
    except FailedSeedError as error:
        print("\n".join(log))
        traceback.print_exception(error)
        return 1
    print("\n".join(log))
    print(f"seed {seed}: {outcome.n_events} events, {outcome.turns} turns, trace {outcome.trace[:16]}")
    return 0


def _many(first: int, seeds: int, folder: Path) -> int:
    fired: Counter[str] = Counter()
    failed = 0
    began = told = time.monotonic()
    for done, seed in enumerate(range(first, first + seeds), 1):
        try:
            fired.update(run_seed(seed, folder).fired)
        except FailedSeedError as error:
            failed += 1
            print(error, flush=True)
        if time.monotonic() - told > 10 or done == seeds:
            told = time.monotonic()
            print(
                f"{done} of {seeds} seeds, {failed} failed, {done / (told - began):.1f} seeds/s", flush=True
            )
    print(table(fired, seeds))
    return int(failed > 0)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
