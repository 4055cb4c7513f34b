"""Where a lane stands, against what the log holds: loss is said and counted, never passed over.

    log begins after our position   records are gone: [ours, first)           cause retention
    log ends before our position    its end is gone, or it is another log     cause truncated
    the topic has another id        it was made anew: nothing of it was read  cause recreated

Gaps inside of what is fetched (transaction markers, compaction) are none of these.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from streamrec.daemon.layout import Layout
from streamrec.entries import GapSkip, Rewound
from streamrec.errors import RetentionLossError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Bounds

Gap = GapSkip | Rewound


def gaps(
    positions: Mapping[Place, int], bounds: Mapping[Place, Bounds], anew: Sequence[str] = ()
) -> list[Gap]:
    """What has to happen before a lane can read on, in the order of its places.

    Parameters
    ----------
    positions : next offsets of the lane
    bounds : what the log holds
    anew : topics that were made anew under their old name

    Examples
    --------
    >>> gaps({("clicks", 0): 50}, {("clicks", 0): Bounds(75, 90)})
    [GapSkip(topic='clicks', partition=0, first=50, next=75, cause='retention')]
    """
    found = (
        _gap(place, at, bounds[place], anew) for place, at in sorted(positions.items()) if place in bounds
    )
    return [gap for gap in found if gap is not None]


def _gap(place: Place, at: int, bounds: Bounds, anew: Sequence[str]) -> Gap | None:
    topic, partition = place
    if topic in anew:
        return Rewound(topic, partition, at, bounds.first, "recreated")
    if at < bounds.first:
        return GapSkip(topic, partition, at, bounds.first, "retention")
    if at > bounds.end:
        return Rewound(topic, partition, at, bounds.end, "truncated")
    return None


def recreated(kept: Layout | None, now: Layout) -> list[str]:
    """Topics whose id is not the one that was kept."""
    if kept is None:
        return []
    ids = [(name, topic.id, now.topics[name].id) for name, topic in kept.topics.items() if name in now.topics]
    return [name for name, before, after in ids if before and after and before != after]


def lost_records(gap: Gap) -> int:
    """Records that are known to be gone unread: none where the log is another one, for nobody knows."""
    return gap.next - gap.first if isinstance(gap, GapSkip) else 0


def refuse(found: Sequence[Gap], policy: Literal["fail", "skip"]) -> None:
    """Stop if records were lost and the policy does not say to go on.

    Raises
    ------
    RetentionLossError
        Naming the first loss and how to go on.
    """
    if found and policy == "fail":
        raise RetentionLossError(
            "; ".join(_told(gap) for gap in found)
            + "; restore the topic, or go on without these records with --on-gap skip"
        )


def _told(gap: Gap) -> str:
    where = f"{gap.topic}[{gap.partition}]"
    if isinstance(gap, GapSkip):
        return (
            f"{where}: {gap.next - gap.first} records are gone before they were read: next is {gap.first}, "
            f"the log begins at {gap.next}"
        )
    if gap.cause == "recreated":
        return f"{where}: the topic was made anew since {gap.next} records of it were read"
    return f"{where}: the log ends at {gap.to}, but {gap.next} was to be read next"
