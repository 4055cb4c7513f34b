"""F10, F11: records that are no events, a few among many or nothing else for a while."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
from bad_streams import Page, Stages, bins, free_port, letters, memory_mib, plant, reasons, simulation, wanted
from kafka import KafkaProducer
from stage import Stage, events

from streamrec.eventlog.poison import KINDS, bad_kinds, poison
from streamrec.produce.faults import SMALL_BYTES, Faults, Stream

FIXED: dict[str, Any] = {"cut.mode": "fixed", "cut.cut_events": 64}
EVENTS = 3000
SMALL = bad_kinds(SMALL_BYTES, False)
ALL_KINDS = len(SMALL) / EVENTS
"""Share of poison with which every kind comes once."""

FLOOD_PER_S = 2000.0
GROWTH_MIB = 16.0
"""Most memory that comes to a daemon after the first third of a flood: one arena of the allocator or two."""

LINES_PER_S = 10.0


def poisoned(share: float = ALL_KINDS) -> Stream:
    return Stream(simulation(EVENTS), Faults(poison=share), seed=1)


def test_f10_poison_of_every_kind_is_counted_by_bin_and_reason_also_across_a_kill(stage: Stage) -> None:
    stream = poisoned()
    labels = plant(stage, stream)
    assert set().union(*labels.values()) == {"ok", *SMALL}
    first = stage.daemon("a", kafka__group_instance_id="one")
    stage.wait_until_kept(1000)
    first.kill()
    stage.daemon("b", kafka__group_instance_id="one")
    stage.wait_until_applied()
    stage.end()
    stage.check()
    assert bins(stage) == wanted(stage, labels) == +Counter(stream.bins())
    found = letters(stage)
    assert Counter(letter.reason for letter in found.values()) == reasons(stage, labels)
    bad = {
        (p, at) for p, log in labels.items() for at, label in enumerate(log)
        if label in KINDS and KINDS[label].bin == "dead_letter"
    }  # fmt: skip
    assert found.keys() == bad


def test_f10_metrics_count_every_bad_record_by_its_reason(stage: Stage) -> None:
    stream, port = poisoned(), free_port()
    labels, page = plant(stage, stream), Page(port)
    stage.daemon("a", http__port=port)
    stage.wait_until_applied()
    until = time.monotonic() + 10
    while page.total("events_total", "outcome") < len(stream) and time.monotonic() < until:
        time.sleep(0.1)  # a text is made once a second
    assert page.by("dead_letter_total", "reason") == reasons(stage, labels)
    assert {name: n for name, n in page.by("events_total", "outcome").items() if n} == wanted(stage, labels)
    stage.end()


@pytest.mark.parametrize(("share", "partitions"), [(0.01, 4), (ALL_KINDS, 1)])
def test_f10_what_is_learned_is_what_is_learned_without_the_bad_ones(
    stages: Stages, share: float, partitions: int
) -> None:
    bad, clean = stages(partitions), stages(partitions)
    labels = {stage: plant(stage, poisoned(by)) for stage, by in ((bad, share), (clean, 0.0))}
    for stage in (bad, clean):
        stage.settings |= FIXED
        member = stage.daemon("a", args=["--until-end"])
        assert member.ended(60) == 0, member.said()[-3000:]
        stage.check()
        assert bins(stage) == wanted(stage, labels[stage])
    assert bins(bad)["ok"] == bins(clean)["ok"] == (EVENTS if partitions == 1 else bins(bad)["ok"])
    assert bins(bad)["dead_letter"] > 10
    assert bad.learned() == clean.learned()


@pytest.mark.parametrize(
    "seconds", [pytest.param(6.0, id="short"), pytest.param(60.0, marks=pytest.mark.torture, id="long")]
)
def test_f11_nothing_but_poison_for_a_while(
    stage: Stage, seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    stage.produce(events(500))
    member = stage.daemon("a", http__port=port)
    stage.wait_until_applied()
    page, said = Page(port), len(member.said().splitlines())
    sizes, commits, most_lag = list[float](), list[float](), 0.0
    with flood(stage) as sent:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(seconds / 12)
            assert member.code is None, member.said()[-3000:]
            sizes.append(memory_mib(member.pid))
            commits.append(page.total("committed_offset", "partition"))
            most_lag = max(most_lag, page.total("consumer_lag_records", "partition"))
    stage.wait_until_applied(20 + seconds)
    stage.produce(events(200, seed=1, start=1.8e9))
    stage.wait_until_applied()
    lines = len(member.said().splitlines()) - said
    stage.end()
    stage.check()
    n_skipped = sum(n for name, n in sent.items() if KINDS[name].bin == "skipped")
    told = bins(stage)
    assert told == {"ok": 700, "dead_letter": sent.total() - n_skipped, "skipped": n_skipped}
    assert sorted(commits) == commits and len(set(commits)) >= 4, commits  # closed cuts by records, and kept
    assert lines <= LINES_PER_S * seconds, member.said()[-3000:]
    growth = max(sizes[len(sizes) // 3 :]) - sizes[len(sizes) // 3]
    assert growth <= GROWTH_MIB, sizes
    with capsys.disabled():
        print(f"\nF11: {sent.total()} bad records in {seconds:g} s, lag at most {most_lag:.0f} records, "
              f"memory {sizes[0]:.0f} to {sizes[-1]:.0f} MiB, {lines} log lines")  # fmt: skip


@contextmanager
def flood(stage: Stage) -> Iterator[Counter[str]]:
    """Poison in turns to all partitions while the block runs; how many of each kind, once it has ended."""
    sent, over = Counter[str](), Flag()
    thread = Thread(target=pour, args=(stage, sent, over))
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def pour(stage: Stage, sent: Counter[str], over: Flag) -> None:
    """Send poison at a steady pace until told to stop."""
    producer, began = KafkaProducer(bootstrap_servers=stage.cluster.bootstrap, linger_ms=5), time.monotonic()
    while not over.is_set():
        while sent.total() < FLOOD_PER_S * (time.monotonic() - began):
            number = sent.total()
            name, partition = SMALL[number % len(SMALL)], number % stage.partitions
            producer.send(stage.topic, poison(name, number), key=b"bad", partition=partition)
            stage.log[partition].append(None)
            sent[name] += 1
        time.sleep(0.01)
    producer.flush()
    producer.close()
