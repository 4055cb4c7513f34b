"""F7: the broker says no, with an error code: what passes is waited out, what stays ends the program.

    passes   leader or coordinator elsewhere, request timed out, rebalance, membership over, offset not there
             (it is: the lane is held against the log once more, and goes on)
    stays    another member under our name, no right to read, to write or to be in the group

Each code comes three times, or for ever, in answers to each kind of request that a real broker answers so.
The proxy cannot refuse what it does not see: errors that a client makes up itself (time-outs: F6), codes of a
broker that answers some partitions and not others in one request (all get the code), a leader that really is
elsewhere. The simulator has rebalances and lost memberships at every point of the loop, not only here.
"""

import time
from functools import partial
from typing import Any, NamedTuple

import pytest
from hurt import SERVED, last_line, until
from kafka import TopicPartition
from proxy import Proxy, Rule
from stage import Stage, ends, events
from wire import Api

OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC, LEADER_NOT_AVAILABLE, NOT_LEADER, TIMED_OUT = 1, 3, 5, 6, 7
COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE = 22, 25, 27
TOPIC_FORBIDDEN, GROUP_FORBIDDEN, FENCED_INSTANCE = 29, 30, 82

ELSEWHERE = (COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR)
PASSES = {
    Api.FETCH: (NOT_LEADER, TIMED_OUT, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC),
    Api.LIST_OFFSETS: (NOT_LEADER, TIMED_OUT),
    Api.METADATA: (LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC),
    Api.FIND_COORDINATOR: (COORDINATOR_NOT_AVAILABLE,),
    Api.OFFSET_COMMIT: (*ELSEWHERE, TIMED_OUT, REBALANCE, UNKNOWN_MEMBER, ILLEGAL_GENERATION),
    Api.HEARTBEAT: (
        COORDINATOR_NOT_AVAILABLE,
        NOT_COORDINATOR,
        REBALANCE,
        UNKNOWN_MEMBER,
        ILLEGAL_GENERATION,
    ),
    Api.JOIN_GROUP: (*ELSEWHERE, UNKNOWN_MEMBER),
    Api.SYNC_GROUP: (
        COORDINATOR_NOT_AVAILABLE,
        NOT_COORDINATOR,
        REBALANCE,
        UNKNOWN_MEMBER,
        ILLEGAL_GENERATION,
    ),
    Api.PRODUCE: (NOT_LEADER, TIMED_OUT),
}
KICKED = {Api.JOIN_GROUP, Api.SYNC_GROUP, Api.FIND_COORDINATOR}
"""Requests that come only when the membership ends."""


class Stays(NamedTuple):
    """A code that is there to stay, and a part of the line that says so."""

    api: Api
    code: int
    says: str


STAYS = [
    Stays(Api.FETCH, TOPIC_FORBIDDEN, "does not allow it"),
    Stays(Api.LIST_OFFSETS, TOPIC_FORBIDDEN, "does not allow it"),
    Stays(Api.METADATA, TOPIC_FORBIDDEN, "does not allow it"),
    Stays(Api.OFFSET_COMMIT, GROUP_FORBIDDEN, "does not allow it"),
    Stays(Api.JOIN_GROUP, GROUP_FORBIDDEN, "does not allow it"),
    Stays(Api.PRODUCE, TOPIC_FORBIDDEN, "does not allow it"),
    Stays(Api.HEARTBEAT, FENCED_INSTANCE, "group_instance_id"),
    Stays(Api.OFFSET_COMMIT, FENCED_INSTANCE, "group_instance_id"),
    Stays(Api.SYNC_GROUP, FENCED_INSTANCE, "group_instance_id"),
]
QUICK: dict[str, Any] = {**SERVED, "kafka.heartbeat_s": 0.3}


def committed(stage: Stage) -> dict[int, int]:
    """What the group has committed."""
    admin = stage.cluster.admin()
    told = admin.list_group_offsets(stage.topic + "g")
    admin.close()
    found = told.get(stage.topic + "g", told)
    return {place.partition: one.offset for place, one in found.items() if isinstance(place, TopicPartition)}


def has_come(rule: Rule) -> bool:
    """Three times."""
    return rule.hits >= 3


def kick(proxy: Proxy, api: Api) -> None:
    """Have a member send such a request soon."""
    if api in KICKED:
        code = NOT_COORDINATOR if api is Api.FIND_COORDINATOR else UNKNOWN_MEMBER
        proxy.refuse(code, Api.HEARTBEAT, times=1, client="streamrec")


@pytest.mark.parametrize("static", [True, pytest.param(False, marks=pytest.mark.torture)])
@pytest.mark.parametrize("api", PASSES, ids=lambda api: api.name.lower())
def test_f7_a_code_that_passes_is_waited_out(proxied: Stage, proxy: Proxy, api: Api, static: bool) -> None:
    """A member without a name of its own waits for its old self's session whenever it joins anew."""
    proxied.settings |= QUICK | ({"kafka.group_instance_id": "one"} if static else {})
    member = proxied.daemon("a")
    for number, code in enumerate(PASSES[api]):
        proxied.produce(events(150, seed=number, start=1.7e9 + 1e7 * number))
        proxied.wait_until_applied(30)
        rule = proxy.refuse(code, api, times=3, client="streamrec")
        kick(proxy, api)
        proxied.produce(events(150, seed=100 + number, start=1.7e9 + 1e7 * number + 5e6))
        met = until(partial(has_come, rule), 60, member.said)
        began = time.monotonic()
        proxied.wait_until_applied(30)
        until(lambda: committed(proxied) == ends(proxied.cluster, proxied.topic), 30, member.said)
        after = time.monotonic() - began
        print(f"{api.name} {code}: three met in {met:.1f} s, all applied and committed {after:.1f} s later")
        assert member.code is None, member.said()[-3000:]
    proxied.end()
    proxied.check()


def test_f7_a_code_that_stays_ends_it_with_one_line(proxied: Stage, proxy: Proxy) -> None:
    proxied.settings |= QUICK
    for number, (api, code, says) in enumerate(STAYS):
        member = proxied.daemon(f"a{number}", kafka__group_instance_id="one")
        proxied.produce(events(150, seed=number, start=1.7e9 + 1e7 * number))
        proxied.wait_until_applied(30)
        proxy.refuse(code, api, client="streamrec")
        kick(proxy, api)
        proxied.produce(events(150, seed=100 + number, start=1.7e9 + 1e7 * number + 5e6))
        ended = member.ended(30)
        assert ended == 3, f"{api.name} {code}: exit code {ended}"
        assert says in last_line(member), last_line(member)
        proxy.heal()
    proxied.daemon("last", kafka__group_instance_id="one")
    proxied.wait_until_applied(30)
    proxied.end()
    proxied.check()
