"""A lane: the unit of state, in a folder of its own, and the one way in which a cut is applied.

    cut ─► journal ─► engine (score, issue, mix, learn) ─► forecasts, dead letters ─► checkpoint, when due

The checkpoint is the truth: opening a lane loads it, cuts the output files back to the lengths that it holds,
and says where to read on. What was done after it is done again, and gives the same bits. The checkpoint
writer is passed in: a thread for a daemon, an inline one for tests.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamrec.cut import Cut, Cutter
from streamrec.entries import CutEntry
from streamrec.errors import ConfigError
from streamrec.event import TieSet
from streamrec.eventlog.base import Place, Reject, Sink
from streamrec.eventlog.sinks import DeadLetters
from streamrec.failpoints import failpoint
from streamrec.forecast import Forecast
from streamrec.journal import Journal
from streamrec.models.base import Stateful
from streamrec.order import Order
from streamrec.processor import CutResult, Engine
from streamrec.render import Renderer
from streamrec.settings import Settings
from streamrec.state.digest import learned_digest, position_digest
from streamrec.state.snapshot import Snapshot, restore_into, snapshot_of
from streamrec.state.store import LaneStore
from streamrec.state.writer import InlineWriter, ThreadWriter, Writer

JOURNAL, FORECASTS, LETTERS = "journal", "forecasts", "dead_letters"

MakeWriter = Callable[[LaneStore, Callable[[], object]], Writer]


class Outputs(NamedTuple):
    """Where a lane writes; None for what nobody wants."""

    forecasts: Sink | None = None
    letters: DeadLetters | None = None

    def lengths(self) -> dict[str, int]:
        """Bytes written to each."""
        return {name: sink.position() for name, sink in self._named()}

    def cut_back(self, lengths: Mapping[str, int]) -> None:
        """Forget what was written after a checkpoint."""
        for name, sink in self._named():
            sink.cut_back(lengths.get(name, 0))

    def flush(self) -> None:
        """Everything written so far is on the disk when this returns."""
        for _, sink in self._named():
            sink.flush()

    def close(self) -> None:
        """Close both."""
        for _, sink in self._named():
            sink.close()

    def _named(self) -> list[tuple[str, Sink | DeadLetters]]:
        both: list[tuple[str, Sink | DeadLetters | None]] = [
            (FORECASTS, self.forecasts),
            (LETTERS, self.letters),
        ]
        return [(name, sink) for name, sink in both if sink is not None]


class Lane:
    """Engine, order and position, with or without a folder that they are kept in.

    Parameters
    ----------
    settings : of the engine, the order and the cuts
    outputs : forecasts and dead letters
    n_universe : see `Engine`
    """

    def __init__(self, settings: Settings, outputs: Outputs, n_universe: int = 0) -> None:
        self.settings, self.outputs = settings, outputs
        self.engine = Engine(settings, n_universe)
        self.cutter = Cutter(_order(settings), self.engine.last_time, settings.cut.cut_events)
        forecast = settings.forecast
        self.renderer = Renderer(self.engine.vocabulary, forecast.within_s, forecast.hazard)
        self.extra: dict[str, Stateful] = {}
        self.writer: Writer | None = None
        self.journal: Journal | None = None
        self.store: LaneStore | None = None
        self._earlier: dict[int, int] = {}
        self._checkpoint_at = settings.checkpoint.every_events

    def open(self, folder: Path, make_writer: MakeWriter = InlineWriter) -> bool:
        """Become the owner of a folder: load its newest checkpoint, if any, and cut the outputs back to it.

        Returns
        -------
        bool
            Whether there was a checkpoint.

        Raises
        ------
        StateError
            If the state was made with other settings, or by another version.
        CorruptStateError
            If no generation of it verifies.
        """
        c = self.settings.checkpoint
        self.store = LaneStore.open(
            folder,
            self.settings.shaping(),
            generation_every=c.generation_every,
            keep=c.generations,
        )
        loaded = self.store.load()
        self._earlier = {e: lengths.get(JOURNAL, 0) for e, lengths in self.store.accepted.items()}
        if loaded is not None:
            self._restore(loaded)
        self.journal = Journal.open(folder, self.store.epoch, self._earlier)
        self.writer = make_writer(self.store, self.journal.sync)
        return loaded is not None

    def look(self, loaded: Snapshot) -> None:
        """Become what a checkpoint says, without owning its folder; outputs stay as they are."""
        restore_into(self.engine.components() | self.extra, loaded)
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
        """Journal a cut, let the engine process it, write what it issued, and keep the state when due.

        Raises
        ------
        DiskError
            If the journal or an output cannot be written; if it was the journal, nothing was learned.
        """
        failpoint("after_read")
        if self.journal is not None:
            self.journal.append(CutEntry.of(cut))
        result = self.engine.process(cut.sets)
        failpoint("before_emit")
        self._emit(cut, result)
        failpoint("after_emit")
        if self.n_events >= self._checkpoint_at:
            self.checkpoint()
        return result

    def checkpoint(self) -> bool:
        """Copy what changed and hand it to the writer; False if the writer is busy (counted there)."""
        if self.writer is None:
            return False
        self.outputs.flush()
        self._checkpoint_at = self.n_events + self.settings.checkpoint.every_events
        return self.writer.try_submit(self._snapshot)

    def close(self) -> None:
        """Keep the state, wait until it is on the disk, and give everything back."""
        try:
            if self.writer is not None:
                self.writer.drain()
                self.checkpoint()
                self.writer.drain()
        finally:
            self._give_back()

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
            self.outputs.forecasts.emit([record.to_json() for record in records])

    def _snapshot(self) -> Snapshot:
        return snapshot_of(
            self.engine.components() | self.extra,
            serial=self.cutter.serial,
            position=self.cutter.dump(),
            blobs={JOURNAL: msgspec.json.encode(self._journals())},
            lengths=self._lengths(),
            n_events=self.n_events,
        )

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
        self.outputs.cut_back(loaded.lengths)
        self._checkpoint_at = self.n_events + self.settings.checkpoint.every_events

    def _give_back(self) -> None:
        if isinstance(self.writer, ThreadWriter):
            self.writer.close()
        if self.journal is not None:
            self.journal.close()
        if self.store is not None:
            self.store.close()
        self.outputs.close()


def _order(settings: Settings) -> Order:
    o = settings.order
    return Order(
        lateness_s=o.lateness_s,
        max_tie_marks=1 if o.ties == "file-order" else o.max_tie_marks,
        held_events=o.held_events,
        dedupe_events=o.dedupe_events,
    )
