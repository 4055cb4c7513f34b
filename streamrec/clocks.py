"""One course of time: a watermark, open sets and held events, the last ids; in memory and as stored."""

import math
from collections import deque

import msgspec

from streamrec.event import TieSet

HeldEvent = tuple[float, int, str, str, str, int]
"""An event that waits for the watermark: time, arrival, user, mark, topic, offset."""


class ClockState(msgspec.Struct, array_like=True):
    """A clock as it is written down; `open` and `held` sorted by (time, arrival)."""

    name: str
    partition: int
    arrivals: int
    watermark: float
    open: list[tuple[float, int, str, str, int, bool, list[str]]]
    held: list[HeldEvent]
    ids: list[str]


class OrderState(msgspec.Struct, array_like=True):
    """All of an `Order` but its settings."""

    clocks: list[ClockState]
    released: list[TieSet]
    last_of_waiting: list[tuple[str, float]]
    n_ok: int
    n_late: int
    n_duplicate: int
    n_forced: int
    n_forgotten: int


class Clock:
    """One course of time: its watermark, its open sets and held events (both heaps), its last ids."""

    __slots__ = ("arrivals", "held", "id_set", "ids", "n_open", "name", "open", "partition", "watermark")

    def __init__(self, name: str, partition: int) -> None:
        self.name = name
        self.partition = partition
        self.arrivals = 0
        self.watermark = -math.inf
        self.open: list[OpenSet] = []  # also sets that were closed at max_tie_marks
        self.n_open = 0
        self.held: list[HeldEvent] = []
        self.ids: deque[str] = deque()  # oldest first; a dict is slow at dropping its first key
        self.id_set: set[str] = set()


OpenSet = tuple[float, int, str, str, int, bool, list[str], Clock]
"""An open set: time, first arrival, user, topic, offset, further, marks (grow), clock; a tuple for speed."""
