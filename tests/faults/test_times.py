"""F14 without a broker: whatever times events carry, none goes back for a model."""

import numpy as np
from dry import TOPIC, fed, new_lane
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamrec.event import Event, Record
from streamrec.eventlog.memory import encode_event

NOW = 1_700_000_000.0
TIMES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, NOW, NOW + 86_400.0, NOW - 86_400.0, NOW * 1e3, NOW * 1e6, -1.0]),
    st.sampled_from([5e-324, 1e-300, 253_402_300_799.0, NOW + 1e-7]),
    st.floats(0.0, 2.5e11),
    st.floats(NOW - 5.0, NOW + 5.0),
)
LOGS = st.lists(st.tuples(st.sampled_from("uvw"), TIMES), min_size=1, max_size=60)


@given(log=LOGS, lateness_s=st.sampled_from([0.0, 60.0]))
@example(log=[("u", 0.0), ("u", 1e-300), ("u", 1.0), ("u", 2.0)], lateness_s=0.0)
@example(log=[("u", 0.0), ("u", 5e-324), ("u", 1.0)], lateness_s=0.0)
@settings(max_examples=40)
def test_f14_no_gap_is_negative_and_every_record_has_its_bin(
    log: list[tuple[str, float]], lateness_s: float
) -> None:
    values = [encode_event(Event(user, "m", time)) for user, time in log]
    stamps = [int(NOW * 1e3) + i for i in range(len(log))]
    topic = [
        Record(TOPIC, 0, i, value, None, at) for i, (value, at) in enumerate(zip(values, stamps, strict=True))
    ]
    lane = new_lane(order__lateness_s=lateness_s, cut__mode="fixed", cut__cut_events=8)
    last: dict[str, float] = {}
    for result in fed(lane, topic, 1):
        gaps = result.batch.dt[~np.isnan(result.batch.dt)]
        assert (gaps >= 0).all() and np.isfinite(gaps).all()
        for tie_set in result.sets:
            assert tie_set.time >= last.get(tie_set.user, 0.0)
            last[tie_set.user] = tie_set.time
    counts = lane.cutter.bins.counts
    refused = [time for _, time in log if time < 0 or time > 253_402_300_799.0]
    assert counts.dead_letter == len(refused)
    assert sum(counts) + lane.cutter.order.n_held == len(log)


def test_f14_a_user_of_the_future_makes_nobody_else_late() -> None:
    ahead = NOW + 86_400.0
    events = [Event("soon", "m", ahead), *(Event(f"u{i % 5}", "m", NOW + i) for i in range(40))]
    topic = [
        Record(TOPIC, 0, i, encode_event(event), None, int((NOW + i) * 1e3)) for i, event in enumerate(events)
    ]
    for lateness_s in (0.0, 30.0):
        lane = new_lane(order__lateness_s=lateness_s, order__max_skew_s=lateness_s, cut__mode="fixed")
        for _ in fed(lane, topic, 1):
            pass
        counts = lane.cutter.bins.counts
        assert counts.late == 0 and counts.ok + lane.cutter.order.n_held == 41
