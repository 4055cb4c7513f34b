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

KAFKA = "kafka://"


def source_of(inputs: Sequence[str], settings: InputSettings) -> FileSource:
    """The inputs as one source."""
    topics = [name for name in inputs if name.startswith(KAFKA)]
    if topics:
        raise ConfigError(f"{topics[0]}: a topic is not read here; give files, globs or -")
    return open_files(inputs, field_names(settings))


def field_names(settings: InputSettings) -> FieldNames:
    """Names of the fields, as the codecs want them."""
    return FieldNames(
        user=settings.user_field or "",
        mark=settings.mark_field or "",
        time=settings.time_field or "",
        id=settings.id_field or "",
        time_unit=settings.time_unit,
    )


def is_topic(name: str) -> bool:
    """Whether an input is a topic."""
    return name.startswith(KAFKA)


def topics_of(inputs: Sequence[str]) -> list[str]:
    """The topics of inputs, all of which have to be kafka://TOPIC; none if all are files.

    Examples
    --------
    >>> topics_of(["kafka://clicks"]), topics_of(["clicks.csv"])
    (['clicks'], [])
    """
    topics = [name.removeprefix(KAFKA) for name in inputs if name.startswith(KAFKA)]
    if topics and (len(topics) < len(inputs) or not all(topics)):
        raise ConfigError(
            f"{', '.join(inputs)}: topics and files cannot be read in one run; send the files to a topic "
            "first with streamrec replay, or run them apart"
        )
    return topics


def outputs_of(sink: str, dead_letters: str | None) -> Outputs:
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
