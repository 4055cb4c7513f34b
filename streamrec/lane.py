"""A lane: the unit of state, in a folder of its own, and the one way in which a cut is applied.

    cut ─► journal ─► engine (score, issue, mix, learn) ─► forecasts, dead letters ─► checkpoint, when due

The checkpoint is the truth: opening a lane loads it, cuts the output files back to the lengths that it holds,
and says where to read on. What was done after it is done again, and gives the same bits; the journal entries
of it do not count any more, for a new epoch begins its own file. The first checkpoint is made at opening,
before anything is written, so that there always is a length to go back to. After an error nothing may be
kept: `abandon` gives the folder back as the last checkpoint left it. The checkpoint writer is passed in: a
thread for a daemon, an inline one for tests.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from streamrec.between import happen
from streamrec.cut import Cut, Cutter
from streamrec.entries import CutEntry, Entry
from streamrec.errors import ConfigError, DiskError, StateError, StreamrecError
from streamrec.event import TieSet
from streamrec.eventlog.base import Place, Reject
from streamrec.failpoints import failpoint
from streamrec.forecast import Forecast
from streamrec.journal import Journal
from streamrec.models.base import Stateful
from streamrec.order import Order
from streamrec.outputs import Outputs
from streamrec.places import one_clock
from streamrec.processor import CutResult, Engine
from streamrec.render import Renderer
from streamrec.settings import Settings
from streamrec.state.digest import learned_digest, position_digest
from streamrec.state.snapshot import Snapshot, restore_into, snapshot_of
from streamrec.state.store import LaneStore
from streamrec.state.writer import InlineWriter, Writer

log = logging.getLogger(__name__)

JOURNAL, TAILS, LAYOUT, EXTRA = "journal", "tails", "layout", "extra."

MakeWriter = Callable[[LaneStore, Callable[[], object]], Writer]


class Lane:
    """Engine, order and position, with or without a folder that they are kept in.

    Parameters
    ----------
    settings : of the engine, the order and the cuts
    outputs : forecasts and dead letters
    n_universe : see `Engine`
    clock_of : topic -> its clock; all files share one
    number : of the lane, as it stands in the ids of its forecasts

    Attributes
    ----------
    layout : bytes that whoever drives the lane wants kept with it
    """

    def __init__(
        self,
        settings: Settings,
        outputs: Outputs,
        n_universe: int = 0,
        clock_of: Callable[[str], str] = one_clock,
        number: int = 0,
    ) -> None:
        self.settings, self.outputs = settings, outputs
        self.layout = b""
        self.engine = Engine(settings, n_universe)
        cut_events, last_time = settings.cut.cut_events, self.engine.last_time
        self.cutter = Cutter(_order(settings), last_time, cut_events, clock_of=clock_of)
        forecast = settings.forecast
        self.renderer = Renderer(self.engine.vocabulary, forecast.within_s, forecast.hazard, number)
        self.extra: dict[str, Stateful] = {}
        self.writer: Writer | None = None
        self.journal: Journal | None = None
        self.store: LaneStore | None = None
        self._earlier: dict[int, int] = {}
        self._checkpoint_at = settings.checkpoint.every_events
        self._changed = self._halfway = False
        self._submitted: deque[tuple[int, Mapping[Place, int]]] = deque([(0, {})])
        self._told: StreamrecError | None = None

    def open(self, folder: Path, make_writer: MakeWriter = InlineWriter, ended: int | None = None) -> bool:
        """Become the owner of a folder: load its newest checkpoint, if any, and cut the outputs back to it.

        Parameters
        ----------
        make_writer : makes the writer of checkpoints
        ended : with transactions, number of the last checkpoint whose transaction was committed, or 0

        Returns
        -------
        bool
            Whether there was a checkpoint.

        Raises
        ------
        StateError
            If the state was made with other settings, or by another version, or an output is not the one
            that it was writing to.
        CorruptStateError
            If no generation of it verifies.
        DiskError
            If the folder cannot be written to.
        """
        c = self.settings.checkpoint
        self.store = LaneStore.open(
            folder,
            self.settings.shaping(),
            generation_every=c.generation_every,
            keep=c.generations,
            decide=None if ended is None else ended.__eq__,
            above=ended or 0,
        )
        for note in self.store.notes:
            log.warning(note)
        loaded = self.store.load()
        self._earlier = {e: lengths.get(JOURNAL, 0) for e, lengths in self.store.accepted.items()}
        if loaded is not None:
            self._restore(loaded)
        self.journal = Journal.open(folder, self.store.epoch, self._earlier)
        self.writer = make_writer(self.store, self._sync)
        if loaded is None or not self.outputs.lengths().keys() <= loaded.lengths.keys():
            self._keep_the_first()
        return loaded is not None

    def look(self, loaded: Snapshot) -> None:
        """Become what a checkpoint says, without owning its folder; outputs stay as they are.

        Raises
        ------
        StateError
            If it holds less, or models more, than a lane with these settings has.
        """
        restored = restore_into(self._components(), loaded)
        strange = [name for name in restored.ignored if not name.startswith(EXTRA)]
        if restored.missing or strange:
            raise StateError(
                f"the state does not hold {', '.join(restored.missing) or 'less'}, but holds "
                f"{', '.join(strange) or 'nothing else'}: it was made by another version or another verb; "
                "use that, or start with an empty state directory"
            )
        failpoint("in_restore")
        self.cutter.load(loaded.position)

    @property
    def positions(self) -> Mapping[Place, int]:
        """Next offset to read of every place."""
        return self.cutter.positions

    @property
    def n_events(self) -> int:
        """Events accepted so far."""
        return self.cutter.bins.counts.ok

    def apply(self, cut: Cut) -> CutResult:
        """Journal a cut, let the engine process it, and write what it issued.

        Raises
        ------
        FencedError
            If the folder has another owner since; nothing was done.
        DiskError
            If the journal or an output cannot be written. If it was the journal, nothing was done, and the
            same cut may be applied again once there is room.
        """
        failpoint("after_read")
        if self.store is not None:
            self.store.check_owner()
        if self.journal is not None:
            self.journal.append(CutEntry.of(cut))
        self._changed = self._halfway = True
        result = self.engine.process(cut.sets)
        failpoint("before_emit")
        self._emit(cut, result)
        failpoint("after_emit")
        self._halfway = False
        return result

    def turn(self, entry: Entry) -> None:
        """Journal what happens between two cuts, and do it; see `between`. Errors as for `apply`."""
        if self.store is not None:
            self.store.check_owner()
        if self.journal is not None:
            self.journal.append(entry)
        self._changed = True
        happen(entry, self.cutter, self.engine)

    @property
    def sound(self) -> bool:
        """No cut was left half done by an error, so that the lane can go on once the cause is gone."""
        return not self._halfway

    @property
    def kept(self) -> Mapping[Place, int]:
        """Next offsets of the newest checkpoint that is on the disk: ours, or the one that was restored."""
        last = self.writer.last_ticket if self.writer is not None else 0
        while len(self._submitted) > 1 and self._submitted[1][0] <= last:
            self._submitted.popleft()
        return self._submitted[0][1]

    def keep_if_due(self) -> None:
        """Make a checkpoint if enough events came since the last; after everybody has seen a cut's result."""
        if self.n_events >= self._checkpoint_at:
            self.checkpoint()

    def checkpoint(self) -> bool:
        """Copy what changed and hand it to the writer; False if the writer is busy (counted there)."""
        if self.writer is None:
            return False
        self.outputs.hand_over()
        self._checkpoint_at = self.n_events + self.settings.checkpoint.every_events
        ticket = self._submitted[-1][0] + 1
        taken = self.writer.try_submit(lambda: self._snapshot(ticket))
        if taken:
            self._changed = False
            self._submitted.append((ticket, self.positions))
        self._tell()
        return taken

    def close(self, timeout_s: float | None = None) -> bool:
        """Keep the state if it has changed, wait until it is on the disk, and give everything back.

        Returns
        -------
        bool
            False if disk or broker took longer than `timeout_s`: the writer goes on by itself, and what it
            does not bring to an end before the lane has another owner does not count.

        Raises
        ------
        DiskError
            If the disk refuses; what the last checkpoint that succeeded holds is safe.
        """
        kept, until = True, None if timeout_s is None else time.monotonic() + timeout_s
        try:
            if self.writer is not None:
                kept = self.writer.drain(timeout_s)
            if self.writer is not None and kept and self._changed:
                left = None if until is None else max(0.0, until - time.monotonic())
                kept = self.checkpoint() and self.writer.drain(left)
        finally:
            if kept:
                self._give_back()
            else:
                threading.Thread(target=self.abandon, name="closing", daemon=True).start()
        return kept

    def abandon(self) -> None:
        """Give everything back without keeping what came after the last checkpoint: after an error."""
        with suppress(StreamrecError):
            self._give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def forecast(self, user: str, at: float | None = None) -> Forecast:
        """A user's next event: what was issued after its last one, the wait given its silence until `at`.

        Raises
        ------
        ConfigError
            If nothing is known of the user, or `at` is before its last event.
        """
        row, last = self.engine.arena.find(user), self.engine.last_time(user)
        if row < 0:
            raise ConfigError(f"user {user!r}: never seen, or evicted since; nothing is known of it")
        if at is not None and at < last:
            raise ConfigError(f"at {at}: before the user's last event at {last}; ask for a later time")
        rows, asked = np.array([row]), last if at is None else at
        marks = self.engine.marks.forecast(rows)
        waits = self.engine.waits.forecast(rows, np.array([asked - last]))
        return next(self.renderer.records([TieSet(user, asked, (), topic="query")], marks, waits))

    def learned(self) -> str:
        """Digest of everything learned."""
        return learned_digest(self.engine.components())

    def position(self) -> str:
        """Digest of where the lane stands."""
        return position_digest({"cutter": self.cutter.dump()})

    def _emit(self, cut: Cut, result: CutResult) -> None:
        if self.outputs.letters is not None:
            for record, refusal in cut.rejects:
                self.outputs.letters.write(record, Reject(refusal.reason, getattr(refusal, "detail", "")))
        if self.outputs.forecasts is not None:
            records = self.renderer.records(cut.sets, result.marks.published, result.waits.published)
            self._send(list(records))

    def _send(self, records: Sequence[Forecast]) -> None:
        assert self.outputs.forecasts is not None
        failpoint("before_produce")
        self.outputs.forecasts.emit([r.to_json() for r in records], [r.user for r in records])
        failpoint("after_produce")

    def _snapshot(self, ticket: int) -> Snapshot:
        return snapshot_of(
            self._components(),
            serial=self.cutter.serial,
            position=self.cutter.dump(),
            blobs={
                JOURNAL: msgspec.json.encode(self._journals()),
                TAILS: msgspec.json.encode(self.outputs.tails()),
                LAYOUT: self.layout,
            },
            lengths=self._lengths(),
            n_events=self.n_events,
            ticket=ticket,
        )

    def _components(self) -> dict[str, Stateful]:
        return self.engine.components() | {EXTRA + name: extra for name, extra in self.extra.items()}

    def _sync(self) -> None:
        """Bring journal and outputs to the disk, before a checkpoint says how long they are."""
        if self.journal is not None:
            self.journal.sync()
        self.outputs.sync()

    def _tell(self) -> None:
        """Say once that checkpoints fail: the run goes on without them."""
        failed = self.writer.failed if self.writer is not None else None
        if failed is not None and self._told is None:
            log.warning("a checkpoint failed, going on without: %s", failed)
        self._told = failed

    def _lengths(self) -> dict[str, int]:
        lengths = self.outputs.lengths()
        if self.journal is not None:
            lengths[JOURNAL] = self.journal.position.offset
        return lengths

    def _journals(self) -> dict[int, int]:
        """Accepted length of every epoch's journal, ours up to here."""
        if self.journal is None:
            return {}
        return {**self._earlier, self.journal.epoch: self.journal.position.offset}

    def _restore(self, loaded: Snapshot) -> None:
        self.look(loaded)
        self.layout = loaded.blobs.get(LAYOUT, b"")
        tails = msgspec.json.decode(loaded.blobs.get(TAILS, b"{}"), type=dict[str, int])
        self.outputs.cut_back(loaded.lengths, tails)
        self._checkpoint_at = self.n_events + self.settings.checkpoint.every_events
        self._submitted[0] = 0, self.positions

    def _keep_the_first(self) -> None:
        """There always is a checkpoint to go back to; DiskError if the disk refuses it."""
        assert self.writer is not None
        taken = self.checkpoint() and self.writer.drain()
        if not taken:
            raise self.writer.failed or DiskError(
                "the first checkpoint was not taken; make room, start again"
            )

    def _give_back(self) -> None:
        with ExitStack() as stack:  # the last one first, each even if another fails
            stack.callback(self.outputs.close)
            if self.store is not None:
                stack.callback(self.store.close)
            if self.journal is not None:
                stack.callback(self.journal.close)
            if self.writer is not None:
                stack.callback(self.writer.close)


def _order(settings: Settings) -> Order:
    o = settings.order
    return Order(
        lateness_s=o.lateness_s,
        max_tie_marks=1 if o.ties == "file-order" else o.max_tie_marks,
        held_events=o.held_events,
        dedupe_events=o.dedupe_events,
        max_skew_s=o.max_skew_s,
    )
