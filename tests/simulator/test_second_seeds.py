"""Seeds 250 to 499 of the simulator: the daemon's own loop under faults loses nothing and doubles nothing."""

from collections import Counter

import pytest
from chunks import KINDS, RARE, run_chunk
from run_seeds import table

FIRST, SEEDS, CHUNK = 250, 250, 50
FIRED: Counter[str] = Counter()


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_whatever_happens_every_record_counts_once(first: int) -> None:
    FIRED.update(run_chunk(first, CHUNK))


def test_every_kind_of_fault_has_fired() -> None:
    if FIRED:  # nothing to say where only this test was chosen
        print(table(FIRED, SEEDS))
        assert not KINDS - RARE - set(FIRED)
