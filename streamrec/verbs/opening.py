"""What several verbs begin with: the source, the outputs, a lane as it was left."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamrec.daemon.layout import layout_of
from streamrec.errors import ConfigError
from streamrec.eventlog.base import Sink
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import FileSource, open_files
from streamrec.eventlog.sinks import DeadLetters, JsonLinesSink
from streamrec.eventlog.topics import TopicLog, connect
from streamrec.lane import LAYOUT, Lane
from streamrec.outputs import Outputs
from streamrec.places import one_clock, own_clock
from streamrec.settings import InputSettings, Settings, load_settings
from streamrec.state.reading import read_lane
from streamrec.state.snapshot import Snapshot

KAFKA = "kafka://"


def source_of(inputs: Sequence[str], settings: InputSettings) -> FileSource:
    """The inputs as one source."""
    topics = [name for name in inputs if name.startswith(KAFKA)]
    if topics:
        raise ConfigError(f"{topics[0]}: a topic is not read here; give files, globs or -")
    return open_files(inputs, field_names(settings))


def log_of(inputs: Sequence[str], settings: Settings) -> tuple[FileSource | TopicLog, bytes]:
    """Inputs as one finite log, topics up to what they hold now, and the layout to be kept with a lane of it.

    Raises
    ------
    ConfigError
        If a file is not there, or files and topics are mixed.
    BrokerError
        If a topic is not there, or the cluster does not answer.
    """
    topics = topics_of(inputs)
    if not topics:
        return source_of(inputs, settings.input), b""
    reader = connect(settings.kafka).reader()
    try:
        layout = layout_of(1, reader.places(topics), reader.topic_ids(topics)).to_bytes()
        codec = JsonCodec(field_names(settings.input))
        return TopicLog(reader, topics, codec, settings.kafka.request_timeout_s), layout
    except BaseException:
        reader.close()
        raise


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
    for name in inputs:
        if name.startswith("kafka:") and not name.startswith(KAFKA):
            raise ConfigError(f"{name}: wanted {KAFKA}{name.removeprefix('kafka:')}")
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
    return lane_of_checkpoint(*read_lane(folder))


def lane_of_checkpoint(head: Mapping[str, Any], loaded: Snapshot, number: int = 0) -> Lane:
    """A lane, to look at, as a checkpoint holds it; `number` as `Lane`, `layout` as it was kept."""
    layout = loaded.blobs.get(LAYOUT, b"")
    lane = Lane(load_settings(None, head["settings"], {}), Outputs(), 1, clock_for(layout), number)
    lane.look(loaded)
    lane.layout = layout
    return lane


def clock_for(layout: bytes) -> Callable[[str], str]:
    """Whose clock a topic moves in a lane: the daemon keeps a layout with it, and gives every topic its own.

    Examples
    --------
    >>> clock_for(b"")("a.csv"), clock_for(b"kept")("clicks")
    ('', 'clicks')
    """
    return own_clock if layout else one_clock
