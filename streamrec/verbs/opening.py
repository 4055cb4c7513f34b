"""What several verbs begin with: the source, the outputs, a lane as it was left."""

from collections.abc import Sequence
from pathlib import Path

from streamrec.errors import ConfigError
from streamrec.eventlog.base import Sink
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import FileSource, open_files
from streamrec.eventlog.sinks import DeadLetters, JsonLinesSink
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.settings import InputSettings, load_settings
from streamrec.state.reading import read_lane


def source_of(inputs: Sequence[str], settings: InputSettings) -> FileSource:
    """The inputs as one source."""
    topics = [name for name in inputs if name.startswith("kafka://")]
    if topics:
        raise ConfigError(f"{topics[0]}: Kafka topics are not read by this version; give files, globs or -")
    fields = FieldNames(
        user=settings.user_field or "",
        mark=settings.mark_field or "",
        time=settings.time_field or "",
        id=settings.id_field or "",
        time_unit=settings.time_unit,
    )
    return open_files(inputs, fields)


def outputs_of(sink: str, dead_letters: Path | None) -> Outputs:
    """Files that a lane writes to; `sink` is jsonl:FILE or none."""
    letters = None if dead_letters is None else DeadLetters(JsonLinesSink(dead_letters))
    return Outputs(_sink(sink), letters)


def _sink(text: str) -> Sink | None:
    if text == "none":
        return None
    kind, _, path = text.partition(":")
    if kind != "jsonl" or not path:
        raise ConfigError(f"--sink {text}: wanted jsonl:FILE or none")
    return JsonLinesSink(path)


def kept_lane(folder: Path) -> Lane:
    """A lane as its newest checkpoint left it, to look at, with the settings that it was made with.

    Raises
    ------
    StateError
        If the folder holds no state, or one of another version.
    """
    head, loaded = read_lane(folder)
    lane = Lane(load_settings(None, head["settings"], {}), Outputs(), n_universe=1)
    lane.look(loaded)
    return lane
