"""What kafka-python 3.0.12 does wrong in a poll, and what is done about it before or after each.

All functions but `hush` look at the library's own fields, between two polls, when nothing else touches them.
"""

import logging
from collections.abc import Mapping
from typing import Any

from streamrec.errors import OutOfRangeError
from streamrec.event import Record

CHATTER = ("kafka.net", "kafka.cluster")
"""Loggers that say several times a second that a broker or a topic is away, and that a connection was closed,
also by ourselves, or our threads were busy."""


def hush() -> None:
    """Write nothing of this chatter: what a broken connection costs is said once, where it is noticed."""
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def end_the_join(consumer: Any) -> None:
    """Have a join that is under way awaited to its end.

    A member that leads its group joins anew when topics look other than they did. If such a join outlasts
    a poll, the library forgets it, for by then it knows the topics: the member stays in the middle of it,
    with records but without heartbeats and commits, until the broker gives it up. That is so at most
    first starts, where the topics become known while the first join is under way.
    """
    coordinator = consumer._coordinator
    if coordinator is not None and coordinator._join_task is not None:
        coordinator.request_rejoin()


def free_the_line(consumer: Any) -> None:
    """Take what is used up out of the way of records that were fetched before a pause.

    The library gives those back only if no other fetch is in the line; one that is used up stays there,
    so that a resumed partition would stand still until another has news.
    """
    fetcher = consumer._fetcher
    if fetcher._paused_partition_records and not fetcher._next_partition_records:
        fetcher._next_partition_records = None


def refuse_topics_made_anew(cluster: Any, ids: Mapping[str, str], records: list[Record]) -> list[Record]:
    """The records, if none is of a topic that is not the one whose id is known.

    The library asks for topics by name: one that was deleted and made anew is read on from the old offset.

    Raises
    ------
    OutOfRangeError
        Naming the places; they have to be held against the log once more.
    """
    firsts = {record[:2]: record.offset for record in reversed(records)}
    now = {topic: cluster.topic_id(topic) for topic, _ in firsts}
    anew = {topic for topic, found in now.items() if found and str(found) != ids.get(topic, str(found))}
    if anew:
        cluster.request_update()
        raise OutOfRangeError(
            f"topic {', '.join(sorted(anew))}: was made anew under its old name",
            {place: offset for place, offset in firsts.items() if place[0] in anew},
        )
    return records
