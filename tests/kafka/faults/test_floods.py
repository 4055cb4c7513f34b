"""F16, F17: one user with a third of the load, and names without end."""

import random
import time
from typing import Any

import pytest
from bad_streams import Page, free_port, memory_mib
from stage import Stage, events

from streamrec.event import Event
from streamrec.verbs.opening import kept_lane

FIXED: dict[str, Any] = {"cut.mode": "fixed", "cut.cut_events": 64}
CAPS: dict[str, Any] = {
    "state.max_users": 400,
    "state.user_floor": 50,
    "state.max_marks": 200,
    "state.mark_floor": 20,
}
A_CUT = 64
"""By as many names a cap may be passed until the next cut."""

GROWTH_MIB = 16.0
"""Most memory that a daemon with small caps gains after the first third of a flood of names."""


def with_a_hot_user(n: int, share: float = 0.3) -> list[Event]:
    """Events of many users; a share of them are of one, each at a time of its own."""
    draw = random.Random(5)
    return [
        Event("hot", event.mark, event.time + i * 1e-3, id=event.id)
        if draw.random() < share
        else event._replace(time=event.time + i * 1e-3)
        for i, event in enumerate(events(n))
    ]


def names_without_end(n: int, first: int = 0) -> list[Event]:
    """Every second event is of a user never seen, with a mark never seen; the others of a few."""
    known = events(n, users=20)
    return [
        Event(f"new{first + i}", f"m-{first + i}", 1.7e9 + 10.0 * (first + i), id=f"n{first + i}")
        if i % 2
        else known[i]._replace(time=1.7e9 + 10.0 * (first + i), id=f"k{first + i}")
        for i in range(n)
    ]


def test_f16_one_user_with_a_third_of_the_load(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    stage.produce(with_a_hot_user(4000))
    first = stage.daemon("a", kafka__group_instance_id="one")
    stage.wait_until_kept(1500)
    first.kill()
    stage.daemon("b", kafka__group_instance_id="one", http__port=port)
    stage.wait_until_applied()
    cuts = {float(edge): n for edge, n in Page(port).by("stage_seconds_bucket", "le", stage="cut").items()}
    stage.end()
    stage.check()
    arena = kept_lane(stage.state).engine.arena
    hot = int(arena["history.length"][arena.find("hot")])
    assert hot > 1000  # in a row as wide as everybody's
    with capsys.disabled():
        print(f"\nF16: hot user {hot} of 4000 events, 99 % of cuts within {_quantile(cuts, 0.99):g} s, "
              f"half within {_quantile(cuts, 0.5):g} s")  # fmt: skip


def _quantile(buckets: dict[float, float], share: float) -> float:
    total = max(buckets.values())
    return min(edge for edge, n in buckets.items() if n >= share * total)


def test_f17_names_without_end_are_evicted_and_the_state_stays_exact_across_kills(stage: Stage) -> None:
    stage.settings |= FIXED | CAPS
    stage.produce(names_without_end(4000))
    for kill in range(2):
        member = stage.daemon(f"a{kill}", kafka__group_instance_id="one")
        stage.wait_until_kept(1000 * (kill + 1))
        member.kill()
    last = stage.daemon("b", args=["--until-end"], kafka__group_instance_id="one")
    assert last.ended(60) == 0, last.said()[-3000:]
    stage.check_offsets()
    stage.verify()
    engine = kept_lane(stage.state).engine
    assert len(engine.arena.names_in_order()[0]) <= CAPS["state.max_users"] + A_CUT
    assert engine.vocabulary.n_marks <= CAPS["state.max_marks"] + A_CUT
    assert stage.learned() == stage.undisturbed()


@pytest.mark.parametrize(
    "n", [pytest.param(6_000, id="short"), pytest.param(1_000_000, marks=pytest.mark.torture, id="long")]
)
def test_f17_memory_is_bounded_by_the_caps_and_evictions_are_counted(
    stage: Stage, n: int, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    stage.settings |= CAPS | {"order.dedupe_events": 1000, "checkpoint.every_events": 2000}
    member = stage.daemon("a", http__port=port)
    page, sizes, began = Page(port), list[float](), time.monotonic()
    for first in range(0, n, n // 12):
        stage.produce(names_without_end(n // 12, first))
        stage.wait_until_applied(60 + n / 1000)
        sizes.append(memory_mib(member.pid))
    seconds = time.monotonic() - began
    while page.total("applied_events") < n:
        time.sleep(0.1)
    assert page.total("tracked_users") <= CAPS["state.max_users"] + A_CUT
    assert page.total("tracked_items") <= CAPS["state.max_marks"] + A_CUT
    evicted = page.by("evictions_total", "kind")
    assert evicted["user"] >= n / 2 - CAPS["state.max_users"] - A_CUT
    assert evicted["item"] >= n / 2 - CAPS["state.max_marks"] - A_CUT
    assert max(sizes[4:]) - sizes[4] <= GROWTH_MIB, sizes
    stage.end()
    stage.check_offsets()
    with capsys.disabled():
        print(f"\nF17: {n} events, {n // 2} new users and marks in {seconds:.0f} s, "
              f"memory {sizes[0]:.0f} to {sizes[-1]:.0f} MiB")  # fmt: skip
