"""Restores beside the loop: one of a lane at a time, and none that nobody wants any more."""

import threading
from typing import cast

import pytest

from streamrec.daemon.opening import ThreadOpening
from streamrec.errors import DiskError, InvariantError
from streamrec.lane import Lane


class Toy:
    """A lane that knows whether it was given back."""

    def __init__(self) -> None:
        self.abandoned = threading.Event()

    def abandon(self) -> None:
        self.abandoned.set()


class Restores:
    """Restores that end when they are told to, and the order in which they began."""

    def __init__(self, n: int) -> None:
        self.lanes = [Toy() for _ in range(n)]
        self.go_on = [threading.Event() for _ in range(n)]
        self.begun: list[int] = []
        self.running = 0
        self.most_at_once = 0
        self.has_begun = threading.Event()

    def restore(self, i: int) -> Lane:
        self.begun.append(i)
        self.has_begun.set()
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        assert self.go_on[i].wait(10)
        self.running -= 1
        return cast(Lane, self.lanes[i])


def test_a_lane_that_is_there_is_handed_over_once() -> None:
    restores = Restores(1)
    restores.go_on[0].set()
    opening = ThreadOpening(lambda: restores.restore(0))
    assert opening.result() is cast(Lane, restores.lanes[0])
    assert opening.ready()


def test_a_lane_that_was_dropped_meanwhile_is_given_back_when_it_is_there() -> None:
    restores = Restores(1)
    opening = ThreadOpening(lambda: restores.restore(0))
    assert restores.has_begun.wait(10)
    opening.drop()
    assert not restores.lanes[0].abandoned.is_set()
    restores.go_on[0].set()
    assert restores.lanes[0].abandoned.wait(10)
    with pytest.raises(InvariantError, match="given back"):
        opening.result()


def test_an_opening_waits_for_the_one_before_so_that_its_epoch_is_the_later_one() -> None:
    restores = Restores(2)
    first = ThreadOpening(lambda: restores.restore(0))
    assert restores.has_begun.wait(10)
    first.drop()
    second = ThreadOpening(lambda: restores.restore(1), first.thread)
    assert not second.ready() and restores.begun == [0]
    restores.go_on[1].set()
    restores.go_on[0].set()
    assert second.result() is cast(Lane, restores.lanes[1])
    assert restores.begun == [0, 1] and restores.most_at_once == 1
    assert restores.lanes[0].abandoned.is_set() and not restores.lanes[1].abandoned.is_set()


def test_an_opening_that_was_dropped_while_it_waited_is_never_begun() -> None:
    restores = Restores(3)
    first = ThreadOpening(lambda: restores.restore(0))
    assert restores.has_begun.wait(10)
    second = ThreadOpening(lambda: restores.restore(1), first.thread)
    second.drop()
    third = ThreadOpening(lambda: restores.restore(2), second.thread)
    for event in restores.go_on:
        event.set()
    assert third.result() is cast(Lane, restores.lanes[2])
    assert restores.begun == [0, 2]


def test_what_a_restore_raises_is_raised_to_whoever_asks_for_the_lane() -> None:
    def fail() -> Lane:
        raise DiskError("no room")

    opening = ThreadOpening(fail)
    with pytest.raises(DiskError, match="no room"):
        opening.result()
    opening.drop()
