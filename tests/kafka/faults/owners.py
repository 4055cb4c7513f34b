"""Who had which lane when, as the members' log lines say.

    12:00:01 a: lane opened lane=0     ┐ a Span of a
    12:00:09 a: lane closed lane=0     ┘
    12:00:10 b: lane opened lane=0     ─ a gap of 1 s

A member that was killed says nothing: its spans end when it died.
"""

import re
import sqlite3
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from brokers import Cluster, wait_until
from daemons import Daemon

LANE = re.compile(r"^(\S+) info \S+: lane (opened|closed) lane=(\d+)", re.MULTILINE)
ASSIGNED = re.compile(r"partitions assigned .*partitions=(.*)")
PARTITION = re.compile(r"\[(\d+)\]")


class Span(NamedTuple):
    """A lane was a member's from then till then, s since the epoch."""

    lane: int
    opened: float
    closed: float


def spans(member: Daemon, died: float | None = None) -> list[Span]:
    """Of a member, in the order of their ends; those that last end when it died, or now."""
    found, since = [], dict[int, float]()
    for stamp, what, number in LANE.findall(member.said()):
        at, lane = datetime.fromisoformat(stamp).timestamp(), int(number)
        if what == "opened":
            since[lane] = at
        elif lane in since:
            found.append(Span(lane, since.pop(lane), at))
    return found + [Span(lane, at, died or time.time()) for lane, at in since.items()]


def longest_gaps(members: Iterable[Daemon], died: Mapping[int, float] | None = None) -> dict[int, float]:
    """Per lane, s: most time that nobody had it, after it was first opened."""
    all_spans = sorted(span for member in members for span in spans(member, (died or {}).get(member.pid)))
    gaps, until = dict[int, float](), dict[int, float]()
    for lane, opened, closed in all_spans:
        gaps[lane] = max(gaps.get(lane, 0.0), opened - until.get(lane, opened))
        until[lane] = max(until.get(lane, closed), closed)
    return gaps


def lanes_of(member: Daemon) -> set[int]:
    """The lanes that a member has open now."""
    last = {int(number): what for _, what, number in LANE.findall(member.said())}
    return {lane for lane, what in last.items() if what == "opened"} if member.code is None else set()


def owner_of(lane: int, members: Iterable[Daemon]) -> Daemon | None:
    """The member that has a lane open now."""
    return next((member for member in members if lane in lanes_of(member)), None)


def wait_for_owner(lane: int, members: Iterable[Daemon], timeout_s: float = 30.0) -> Daemon:
    """Wait until one of these has the lane open."""
    among = list(members)
    wait_until(lambda: owner_of(lane, among), timeout_s, f"somebody opens lane {lane}")
    found = owner_of(lane, among)
    assert found is not None
    return found


def freeze_between_checkpoints(member: Daemon, state: Path) -> None:
    """SIGSTOP at a moment when the member has no transaction of SQLite open.

    Nobody can take a lane whose file is locked, however its holder was stopped, before that one goes on or is
    killed; `test_f5_a_lane_whose_file_is_locked` is about that.
    """
    member.freeze()
    time.sleep(0.05)
    while not all(map(_is_free, state.rglob("lane.sqlite"))):
        member.thaw()
        time.sleep(0.05)
        member.freeze()
        time.sleep(0.05)


def lock(file: Path) -> sqlite3.Connection:
    """The lock that whoever writes a checkpoint has; close it to give it back."""
    link = sqlite3.connect(file, isolation_level=None, timeout=0)
    link.execute("BEGIN IMMEDIATE")
    return link


def _is_free(file: Path) -> bool:
    try:
        lock(file).close()
    except sqlite3.OperationalError:
        return False
    return True


def assignments(member: Daemon) -> list[set[int]]:
    """Partitions of every assignment that a member was told of."""
    return [set(map(int, PARTITION.findall(line))) for line in ASSIGNED.findall(member.said())]


def wait_until_stable(cluster: Cluster, group: str, members: int, timeout_s: float = 30.0) -> None:
    """Wait until the group has so many members, and all of them know what is theirs."""
    admin = cluster.admin()

    def stable() -> bool:
        found = admin.describe_groups([group])
        one = found[group] if isinstance(found, dict) else found[0]
        return one["group_state"] == "Stable" and len(one["members"]) == members

    try:
        wait_until(stable, timeout_s, f"group {group} is stable with {members} members")
    finally:
        admin.close()
