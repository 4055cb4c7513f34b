"""Whole lanes, evenly, with few moves, in two rounds; whatever members come and go."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

from streamrec.eventlog.base import Place
from streamrec.eventlog.lane_assignor import LaneAssignor
from streamrec.eventlog.lane_plan import Claim, plan

NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True)
LANES = st.integers(1, 9)


def places_of(partitions: dict[str, int]) -> list[Place]:
    return [(topic, p) for topic, n in sorted(partitions.items()) for p in range(n)]


TOPICS = st.dictionaries(st.sampled_from(["clicks", "views"]), st.integers(1, 12), min_size=1).map(places_of)


def lanes_of(given: dict[str, list[Place]], lanes: int) -> dict[str, set[int]]:
    return {name: {p % lanes for _, p in places} for name, places in given.items()}


def settled(
    places: list[Place], lanes: int, names: list[str], owned: dict[str, list[Place]]
) -> tuple[list[dict[str, list[Place]]], dict[str, list[Place]]]:
    """Cooperative rounds until nothing changes: those on the way, and the last."""
    rounds = []
    for generation in range(4):
        claims = [Claim(name, tuple(owned.get(name, ())), generation) for name in names]
        now = plan(places, lanes, claims)
        if {name: sorted(owned.get(name, ())) for name in names} == now:
            return rounds, now
        rounds.append(now)
        owned = now
    raise AssertionError(f"not settled after four rounds: {rounds}")


@given(TOPICS, LANES, NAMES)
def test_every_partition_has_one_member_and_lanes_are_whole_and_even(places, lanes, names):
    given = plan(places, lanes, [Claim(name) for name in names])
    assert sorted(place for held in given.values() for place in held) == sorted(places)
    held = lanes_of(given, lanes)
    present = {p % lanes for _, p in places}
    assert sum(len(one) for one in held.values()) == len(present)  # no lane is with two
    sizes = [len(one) for one in held.values()]
    assert max(sizes) - min(sizes) <= 1


@given(TOPICS, LANES, NAMES, NAMES)
def test_two_rounds_settle_and_nobody_gets_what_another_still_owns(places, lanes, before, after):
    _, owned = settled(places, lanes, before, {})
    rounds, last = settled(places, lanes, after, {name: owned[name] for name in before if name in after})
    assert len(rounds) <= 2
    held = owned
    for now in rounds:
        for name in after:
            for other in after:
                if other != name:
                    assert not set(now[name]) & set(held.get(other, ()))
        held = now
    assert sorted(place for one in last.values() for place in one) == sorted(places)
    sizes = [len(one) for one in lanes_of(last, lanes).values()]
    assert max(sizes) - min(sizes) <= 1


@given(TOPICS, LANES, NAMES, NAMES)
def test_no_lane_moves_that_could_stay(places, lanes, before, after):
    _, owned = settled(places, lanes, before, {})
    kept = {name: lanes_of(owned, lanes)[name] if name in before else set() for name in after}
    _, last = settled(places, lanes, after, {name: owned.get(name, []) for name in after})
    now = lanes_of(last, lanes)
    stayed = sum(len(now[name] & kept[name]) for name in after)
    share, bigger = divmod(len({p % lanes for _, p in places}), len(after))
    counts = sorted((len(one) for one in kept.values()), reverse=True)
    most = sum(min(count, share + (i < bigger)) for i, count in enumerate(counts))
    assert stayed == most


@given(TOPICS, LANES, NAMES, st.randoms())
def test_the_order_in_which_members_are_listed_changes_nothing(places, lanes, names, random):
    claims = [Claim(name) for name in names]
    shuffled = random.sample(claims, len(claims))
    assert plan(places, lanes, claims) == plan(places, lanes, shuffled)


def test_with_one_lane_all_further_members_stand_by():
    places = places_of({"clicks": 4, "views": 4})
    _, last = settled(places, 1, ["a", "b", "c"], {"b": places})
    assert last == {"a": [], "b": places, "c": []}


def test_of_two_who_claim_a_lane_the_later_generation_owns_it():
    places = places_of({"clicks": 1})
    claims = [Claim("a", (("clicks", 0),), generation=3), Claim("b", (("clicks", 0),), generation=4)]
    assert plan(places, 1, claims) == {"a": [], "b": places}


def test_eager_moves_everything_at_once():
    places = places_of({"clicks": 2})
    given = plan(places, 2, [Claim("a", tuple(places), 1), Claim("b")], cooperative=False)
    assert given == {"a": [("clicks", 0)], "b": [("clicks", 1)]}


class Group:
    """Members with their assignors; the first leads."""

    def __init__(self, partitions: dict[str, int], lanes: int) -> None:
        self.cluster = SimpleNamespace(
            partitions_for_topic=lambda topic: set(range(partitions[topic])) if topic in partitions else None
        )
        self.lanes = lanes
        self.assignors: dict[str, LaneAssignor] = {}
        self.topics: dict[str, list[str]] = {}
        self.generation = 0
        self.leader = LaneAssignor(lanes)

    def join(self, member_id: str, topics: list[str]) -> None:
        self.assignors[member_id], self.topics[member_id] = LaneAssignor(self.lanes), topics

    def member(self, member_id: str) -> Any:
        encoded = self.assignors[member_id].metadata(set(self.topics[member_id])).encode()
        return SimpleNamespace(
            member_id=member_id,
            group_instance_id=member_id.split("/", maxsplit=1)[0] if "/" in member_id else None,
            metadata=ConsumerProtocolSubscription.decode(encoded),
        )

    def rebalance(self) -> dict[str, list[Place]]:
        self.generation += 1
        given = self.leader.assign(self.cluster, [self.member(member_id) for member_id in self.assignors])
        for member_id, assignment in given.items():
            self.assignors[member_id].on_assignment(assignment, self.generation)
        return {
            member_id: sorted((one.topic, one.partition) for one in assignment.partitions())
            for member_id, assignment in given.items()
        }


def test_claims_survive_the_wire():
    group = Group({"clicks": 4}, 2)
    group.join("a", ["clicks"])
    assert group.rebalance() == {"a": [("clicks", p) for p in range(4)]}
    group.join("b", ["clicks"])
    assert group.rebalance() == {"a": [("clicks", 0), ("clicks", 2)], "b": []}
    assert group.rebalance()["b"] == [("clicks", 1), ("clicks", 3)]


def test_a_static_member_that_comes_back_under_its_name_gets_its_lanes_back():
    group = Group({"clicks": 4}, 4)
    for name in ("x/1", "y/1", "z/1"):
        group.join(name, ["clicks"])
    first = group.rebalance()
    del group.assignors["z/1"]
    group.join("z/2", ["clicks"])  # started again: it knows of nothing
    second = group.rebalance()
    assert second == {"x/1": first["x/1"], "y/1": first["y/1"], "z/2": first["z/1"]}


def test_members_that_read_other_topics_than_most_get_nothing():
    group = Group({"clicks": 2, "views": 2}, 1)
    group.join("old", ["clicks"])
    group.join("new", ["clicks", "views"])
    group.join("newer", ["clicks", "views"])
    given = group.rebalance()
    assert given["old"] == [] and {len(given["new"]), len(given["newer"])} == {0, 4}


def test_a_member_that_lost_everything_claims_nothing():
    group = Group({"clicks": 1}, 1)
    group.join("a", ["clicks"])
    group.rebalance()
    group.assignors["a"].forget()
    group.join("0", ["clicks"])
    assert group.rebalance() == {"a": [], "0": [("clicks", 0)]}
