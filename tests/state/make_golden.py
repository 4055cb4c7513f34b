"""Writes a whole state of this version as text: `python tests/state/make_golden.py`, once per version.

    golden/lane_of_topics_1.sql.gz   a lane's file, as SQL, as the daemon left it after 200 records
    golden/lane_of_topics_1.json     what has to be read out of it
    golden/lane_prepared_2.sql       a toy's file whose newest save can still be undone, as with transactions

A later version adds its own and goes on to read these; none is ever written again.
"""

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from lane_toys import Toy, restored, saved_lane

from streamrec.daemon.layout import layout_of
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.settings import Settings, load_settings
from streamrec.state.store import LaneStore

GOLDEN = Path(__file__).parent / "golden"
NAME, UNDOABLE = "lane_of_topics_1", "lane_prepared_2"
RECORDS = 200
SETTINGS = {
    "models.enabled": ["gamma_poisson", "context_1"],
    "order.lateness_s": 30.0,
    "cut.cut_events": 32,
    "checkpoint.every_events": 50,
}
PLACES = [("clicks", 0), ("clicks", 1)]
TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAA"


def settings() -> Settings:
    """Of the lane."""
    return load_settings(None, SETTINGS, {})


def pairs(first: int, last: int) -> Iterator[tuple[Record, Event | Reject]]:
    """Records of two partitions: events, now and then a late one, a copy, or one that is none."""
    for i in range(first, last):
        place, offset = PLACES[i % 2], i // 2
        time = 1_700_000_000.0 + 7.0 * i - (400.0 if i % 41 == 40 else 0.0)
        event = Event(f"u{i % 2}{i % 5}", f"m{i % 7}", time, id=f"e{i - 2 if i % 37 == 36 else i}")
        record = Record(*place, offset, b"%d" % i, None, int(time * 1000))
        read = event._replace(partition=place[1], offset=offset)
        yield record, (Reject("not_json", "") if i % 29 == 28 else read)


def learn(lane: Lane, first: int, last: int) -> None:
    """Records in order, in cuts, with checkpoints when they are due."""
    for cut in lane.cutter.feed(pairs(first, last)):
        lane.apply(cut)
        lane.keep_if_due()
    if lane.cutter.has_work:
        lane.apply(lane.cutter.close())


def new_lane() -> Lane:
    """As the daemon makes it."""
    return Lane(settings(), Outputs(), clock_of=own_clock)


def told(lane: Lane) -> dict[str, object]:
    """What can be read out of a lane."""
    users, rows = lane.engine.arena.names_in_order()
    return {
        "learned": lane.learned(),
        "position": lane.position(),
        "positions": [[*place, at] for place, at in sorted(lane.positions.items())],
        "bins": lane.cutter.bins.counts._asdict(),
        "held": lane.cutter.order.n_held,
        "lengths": dict(zip(users, lane.engine.arena["history.length"][rows].tolist(), strict=True)),
        "marks": lane.engine.vocabulary.n_marks,
        "layout": lane.layout.hex(),
    }


def prepared_lane(folder: Path, steps: int) -> Toy:
    """A toy's lane of so many steps that count, and one prepared save more, left open; the toy after it."""
    saved_lane(folder, steps)
    with LaneStore.open(folder) as store:
        toy = restored(store)
        toy.step()
        store.save(toy.snapshot(), prepared=True)
    return toy


def sql_of(folder: Path) -> str:
    """A lane's file as SQL."""
    with closing(sqlite3.connect(folder / "lane.sqlite")) as file:
        return "\n".join(file.iterdump()) + "\n"


def main() -> None:
    """Write what is not there yet."""
    script, facts = GOLDEN / f"{NAME}.sql.gz", GOLDEN / f"{NAME}.json"
    if not script.exists():
        with TemporaryDirectory() as folder:
            with new_lane() as lane:
                lane.open(Path(folder))
                lane.layout = layout_of(1, PLACES, {"clicks": TOPIC_ID}).to_bytes()
                learn(lane, 0, RECORDS)
                facts.write_text(json.dumps(told(lane), indent=1, sort_keys=True) + "\n", encoding="utf-8")
            script.write_bytes(gzip.compress(sql_of(Path(folder)).encode(), mtime=0))
    undoable = GOLDEN / f"{UNDOABLE}.sql"
    if not undoable.exists():
        with TemporaryDirectory() as folder:
            prepared_lane(Path(folder), 3)
            undoable.write_text(sql_of(Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
