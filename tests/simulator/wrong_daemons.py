"""Bugs on purpose: daemons that are wrong in one way each, which the simulator has to find.

commits early   the group is told what was applied, not what is on the disk, and resumes from what it was told
no seek         an assigned partition is read from wherever the client stands
no epoch        nobody looks whether a lane has another owner by now
splits sets     a cut releases the tie sets that are still open
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sim_clients import SimMember

from streamrec.cut import Cut, Cutter
from streamrec.daemon.held import Held
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit
from streamrec.state.lanefile import Head, LaneFile
from streamrec.state.store import LaneStore


@contextmanager
def commits_early() -> Iterator[None]:
    """Tell the group before the checkpoint, and trust the group."""

    def positions(held: Held) -> Mapping[Place, int]:
        applied = {place: at for place, at in held.lane.positions.items() if place in held.read}
        return {} if applied == held.committed else applied

    really = SimMember.seek

    def seek(member: SimMember, wanted: Mapping[Place, int]) -> None:
        told = member.group.commits
        really(member, {place: told.get(place, Commit(at)).offset for place, at in wanted.items()})

    with patch.object(Held, "commits", positions), patch.object(SimMember, "seek", seek):
        yield


@contextmanager
def no_seek() -> Iterator[None]:
    """Take an assigned partition as the client gives it."""
    with patch.object(SimMember, "seek", lambda member, positions: None):
        yield


@contextmanager
def no_epoch() -> Iterator[None]:
    """Write whoever the owner is."""

    @contextmanager
    def transaction(store: LaneStore) -> Iterator[tuple[LaneFile, Head]]:
        file = store._opened()
        try:
            head = file.begin()
            file.read_manifest(head)
            yield file, head
        except BaseException:
            store._drop_connection()
            raise

    with (
        patch.object(LaneStore, "_transaction", transaction),
        patch.object(LaneStore, "check_owner", lambda store: None),
    ):
        yield


@contextmanager
def splits_sets() -> Iterator[None]:
    """Release open sets with every cut, also when it is replayed."""
    really = Cutter._cut

    def cut(cutter: Cutter, n_sets: int, flushed: bool) -> Cut:
        if not flushed:
            cutter.order.flush()
        return really(cutter, len(cutter.order.released), flushed)

    def replay(cutter: Cutter, reads: Any, n_sets: int, flushed: bool, pairs: Any) -> Cut:
        for record, decoded in pairs:
            cutter._read(record, decoded)
        return cut(cutter, n_sets, flushed)

    with patch.object(Cutter, "_cut", cut), patch.object(Cutter, "replay", replay):
        yield


PLANTED: dict[str, Callable[[], Any]] = {
    "group commit before checkpoint": commits_early,
    "no seek on assignment": no_seek,
    "no epoch check": no_epoch,
    "tie set split by a cut": splits_sets,
}
