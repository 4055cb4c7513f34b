"""The assignor of kafka-python that moves whole lanes (`lane_plan`).

It runs in the member that the group has chosen as its leader. Its name carries the number of lanes, so that a
member with another number, or with another client, is refused by the group instead of splitting lanes.
Members say what they own in the fields that the protocol has for it (version 1); the generation travels as
user data. Members that read other topics than most get nothing.

Source: `CooperativeStickyAssignor` of kafka-python 3.0, of which this keeps the outside.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor, RebalanceProtocol
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

from streamrec.eventlog.base import Place
from streamrec.eventlog.lane_plan import Claim, plan

VERSION: Final = 1


class LaneAssignor:
    """Gives whole lanes to members; one object per member.

    Parameters
    ----------
    lanes : number of lanes
    cooperative : members keep what does not move (KIP-429)

    Examples
    --------
    >>> LaneAssignor(4).name, LaneAssignor(1, cooperative=False).name
    ('streamrec-lanes-4', 'streamrec-lanes-1-eager')
    """

    def __init__(self, lanes: int, cooperative: bool = True) -> None:
        self.lanes, self.cooperative = lanes, cooperative
        self.name = f"streamrec-lanes-{lanes}" + ("" if cooperative else "-eager")
        self._owned: tuple[Place, ...] = ()
        self._generation = -1
        self._before: dict[int, str] = {}  # as this leader gave them to static members

    def supported_protocols(self) -> list[RebalanceProtocol]:
        """The one way in which this assignor rebalances."""
        return [RebalanceProtocol.COOPERATIVE if self.cooperative else RebalanceProtocol.EAGER]

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member tells the leader about itself."""
        entry = ConsumerProtocolSubscription.TopicPartition
        return ConsumerProtocolSubscription(
            version=VERSION,
            topics=sorted(topics),
            user_data=str(self._generation).encode(),
            owned_partitions=[
                entry(topic=topic, partitions=partitions) for topic, partitions in _by_topic(self._owned)
            ],
        )

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Remember what this member was given."""
        self._owned = tuple(sorted((one.topic, one.partition) for one in assignment.partitions()))
        self._generation = generation

    def forget(self) -> None:
        """This member owns nothing any more."""
        self._owned = ()

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """The assignment of every member of the group, by its id."""
        topics = _most_common([tuple(sorted(member.metadata.topics)) for member in members])
        eligible = [member for member in members if tuple(sorted(member.metadata.topics)) == topics]
        places = [(topic, p) for topic in topics for p in sorted(cluster.partitions_for_topic(topic) or ())]
        claims = [_claim(member) for member in eligible]
        given = plan(places, self.lanes, claims, self.cooperative, self._before)
        static = {str(one.group_instance_id) for one in eligible if one.group_instance_id} & given.keys()
        self._before |= {partition % self.lanes: name for name in static for _, partition in given[name]}
        ids = {member.member_id: _name(member) for member in members}
        return {
            member_id: ConsumerProtocolAssignment(VERSION, _by_topic(given.get(name, ())), b"")
            for member_id, name in ids.items()
        }


AbstractPartitionAssignor.register(LaneAssignor)


def _most_common(subscriptions: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    counts = Counter(subscriptions)
    return min(counts, key=lambda topics: (-counts[topics], topics))


def _name(member: Any) -> str:
    return str(member.group_instance_id or member.member_id)


def _claim(member: Any) -> Claim:
    owned = [
        (entry.topic, partition)
        for entry in getattr(member.metadata, "owned_partitions", None) or ()
        for partition in entry.partitions
    ]
    generation = bytes(member.metadata.user_data or b"-1")
    return Claim(_name(member), tuple(owned), int(generation))


def _by_topic(places: Iterable[Place]) -> list[tuple[str, list[int]]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for topic, partition in sorted(places):
        found[topic].append(partition)
    return list(found.items())
