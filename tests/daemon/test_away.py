"""A broker that is away, and a topic that is another one: what needs no broker to be shown."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from streamrec.daemon.held import DONE_S, Held
from streamrec.daemon.observer import Unobserved
from streamrec.errors import OutOfRangeError
from streamrec.event import Record
from streamrec.eventlog.kafka_flaws import refuse_topics_made_anew
from streamrec.state.snapshot import Snapshot
from streamrec.state.store import LaneStore
from streamrec.state.writer import ThreadWriter

OLD, NEW = str(UUID(int=1)), UUID(int=2)


class Metadata:
    """What a client knows of topics."""

    def __init__(self, **ids: UUID) -> None:
        self.ids, self.asked = ids, 0

    def topic_id(self, topic: str) -> UUID | None:
        """Its id, if known."""
        return self.ids.get(topic)

    def request_update(self) -> None:
        """Counted."""
        self.asked += 1


def test_records_of_a_topic_made_anew_are_refused_at_their_first_offset() -> None:
    records = [
        Record("a", 0, 7, b""),
        Record("b", 1, 50, b""),
        Record("b", 1, 51, b""),
        Record("b", 0, 3, b""),
    ]
    metadata = Metadata(a=UUID(OLD), b=NEW)
    with pytest.raises(OutOfRangeError, match="topic b: was made anew") as refused:
        refuse_topics_made_anew(metadata, {"a": OLD, "b": OLD}, records)
    assert refused.value.places == {("b", 1): 50, ("b", 0): 3}
    assert metadata.asked == 1


@pytest.mark.parametrize(
    ("known", "ids"), [(Metadata(), {"a": OLD}), (Metadata(a=NEW), {}), (Metadata(a=NEW), {"a": str(NEW)})]
)
def test_records_pass_where_ids_agree_or_one_is_not_known(known: Metadata, ids: dict[str, str]) -> None:
    records = [Record("a", 0, 7, b"")]
    assert refuse_topics_made_anew(known, ids, records) == records
    assert known.asked == 0


class ToyLane:
    """A lane that is nothing but its writer."""

    def __init__(self, writer: ThreadWriter) -> None:
        self.writer, self.positions = writer, dict[Any, int]()
        self.cutter = SimpleNamespace(offsets_advanced=0)
        self.given_back = threading.Event()

    def abandon(self) -> None:
        """Wait for the writer, as a lane does."""
        self.writer.close()
        self.given_back.set()


def held_of(lane: Any) -> Held:
    """It, held, with a feed that nobody asks."""
    nobody: Any = SimpleNamespace()
    return Held(0, lane, [], nobody, nobody, time.monotonic, 1.0, Unobserved())


def test_nobody_waits_for_a_checkpoint_that_waits_for_a_broker(tmp_path: Path) -> None:
    back = threading.Event()
    with LaneStore.open(tmp_path) as store:
        lane: Any = ToyLane(ThreadWriter(store, sync=back.wait))
        held = held_of(lane)
        lane.writer.try_submit(lambda: Snapshot(serial=1))
        began = time.monotonic()
        held.abandon()
        assert time.monotonic() - began < DONE_S + 5
        assert not lane.given_back.is_set()
        back.set()
        assert lane.given_back.wait(10)
        assert lane.writer.last_success == 1


def test_a_writer_without_work_is_given_back_at_once(tmp_path: Path) -> None:
    with LaneStore.open(tmp_path) as store:
        lane: Any = ToyLane(ThreadWriter(store))
        held_of(lane).abandon()
        assert lane.given_back.is_set()
