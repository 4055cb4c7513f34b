"""F10 without a broker: one bad record in a hundred, of every kind; in the long form among 200,000 events."""

import time
from collections import Counter

import numpy as np
import pytest
from dry import fed, new_lane, records

from streamrec.eventlog.poison import bad_kinds
from streamrec.eventlog.reasons import SKIPPED
from streamrec.lane import Lane
from streamrec.produce.faults import LARGE_BYTES, Faults, Stream
from streamrec.simulate import Simulation

SHARE = 0.01


def simulation(events: int) -> Simulation:
    """Users and marks as they come, in order of time."""
    draw = np.random.Generator(np.random.Philox(key=9))
    user = np.minimum(draw.zipf(1.3, events), 20_000).astype(np.int64)
    mark = np.minimum(draw.zipf(1.5, events), 300).astype(np.int64)
    nothing = np.full(events, np.nan)
    return Simulation(user, mark, 1.7e9 + np.cumsum(draw.exponential(2.0, events)), *[nothing] * 3, 0.0)


def learned(stream: Stream) -> tuple[Lane, float]:
    """A lane that has learned a stream to its end, and the seconds that took."""
    lane, log = new_lane(cut__mode="fixed"), list(records(stream, 1))
    began = time.process_time()
    for _ in fed(lane, log, 1):
        pass
    return lane, time.process_time() - began


@pytest.mark.parametrize(
    "n", [pytest.param(20_000, id="short"), pytest.param(200_000, marks=pytest.mark.torture, id="long")]
)
def test_f10_one_bad_record_in_a_hundred_of_every_kind_is_counted_and_changes_nothing(
    n: int, capsys: pytest.CaptureFixture[str]
) -> None:
    events = simulation(n)
    bad = Stream(events, Faults(poison=SHARE, large=True), seed=4)
    planted = Counter(bad.summary()["poison"])
    assert planted.total() == n * SHARE and set(planted) == set(bad_kinds(LARGE_BYTES, False))
    with_bad, bad_s = learned(bad)
    without, clean_s = learned(Stream(events, Faults(), seed=4))
    told = with_bad.cutter.bins
    assert told.counts._asdict() == bad.bins()
    assert told.counts.ok == without.cutter.bins.counts.ok == n
    wanted = Counter({name: n for name, n in bad.summary()["reasons"].items() if name not in SKIPPED})
    assert told.reasons == wanted
    assert with_bad.learned() == without.learned()
    with capsys.disabled():
        print(f"\nF10: {n} events and {planted.total()} bad records in {bad_s:.1f} CPU s, without "
              f"the bad ones in {clean_s:.1f} s: {clean_s / bad_s:.2f} times as fast")  # fmt: skip
