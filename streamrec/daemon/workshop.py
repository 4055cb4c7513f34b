"""Lanes with real files: how the daemon's loop gets them.

plain          a thread restores; checkpoints are written by a thread; forecasts are sent as they are made
transactions   the loop restores, because it has to ask the group what counts; a checkpoint ends a
               transaction, and the loop waits for it
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from streamrec.daemon.feeds import Feed, FixedFeed, LiveFeed
from streamrec.daemon.held import Held
from streamrec.daemon.layout import folder_of
from streamrec.daemon.observer import Observer
from streamrec.daemon.opening import InlineOpening, Opening, ThreadOpening
from streamrec.daemon.transactions import TransactionWriter, last_committed, name_of
from streamrec.errors import DiskError, UnavailableError
from streamrec.eventlog.base import Codec, Place
from streamrec.eventlog.clients import Member, Transactor
from streamrec.eventlog.sinks import TakenError
from streamrec.lane import Lane, MakeWriter
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.settings import Settings
from streamrec.state.store import LaneStore
from streamrec.state.writer import ThreadWriter, Writer

Clock = Callable[[], float]


class Plain:
    """Lanes without transactions.

    Parameters
    ----------
    settings : of lanes, cuts and checkpoints
    state : folder of all lanes
    outputs : lane number -> where it writes
    codec : reads records
    clock : s, monotonic
    observer : told of cuts
    make_writer : makes the writer of checkpoints
    """

    def __init__(
        self,
        settings: Settings,
        state: Path,
        outputs: Callable[[int], Outputs],
        codec: Codec,
        clock: Clock,
        observer: Observer,
        make_writer: MakeWriter = ThreadWriter,
    ) -> None:
        self.settings, self.state, self.outputs, self.codec = settings, state, outputs, codec
        self.clock, self.observer, self.make_writer = clock, observer, make_writer
        self._last: dict[int, threading.Thread] = {}

    def opening(self, number: int, places: Sequence[Place], member: Member) -> Opening:
        """Begin to restore a lane in a thread."""
        opening = ThreadOpening(partial(self.restore, number), self._last.get(number))
        self._last[number] = opening.thread
        return opening

    def restore(self, number: int) -> Lane:
        """Restore a lane and be its owner."""
        folder = folder_of(self.state, number, self.settings.kafka.lanes)
        lane = Lane(self.settings, self._outputs(number), clock_of=own_clock, number=number)

        def make_writer(store: LaneStore, sync: Callable[[], object]) -> Writer:
            return self.make_writer(store, partial(_patiently, sync))

        try:
            lane.open(folder, make_writer)
        except BaseException:
            lane.abandon()
            raise
        return lane

    def hold(self, number: int, lane: Lane, places: Sequence[Place]) -> Held:
        """An open lane with its feed."""
        return _held(self, number, lane, places)

    def _outputs(self, number: int) -> Outputs:
        """Where the lane writes; its owner before us, perhaps frozen, has a file until it lets go."""
        try:
            return self.outputs(number)
        except TakenError as error:
            raise DiskError(f"{error} (tried again until it is free)") from error


class Transactional:
    """Lanes whose forecasts become visible with their checkpoints.

    Parameters
    ----------
    settings, state, codec, clock, observer : see `Plain`
    transactor : lane number -> a transactor of its own
    outputs : lane number, transactor -> where the lane writes
    """

    def __init__(
        self,
        settings: Settings,
        state: Path,
        transactor: Callable[[int], Transactor],
        outputs: Callable[[int, Transactor], Outputs],
        codec: Codec,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.settings, self.state, self.codec = settings, state, codec
        self.transactor, self.outputs = transactor, outputs
        self.clock, self.observer = clock, observer

    def opening(self, number: int, places: Sequence[Place], member: Member) -> Opening:
        """Shut out whoever wrote for the lane before, ask what counts, and restore."""
        transactor = self.transactor(number)
        try:
            transactor.recover()
            return InlineOpening(partial(self._restore, number, places, member, transactor))
        except BaseException:
            transactor.close()
            raise

    def hold(self, number: int, lane: Lane, places: Sequence[Place]) -> Held:
        """An open lane with its feed."""
        return _held(self, number, lane, places)

    def _restore(self, number: int, places: Sequence[Place], member: Member, transactor: Transactor) -> Lane:
        folder = folder_of(self.state, number, self.settings.kafka.lanes)
        name = name_of(folder)
        lane = Lane(self.settings, self.outputs(number, transactor), clock_of=own_clock, number=number)

        def make_writer(store: LaneStore, sync: Callable[[], object]) -> Writer:
            return TransactionWriter(store, sync, transactor, member, lambda: lane.positions, name)

        ended = last_committed(name, member.committed(places))
        try:
            lane.open(folder, make_writer, ended)
        except BaseException:
            lane.abandon()
            raise
        return lane


def _held(shop: Plain | Transactional, number: int, lane: Lane, places: Sequence[Place]) -> Held:
    """A lane with the feed that the settings ask for."""
    settings = shop.settings
    feed: Feed = LiveFeed(lane.cutter, places, settings.cut, shop.clock)
    if settings.cut.mode == "fixed":
        feed = FixedFeed(lane.cutter, places)
    every_s = settings.checkpoint.every_s
    return Held(number, lane, places, feed, shop.codec.decode_many, shop.clock, every_s, shop.observer)


def _patiently(sync: Callable[[], object]) -> None:
    """Bring out what a checkpoint needs; while the broker is away the checkpoint fails, and nothing else.

    Raises
    ------
    DiskError
        If it cannot be brought out for now: the writer keeps the checkpoint for its next try.
    """
    try:
        sync()
    except UnavailableError as error:
        raise DiskError(f"forecasts are not acknowledged, their checkpoint waits: {error}") from error
