"""Which partitions make up a lane, and what a lane remembers of its topics.

    lane of (topic, p) = p mod lanes

The layout is kept with every lane: with several lanes another number of partitions would send users to
other lanes than the ones that know them, so it is refused until the state was made anew for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from streamrec.errors import StateError
from streamrec.eventlog.base import Place


class Topic(msgspec.Struct, frozen=True, array_like=True):
    """What a lane remembers of a topic: the cluster's id of it, and its number of partitions."""

    id: str
    partitions: int


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """Number of lanes, and the topics by name.

    Examples
    --------
    >>> layout = Layout(2, {"clicks": Topic("x", 4)})
    >>> Layout.from_bytes(layout.to_bytes()) == layout, Layout.from_bytes(b"") is None
    (True, True)
    """

    lanes: int
    topics: dict[str, Topic]

    def to_bytes(self) -> bytes:
        """As it is kept."""
        return msgspec.msgpack.encode(Layout(self.lanes, dict(sorted(self.topics.items()))))

    @staticmethod
    def from_bytes(data: bytes) -> "Layout | None":
        """What was kept, None if nothing was."""
        return msgspec.msgpack.decode(data, type=Layout) if data else None


def lane_of(place: Place, lanes: int) -> int:
    """Number of the lane that a partition belongs to.

    Examples
    --------
    >>> [lane_of(("clicks", p), 2) for p in range(4)]
    [0, 1, 0, 1]
    """
    return place[1] % lanes


def by_lane(places: Iterable[Place], lanes: int) -> dict[int, list[Place]]:
    """Partitions by lane, each list in order.

    Examples
    --------
    >>> by_lane([("b", 1), ("a", 0), ("a", 2)], 2)
    {0: [('a', 0), ('a', 2)], 1: [('b', 1)]}
    """
    groups: dict[int, list[Place]] = {}
    for place in sorted(places):
        groups.setdefault(lane_of(place, lanes), []).append(place)
    return dict(sorted(groups.items()))


def folder_of(state: Path, number: int, lanes: int) -> Path:
    """Folder of a lane: the state's own if there is only one lane, else `lane-<number>` in it."""
    return state if lanes == 1 else state / f"lane-{number}"


def layout_of(lanes: int, places: Sequence[Place], ids: Mapping[str, str]) -> Layout:
    """The layout of a cluster as it is now."""
    counts: dict[str, int] = {}
    for topic, _ in places:
        counts[topic] = counts.get(topic, 0) + 1
    return Layout(lanes, {topic: Topic(ids.get(topic, ""), n) for topic, n in sorted(counts.items())})


def refuse_changes(kept: Layout | None, now: Layout) -> None:
    """Make sure that a lane's users are still its own.

    Raises
    ------
    StateError
        If the number of lanes changed, or with several lanes the number of partitions.
    """
    if kept is None:
        return
    if kept.lanes != now.lanes:
        raise StateError(
            f"kafka.lanes: the state was made with {kept.lanes} lanes, now {now.lanes} are wanted; set it "
            "back, or make the state anew with streamrec state repartition"
        )
    changed = [
        f"{name} had {topic.partitions} partitions, now {now.topics[name].partitions}"
        for name, topic in kept.topics.items()
        if name in now.topics and now.topics[name].partitions != topic.partitions
    ]
    if changed and kept.lanes > 1:
        raise StateError(
            f"{'; '.join(changed)}: users belong to other lanes than before; make the state anew with "
            "streamrec state repartition"
        )
