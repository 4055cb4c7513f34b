"""What is given back when a daemon leaves, though something goes wrong on the way."""

from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from streamrec.daemon.holdings import Workshop
from streamrec.daemon.loop import GRACE_S, Daemon
from streamrec.daemon.transactions import TransactionWriter
from streamrec.errors import DeliveryError, FencedError, InvariantError, StreamrecError, UnavailableError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Member, Transactor
from streamrec.settings import load_settings
from streamrec.state.store import LaneStore


class ToyMember:
    """A member that was left by all."""

    closed = 0

    def close(self) -> None:
        self.closed += 1

    def positions(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return {}


class ToyTransactor:
    """Aborts with an error, or not; says what it was told."""

    def __init__(self, error: StreamrecError | None) -> None:
        self.error = error
        self.said: list[str] = []

    def begin(self) -> None:
        self.said.append("begin")

    def abort(self) -> None:
        self.said.append("abort")
        if self.error is not None:
            raise self.error

    def close(self, timeout_s: float = 5.0) -> None:
        self.said.append("close")


def leaving(errors: Mapping[int, StreamrecError], seconds: float) -> tuple[Daemon, ToyMember, list[int]]:
    """A daemon of three lanes, of which some cannot be given up, and each takes so long."""
    member, given_up, now = ToyMember(), list[int](), [0.0]
    daemon = Daemon(
        cast(Member, member),
        ["clicks"],
        load_settings(None, {}, {}),
        cast(Workshop, None),
        lambda: 0,
        lambda: now[0],
    )
    budgets: list[float] = []

    def give_up(number: int, at_end: bool = False) -> None:
        given_up.append(number)
        budgets.append(daemon.holdings.revoke_s)
        now[0] += min(seconds, daemon.holdings.revoke_s)
        if number in errors:
            raise errors[number]

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(daemon.holdings, "give_up", give_up)
            patch.setattr(daemon.holdings, "held", dict.fromkeys(range(3)))
            daemon.leave()
    finally:
        assert member.closed == 1 and given_up == [0, 1, 2]
        assert now[0] <= GRACE_S and sum(budgets) <= 3 * GRACE_S
    return daemon, member, given_up


def test_all_lanes_share_the_time_that_a_stop_may_take() -> None:
    leaving({}, 5.0)


def test_a_lane_that_cannot_be_given_up_keeps_nothing_from_the_others_nor_from_the_group() -> None:
    with pytest.raises(DeliveryError, match="lane 1"):
        leaving({1: DeliveryError("lane 1: too large")}, 0.0)


@pytest.mark.parametrize("error", [None, FencedError("x"), UnavailableError("x")])
def test_a_lane_that_is_given_back_gives_its_transactor_back(error: StreamrecError | None) -> None:
    transactor = ToyTransactor(error)
    writer = TransactionWriter(
        cast(LaneStore, None),
        lambda: None,
        cast(Transactor, transactor),
        cast(Member, None),
        dict,
        "a",
    )
    writer.close()
    assert transactor.said == ["begin", "abort", "close"]


def test_a_transactor_in_doubt_is_given_back_too() -> None:
    transactor = ToyTransactor(InvariantError("recover before anything else"))
    writer = TransactionWriter(
        cast(LaneStore, None), lambda: None, cast(Transactor, transactor), cast(Member, None), dict, "a"
    )
    with pytest.raises(InvariantError):
        writer.close()
    assert transactor.said[-1] == "close"
