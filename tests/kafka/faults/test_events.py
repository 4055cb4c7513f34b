"""F14, F15: clocks that are wrong, events that come late, twice or out of their order."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from bad_streams import bins, letters, plant, send, simulation, wanted
from daemons import Host
from stage import Stage, events

from streamrec.eventlog.clients import Message
from streamrec.produce.faults import Faults, Stream
from streamrec.verbs.opening import kept_lane

FIXED: dict[str, Any] = {"cut.mode": "fixed", "cut.cut_events": 64}
LATENESS_S = 600.0
DISORDER = Faults(poison=0.01, duplicates=0.03, late=0.05, lateness_s=LATENESS_S, shuffle=10)
NOW = 1_700_000_000

TIMES = [
    ("u1", "0", "ok"),
    ("u1", "0", "ok"),
    ("u1", "-0.0", "ok"),
    ("u2", "1", "ok"),
    ("u2", str(NOW), "ok"),
    ("u2", "1", "late"),
    ("u3", str(NOW + 86_400), "ok"),
    ("u3", str(NOW), "late"),
    ("u3", str(NOW + 86_400), "ok"),
    ("u3", f'"{NOW + 86_401}"', "ok"),
    ("u4", "253402300799", "ok"),
    ("u4", str(NOW), "late"),
    ("u5", f"{NOW}000", "time_out_of_range"),
    ("u5", f"{NOW}000000", "time_out_of_range"),
    ("u5", "-1", "time_negative"),
    ("u5", "NaN", "not_json"),
    ("u5", "1e999", "time_not_finite"),
    ("u5", '"NaN"', "time_not_finite"),
    ("u5", '"2023-11-14T22:13:20Z"', "ok"),
    ("u5", '"2023-11-14T22:13:19+00:00"', "late"),
    ("u5", f"{NOW}.5", "ok"),
    ("u6", f"{NOW}", "ok"),
    ("u6", f"{NOW - 1}", "late"),
    ("u6", f"{NOW - 2}", "late"),
    ("u6", f"{NOW}", "ok"),
]
"""User, time as it stands in the message, and what has to become of it."""


def test_f14_event_times_that_cannot_be_are_refused_and_none_goes_back(stage: Stage) -> None:
    values = [f'{{"user":"{user}","mark":"m","time":{time}}}'.encode() for user, time, _ in TIMES]
    partitions = [stage.partition_of(user) for user, _, _ in TIMES]
    send(
        stage.cluster,
        [Message(stage.topic, value, None, (), 0, p) for value, p in zip(values, partitions, strict=True)],
    )
    stage.daemon("a")
    stage.wait_until_applied()
    stage.end()
    stage.check_offsets()
    stage.verify()
    fates = [fate for _, _, fate in TIMES]
    refused = [fate for fate in fates if fate not in ("ok", "late")]
    assert bins(stage) == {
        "ok": fates.count("ok"),
        "late": fates.count("late"),
        "dead_letter": len(refused),
    }
    assert sorted(letter.reason for letter in letters(stage).values()) == sorted(refused)
    lane = kept_lane(stage.state)
    last = {user: lane.engine.last_time(user) for user in ("u1", "u2", "u3", "u4", "u6")}
    open_now = set(lane.cutter.order.open_users())
    for user, wanted_last in {"u1": 0.0, "u2": NOW, "u3": NOW + 86_401, "u6": NOW}.items():
        assert last[user] == wanted_last or user in open_now


@pytest.fixture(scope="module")
def jumping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Forks daemons whose wall clock jumps by up to a day at every look."""
    host = Host(tmp_path_factory.mktemp("jumping") / "host.log", "jumping_host.py")
    yield host
    host.close()


def test_f14_a_wall_clock_that_jumps_changes_nothing(jumping: Host, stage: Stage) -> None:
    """The broker stamps what comes: a topic that trusts clocks refuses those that are an hour ahead."""
    by_broker = {"message.timestamp.type": "LogAppendTime"}
    stage.forecasts = stage.cluster.topic("forecasts", 2, by_broker)
    stage.letters = stage.cluster.topic("letters", 1, by_broker)
    calm, stage.host = stage.host, jumping
    stage.settings |= FIXED
    stage.produce(events(2000))
    first = stage.daemon("a", kafka__group_instance_id="one")
    stage.wait_until_kept(800)
    first.kill()
    last = stage.daemon("b", args=["--until-end"], kafka__group_instance_id="one")
    assert last.ended(60) == 0, last.said()[-3000:]
    stage.host = calm
    stage.check()
    assert stage.learned() == stage.undisturbed()


def test_f14_forecasts_refused_for_a_clock_that_is_ahead_end_it_in_one_line_and_lose_nothing(
    jumping: Host, stage: Stage
) -> None:
    calm, stage.host = stage.host, jumping
    stage.produce(events(2000))
    member = stage.daemon("a", args=["--until-end"], kafka__group_instance_id="one")
    assert member.ended(60) == 3, member.said()[-3000:]
    assert "message.timestamp.type=LogAppendTime" in member.said().splitlines()[-1]
    stage.host = calm
    stage.daemon("b", kafka__group_instance_id="one")
    stage.wait_until_applied()
    stage.end()
    stage.check()


@pytest.mark.parametrize("mode", ["live", "fixed"])
def test_f15_late_double_and_shuffled_events_are_counted_exactly(stage: Stage, mode: str) -> None:
    stage.settings |= {"order.lateness_s": LATENESS_S, **(FIXED if mode == "fixed" else {})}
    stream = Stream(simulation(3000), DISORDER, seed=2)
    labels = plant(stage, stream)
    first = stage.daemon("a", kafka__group_instance_id="one")
    stage.wait_until_kept(1000)
    first.kill()
    args = ["--until-end"] if mode == "fixed" else []
    last = stage.daemon("b", args=args, kafka__group_instance_id="one")
    if mode == "fixed":
        assert last.ended(60) == 0, last.said()[-3000:]
    else:
        stage.wait_until_applied()
        stage.end()
    stage.check_offsets()
    stage.verify()
    told = bins(stage)
    assert told == wanted(stage, labels)
    assert min(told[name] for name in ("late", "duplicate", "dead_letter")) > 10
    assert len(letters(stage)) == told["dead_letter"]
    if mode == "fixed":
        assert stage.learned() == stage.undisturbed()


def test_f15_without_a_lateness_what_comes_behind_its_user_is_late_and_the_rest_is_not(stage: Stage) -> None:
    stream = Stream(simulation(2000), DISORDER, seed=2)
    plant(stage, stream)
    stage.daemon("a")
    stage.wait_until_applied()
    stage.end()
    stage.check_offsets()
    stage.verify()
    assert bins(stage) == +Counter(stream.bins_by_arrival())
