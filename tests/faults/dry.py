"""Lanes that are fed from memory, as the daemon feeds them from a topic: no broker, no disk.

records(stream, 4)        what a topic of four partitions would hold
fed(lane, records)        rounds of equal shares, cuts applied one after the other
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from streamrec.cut import Cut
from streamrec.daemon.feeds import FixedFeed
from streamrec.event import Record
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.processor import CutResult
from streamrec.produce.faults import Stream
from streamrec.produce.streamfeed import StreamFeed
from streamrec.settings import load_settings

TINY = {"models.enabled": ["gamma_poisson", "context_1"]}
TOPIC = "clicks"
POLL = 2000


def new_lane(**settings: Any) -> Lane:
    """A lane with a small bank; dotted names with `__` for the dot."""
    chosen = {name.replace("__", "."): value for name, value in settings.items()}
    return Lane(load_settings(None, {**TINY, **chosen}, {}), Outputs(), clock_of=own_clock)


def records(stream: Stream, partitions: int) -> Iterator[Record]:
    """The records of a stream with their places, in the order in which they were sent."""
    feed, offsets, stamp = StreamFeed(stream, TOPIC, partitions), [0] * partitions, 1
    while lines := feed.lines(POLL, stamp):
        stamp = lines[-1].stamp_ms
        for message in (line.message for line in lines):
            assert message is not None and message.partition is not None
            place = TOPIC, message.partition, offsets[message.partition]
            offsets[message.partition] += 1
            yield Record(*place, message.value, message.key, message.timestamp_ms or -1)


def fed(lane: Lane, log: Iterable[Record], partitions: int) -> Iterator[CutResult]:
    """What every cut gave, up to the end of the log."""
    feed, codec = FixedFeed(lane.cutter, [(TOPIC, p) for p in range(partitions)]), JsonCodec(FieldNames())
    for page in pages(log):
        feed.take(zip(page, codec.decode_many(page), strict=True))
        yield from (lane.apply(step) for step in feed.steps() if isinstance(step, Cut))
    yield from (lane.apply(step) for step in feed.finish(at_end=True) if isinstance(step, Cut))


def pages(log: Iterable[Record]) -> Iterator[Sequence[Record]]:
    """The log as polls give it."""
    page: list[Record] = []
    for record in log:
        page.append(record)
        if len(page) == POLL:
            yield page
            page = []
    yield page
