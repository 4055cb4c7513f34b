"""Partitions read side by side: every record once, in order, with few seeks and bounded memory."""

import random

import pytest
from fake_topics import TOPIC, Cluster, FakeReader

from streamrec.errors import OutOfRangeError, UnavailableError
from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.merged import Barrier, Merged
from streamrec.eventlog.shelves import Shelves


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(4)
    cluster.send(3000, seed=3)
    return cluster


def whole(cluster: Cluster) -> dict[Place, tuple[int, int]]:
    return {place: (0, end) for place, end in cluster.end.items()}


@pytest.mark.parametrize("kept", [8, 400, 100_000])
def test_any_turns_of_the_partitions_give_every_record_once_in_order(cluster: Cluster, kept: int) -> None:
    shelves = Shelves(FakeReader(cluster), whole(cluster), kept=kept)
    draw, at = random.Random(kept), dict.fromkeys(cluster.logs, 0)
    found: dict[Place, list[Record]] = {place: [] for place in cluster.logs}
    while open_ones := [place for place, offset in at.items() if offset < cluster.end[place]]:
        place = draw.choice(open_ones)
        at[place] = min(at[place] + draw.randrange(1, 90), cluster.end[place])
        found[place] += shelves.below(place, at[place])
    assert found == cluster.logs
    assert all(shelves.peek(place) is None for place in cluster.logs)


def test_what_waits_is_bounded_while_one_partition_is_read_alone(cluster: Cluster) -> None:
    reader = FakeReader(cluster, batch=10)
    shelves = Shelves(reader, whole(cluster), kept=80)
    last = (TOPIC, 3)
    for offset in range(0, cluster.end[last], 7):
        shelves.below(last, offset)
        waiting = sum(len(shelf) for place, shelf in shelves._shelf.items() if place != last)
        assert waiting <= 3 * (80 // 4 + 10)


def test_turns_of_a_live_run_cost_no_seek_each(cluster: Cluster) -> None:
    reader = FakeReader(cluster)
    shelves = Shelves(reader, whole(cluster))
    n_ranges = 0
    for offset in range(10, max(cluster.end.values()), 10):
        for place in cluster.logs:
            shelves.below(place, offset)
            n_ranges += 1
    assert n_ranges > 300
    assert reader.n_assigned <= 2 * len(cluster.logs)


def test_a_partition_that_retention_takes_meanwhile_is_told_of(cluster: Cluster) -> None:
    place = (TOPIC, 1)
    shelves = Shelves(FakeReader(cluster), {place: (0, cluster.end[place])})
    shelves.below(place, 10)
    cluster.trim(place, cluster.end[place] - 1)
    with pytest.raises(OutOfRangeError):
        shelves.below(place, cluster.end[place])


def test_a_cluster_that_stays_silent_is_given_up_after_the_patience(cluster: Cluster) -> None:
    class Silent(FakeReader):
        def poll(self, max_records: int, timeout_s: float) -> list[Record]:
            return []

    times = iter(range(1000))
    place = (TOPIC, 0)
    shelves = Shelves(Silent(cluster), {place: (0, 5)}, patience_s=20.0, clock=lambda: float(next(times)))
    with pytest.raises(UnavailableError, match=r"clicks\[0\]: no record from 0 on within 20 s"):
        shelves.peek(place)
    assert next(times) < 50


def test_merged_partitions_rise_by_broker_time_and_do_not_depend_on_fetches(cluster: Cluster) -> None:
    runs = []
    for batch, kept in [(1, 10), (50, 1000), (5000, 100_000)]:
        shelves = Shelves(FakeReader(cluster, batch), whole(cluster), kept=kept)
        runs.append([one for one in Merged(shelves, list(cluster.logs)) if isinstance(one, Record)])
    assert runs[0] == runs[1] == runs[2]
    stamps = [record.timestamp_ms for record in runs[0] if record.timestamp_ms >= 0]
    assert stamps == sorted(stamps)  # the partitions' own stamps rise in this topic
    for place, log in cluster.logs.items():
        assert [record for record in runs[0] if record[:2] == place] == log


def test_a_barrier_comes_after_all_before_its_offsets_and_before_all_behind_them(cluster: Cluster) -> None:
    one = {(TOPIC, 0): 100, (TOPIC, 2): 40}
    later = {(TOPIC, 0): 300, (TOPIC, 2): 40}
    other = {(TOPIC, 1): 60}
    groups = [
        [Barrier(one, "a"), Barrier(later, "b")],
        [Barrier(other, "c")],
        [Barrier({(TOPIC, 9): 5}, "d")],
    ]
    shelves = Shelves(FakeReader(cluster), whole(cluster))
    at: dict[Place, int] = dict.fromkeys(cluster.logs, -1)
    seen = {}
    for found in Merged(shelves, list(cluster.logs), groups):
        if isinstance(found, Record):
            at[found[:2]] = found.offset
        else:
            seen[found.user] = dict(at)
    assert set(seen) == {"a", "b", "c"}
    for user, limits in (("a", one), ("b", later), ("c", other)):
        for place, limit in limits.items():
            below = [record.offset for record in cluster.logs[place] if record.offset < limit]
            assert seen[user][place] == below[-1]
