"""The library face: a processor that is fed with events and answers with forecasts.

    step(events) ─► order ─► cut ─► engine ─► forecasts of the sets that these events closed
    forecast(user, at)                        what was issued last, given the silence since
    save(folder), load(folder)                a loaded processor goes on as if it had never stopped

One call of `step` ends one cut; only a call that holds more than `cut.cut_events` events is several. So the
calls are part of what happened: the same calls give the same bits, whether or not the processor was saved
and loaded in between. Models that count give the same bits however the events are shared out among calls.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from streamrec.cut import Cut
from streamrec.errors import ConfigError, StateError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.eventlog.fields import check
from streamrec.forecast import Forecast
from streamrec.lane import JOURNAL, Lane
from streamrec.outputs import Outputs
from streamrec.settings import Settings, load_settings
from streamrec.state.lanefile import Head
from streamrec.state.reading import read_lane
from streamrec.state.snapshot import Snapshot, snapshot_of
from streamrec.state.store import LANE, LaneStore

TOPIC = "events"
"""What stands for the topic in the ids of forecasts."""

_SETTINGS = "settings"


class Processor:
    """Learns from events as they come, and forecasts every user's next one.

    Parameters
    ----------
    settings : as for the command line; the sections `input`, `checkpoint` and `http` play no part

    Raises
    ------
    ConfigError
        If a model is not known, none of them forecasts marks or none waiting times, or the universe of
        marks shall be closed.

    Examples
    --------
    >>> from streamrec import Event, ModelsSettings, Processor, Settings
    >>> few = ModelsSettings(enabled=("context_1", "gamma_poisson"))
    >>> processor = Processor(Settings(models=few))
    >>> [f.user for f in processor.step([Event("ann", "tea", 0.0), Event("bob", "rum", 60.0)])]
    ['ann']
    >>> [f.user for f in processor.flush()]
    ['bob']
    >>> processor.forecast("ann", at=120.0).issued_at
    120.0
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = Settings() if settings is None else settings
        if self.settings.forecast.universe == "known":
            raise ConfigError(
                'forecast.universe: "known" is for `streamrec evaluate`, which counts the marks first; '
                "a processor cannot know them, leave it at open"
            )
        self._lane = Lane(self.settings, Outputs())
        self._store: LaneStore | None = None
        self._loaded: tuple[Path, int] | None = None  # folder, its number of saves when we read it

    @property
    def n_events(self) -> int:
        """Events accepted so far; late and duplicate ones are not among them."""
        return self._lane.n_events

    def step(self, events: Iterable[Event]) -> list[Forecast]:
        """Take events in and learn every set that they close.

        A set, all events of a user at one time, closes when a later event comes in its partition. Late and
        duplicate events are counted and change nothing else.

        Parameters
        ----------
        events : in order of time per user; `offset` may be left at -1, then it is counted up

        Returns
        -------
        list of Forecast
            One for each set that was closed, in the order of closing: the user's next event as seen then.

        Raises
        ------
        ConfigError
            If an event has no user, mark or time that can be used; then nothing of this call is taken in.
        InvariantError
            If an `offset` was taken in before.
        """
        pairs = list(self._read(events))
        cutter = self._lane.cutter
        issued = [forecast for cut in cutter.feed(pairs) for forecast in self._apply(cut)]
        return issued + self._apply(cutter.close()) if cutter.has_reads else issued

    def flush(self) -> list[Forecast]:
        """Close every set that is still open, learn it, and forecast; for the end of a log."""
        return [forecast for cut in self._lane.cutter.finish() for forecast in self._apply(cut)]

    def forecast(self, user: str, at: float | None = None) -> Forecast:
        """A user's next event, as of its last closed set, or given that nothing came until `at`.

        Parameters
        ----------
        user : id
        at : s since the epoch, at or after the user's last closed set

        Raises
        ------
        ConfigError
            If nothing is known of the user, or `at` is too early.
        """
        return self._lane.forecast(user, at)

    def digest(self) -> str:
        """Hash of everything learned; equal digests mean equal forecasts from here on."""
        return self._lane.learned()

    def save(self, folder: str | Path) -> None:
        """Keep the whole state in a folder; later saves there write only what changed.

        Raises
        ------
        StateError
            If the folder holds another state, or has gone on since this processor read it.
        DiskError
            If the disk refuses; the next save writes what this one could not.
        """
        folder = Path(folder).resolve()
        if self._store is None or self._store.directory != folder:
            self._own(folder)
        assert self._store is not None
        self._store.save(self._snapshot())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The processor that was saved in a folder; the folder is only read.

        Raises
        ------
        StateError
            If there is no state, or it is of another version; CorruptStateError if nothing verifies.
        """
        folder = Path(folder).resolve()
        head, loaded = read_lane(folder)
        processor = cls(_settings_of(head, loaded))
        processor._lane.look(loaded)
        processor._loaded = folder, head["saves"]
        return processor

    def close(self) -> None:
        """Give the folder back; what was saved stays, and `save` may be called again."""
        if self._store is not None:
            self._loaded = self._store.directory, self._store.head["saves"]
            self._store.close()
            self._store = None

    def _read(self, events: Iterable[Event]) -> Iterator[tuple[Record, Event | Reject]]:
        following = {partition: offset for (_, partition), offset in self._lane.positions.items()}
        for i, event in enumerate(events):
            offset = event.offset if event.offset >= 0 else following.get(event.partition, 0)
            following[event.partition] = offset + 1
            record = Record(TOPIC, event.partition, offset, b"")
            yield record, _checked(event, record, i)

    def _apply(self, cut: Cut) -> list[Forecast]:
        if not cut.sets:
            return []
        result = self._lane.apply(cut)
        records = self._lane.renderer.records(cut.sets, result.marks.published, result.waits.published)
        return list(records)

    def _own(self, folder: Path) -> None:
        """Become the owner of a folder that holds nothing, or what we loaded from it or saved there."""
        self.close()
        ours = self._loaded is not None and self._loaded[0] == folder
        if (folder / LANE).exists():
            saves = read_lane(folder)[0]["saves"]
            if self._loaded != (folder, saves):
                what = "has gone on since this processor read it" if ours else "holds another state"
                raise StateError(f"{folder}: {what}; load it, or save to an empty folder")
        self._store = LaneStore.open(folder, self.settings.shaping())
        self._store.load()
        if not ours:
            self._touch_everything()

    def _touch_everything(self) -> None:
        for component in self._lane.engine.components().values():
            for table in component.tables().values():
                table.touched[:] = 1

    def _snapshot(self) -> Snapshot:
        cutter = self._lane.cutter
        return snapshot_of(
            self._lane.engine.components(),
            serial=cutter.serial,
            position=cutter.dump(),
            blobs={JOURNAL: b"{}", _SETTINGS: self.settings.model_dump_json().encode()},
            n_events=self.n_events,
        )


def _checked(event: Event, record: Record, index: int) -> Event:
    if event.context:
        raise ConfigError(f"event {index}: context events are not learned by this version; leave them out")
    read = check(record, event.user, event.mark, event.time, event.id, event.value, 1.0)
    if isinstance(read, Reject):
        raise ConfigError(f"event {index}: {read.detail} ({read.reason}); nothing of this call was taken in")
    return read


def _settings_of(head: Head, loaded: Snapshot) -> Settings:
    """All settings of a saved processor; of a lane that `streamrec run` made, those that shape its state."""
    stored = loaded.blobs.get(_SETTINGS)
    return (
        load_settings(None, head["settings"], {}) if stored is None else Settings.model_validate_json(stored)
    )
