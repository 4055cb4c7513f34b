"""Order and cuts on real logs, against a plain grouping by user and time."""

import csv
import gzip
import math
from collections import defaultdict
from itertools import islice
from pathlib import Path

import pytest

from streamrec.cut import Cutter
from streamrec.event import Event, Record, TieSet
from streamrec.order import Order

DATA = Path(__file__).parents[3] / "shared" / "data"
LOGS = ["movielens_small", "retweet", "taobao", "taxi"]


def sets_of(
    pairs: list[tuple[Record, Event]], lateness_s: float, cut_events: int
) -> tuple[list[TieSet], Cutter]:
    last: dict[str, float] = {}
    cutter = Cutter(Order(lateness_s), lambda user: last.get(user, math.nan), cut_events)
    sets: list[TieSet] = []
    for part in (cutter.feed(pairs), cutter.finish()):
        for cut in part:
            last.update((tie_set.user, tie_set.time) for tie_set in cut.sets)
            sets += cut.sets
    return sets, cutter


@pytest.mark.parametrize("name", LOGS)
def test_the_tie_sets_of_a_sorted_log_are_its_groups_by_user_and_time_with_and_without_a_watermark(
    name: str,
) -> None:
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip("the folder ../shared/data is not here")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(islice(csv.DictReader(file), 20_000))
    events = [Event(row["key"], row["type"], float(row["time"]), None, 0, i) for i, row in enumerate(rows)]
    groups: dict[tuple[float, str], list[str]] = defaultdict(list)
    for event in events:
        groups[event.time, event.user].append(event.mark)
    assert max(map(len, groups.values())) < 128
    wanted = [(user, time, tuple(sorted(marks))) for (time, user), marks in groups.items()]
    pairs = [(Record("log", 0, event.offset, b""), event) for event in events]
    for lateness_s, cut_events in ((0.0, 128), (0.0, 7), (3600.0, 128)):
        sets, cutter = sets_of(pairs, lateness_s, cut_events)
        assert [(s.user, s.time, s.marks) for s in sets] == wanted
        assert (cutter.bins.counts.ok, cutter.bins.total) == (len(events), len(events))
