"""Seeds in chunks, for tests that two workers share file by file."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults import CALLS, DISK
from run_seeds import FailedSeedError, Outcome, run_seed, scratch
from scenario import STRIKES

KINDS = {"killed in a step", "stalled in a step", *DISK, *CALLS, *STRIKES}
RARE = {"partition added", "slow", "topic made anew"}


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder for states, gone afterwards; the daemon's warnings are not shown."""
    folder = scratch()
    logging.disable(logging.WARNING)
    try:
        yield folder
    finally:
        logging.disable(logging.NOTSET)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


def run_chunk(first: int, n: int) -> Counter[str]:
    """Run seeds, all of them; the faults that fired.

    Raises
    ------
    AssertionError
        With a line for every seed that failed.
    """
    fired: Counter[str] = Counter()
    failed: list[str] = []
    with in_memory() as folder:
        for seed in range(first, first + n):
            try:
                fired.update(run_seed(seed, folder).fired)
            except FailedSeedError as error:
                failed.append(str(error))
    assert not failed, "\n".join(failed)
    return fired


def run_once(seed: int) -> Outcome:
    """One seed."""
    with in_memory() as folder:
        return run_seed(seed, folder)
