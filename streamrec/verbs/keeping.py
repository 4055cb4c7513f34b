"""inspect, verify and forecast: looking at a state directory without owning it.

A process that learns into it is not disturbed: what is shown and compared is its newest checkpoint, read in
one transaction, and the journal up to the length that this checkpoint names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streamrec.daemon.folders import lane_folders, refuse_other_topics
from streamrec.daemon.layout import Layout
from streamrec.entries import Entry
from streamrec.errors import ConfigError, StateError
from streamrec.eventlog.clients import Reader
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.files import FileSource
from streamrec.eventlog.topics import connect
from streamrec.journal import Position, read
from streamrec.lane import JOURNAL, Lane
from streamrec.outputs import Outputs
from streamrec.replay import Finder, LogFinder, TopicFinder, ranges_of, replay_cuts
from streamrec.settings import Settings, load_settings
from streamrec.state.digest import global_digest
from streamrec.state.fingerprint import machine_fingerprint, refuse_changes
from streamrec.state.reading import inspect as summary_of
from streamrec.state.reading import read_lane
from streamrec.verbs.opening import clock_for, field_names, lane_of_checkpoint, source_of, topics_of

Entries = Sequence[tuple[Position, Entry]]
MakeFinder = Callable[[Settings, Layout | None, Entries], Finder]


class Replayed(NamedTuple):
    """What a journal and a log gave, beside what is kept.

    Parameters
    ----------
    cuts, events : replayed
    kept, again : digests of what was learned, and of where the lane stands
    """

    cuts: int
    events: int
    kept: tuple[str, str]
    again: tuple[str, str]


def inspect(folder: Path) -> None:
    """Print what a state directory holds; `digest` is the digest of what was learned, by all lanes."""
    folders = lane_folders(folder)
    told = {number: _told(path, number) for number, path in folders.items()}
    if len(told) == 1:
        _print(next(iter(told.values())))
        return
    print(f"digest {global_digest({number: str(lane['digest']) for number, lane in told.items()})}")
    print(f"lanes {len(told)}")
    for name in ("events", "users"):
        print(f"{name} {sum(int(lane[name]) for lane in told.values())}")
    for number, lane in told.items():
        _print(lane, f"lane-{number}.")


def verify(folder: Path, against: Sequence[str], config: Path | None, flags: Mapping[str, Any]) -> None:
    """Do everything again from the journal and the log, and compare digests, lane by lane.

    Raises
    ------
    StateError
        If the digests differ, or the state was made on another kind of machine, or the log does not hold
        any more what was read of it.
    BrokerError
        If a topic is not there, or the cluster does not answer.
    """
    folders = lane_folders(folder)
    given = {name: value for name, value in flags.items() if value is not None}
    with _finders(against, load_settings(config, given)) as find:
        done = {number: _again(path, number, config, given, find) for number, path in folders.items()}
    for number, lane in done.items():
        _tell(lane, f"lane-{number}: " if len(done) > 1 else "")
    if len(done) > 1:
        print(f"kept     {global_digest({number: lane.kept[0] for number, lane in done.items()})}")
        print(f"replayed {global_digest({number: lane.again[0] for number, lane in done.items()})}")
    wrong = [str(folders[number]) for number, lane in done.items() if lane.kept != lane.again]
    if wrong:
        raise StateError(f"{', '.join(wrong)}: log and journal do not give this state; it cannot be trusted")
    print("equal")


def forecast(folder: Path, user: str, at: float | None) -> None:
    """Print a user's forecast as JSON, by the lane that knows the user.

    Raises
    ------
    ConfigError
        If none does, or `at` is before the user's last event.
    """
    folders = lane_folders(folder)
    lane = None
    for number, path in folders.items():
        lane = lane_of_checkpoint(*read_lane(path), number)
        if lane.engine.arena.find(user) >= 0:
            break
    assert lane is not None  # there is one folder at least
    print(lane.forecast(user, at).to_json().decode())


def _told(path: Path, number: int) -> dict[str, Any]:
    summary = summary_of(path)
    head, loaded = read_lane(path)
    lane = lane_of_checkpoint(head, loaded, number)
    layout = Layout.from_bytes(lane.layout)
    topics = {} if layout is None else {"lanes": layout.lanes, "topics": msgspec.to_builtins(layout.topics)}
    return {
        "digest": lane.learned(),
        "position": lane.position(),
        "events": lane.n_events,
        "users": lane.engine.arena.n_users,
        "marks": lane.engine.vocabulary.n_marks,
        "offsets": {f"{topic}[{part}]": at for (topic, part), at in lane.positions.items()},
        **topics,
        **{name: value for name, value in summary.items() if name not in {"settings", "machine"}},
    }


def _print(told: Mapping[str, Any], before: str = "") -> None:
    for name, value in told.items():
        print(f"{before}{name} {value}")


def _again(
    path: Path, number: int, config: Path | None, given: Mapping[str, Any], find: MakeFinder
) -> Replayed:
    """Replay one lane."""
    head, loaded = read_lane(path)
    machine = machine_fingerprint()
    if head["machine"] != machine:
        names = {*machine, *head["machine"]}
        other = ", ".join(sorted(n for n in names if machine.get(n) != head["machine"].get(n)))
        raise StateError(f"{path}: not comparable, made on another kind of machine ({other} differ)")
    settings = load_settings(config, {**head["settings"], **given})
    refuse_changes(head["settings"], settings.shaping())
    kept = lane_of_checkpoint(head, loaded, number)
    accepted = msgspec.json.decode(loaded.blobs[JOURNAL], type=dict[int, int])
    entries = list(takewhile(lambda found: found[0].epoch <= max(accepted), read(path, accepted)))
    replayed = Lane(settings, Outputs(), 1, clock_for(kept.layout), number)
    n = replay_cuts(replayed, find(settings, Layout.from_bytes(kept.layout), entries), entries)
    digests = [(lane.learned(), lane.position()) for lane in (kept, replayed)]
    return Replayed(n, replayed.n_events, *digests)


def _tell(lane: Replayed, before: str) -> None:
    print(f"{before}journal: {lane.cuts} cuts, {lane.events} events")
    print(f"{before}kept     {lane.kept[0]}")
    print(f"{before}replayed {lane.again[0]}")


@contextmanager
def _finders(against: Sequence[str], settings: Settings) -> Iterator[MakeFinder]:
    """Makes finders in a log that is opened once."""
    topics = topics_of(against)
    if not topics:
        source = source_of(against, settings.input)
        try:
            yield partial(_in_files, source)
        finally:
            source.close()
        return
    reader = connect(settings.kafka).reader()
    try:
        yield partial(_in_topics, reader, topics)
    finally:
        reader.close()


def _in_files(source: FileSource, settings: Settings, layout: Layout | None, entries: Entries) -> Finder:
    if layout is not None:
        named = " ".join(f"kafka://{topic}" for topic in layout.topics)
        raise ConfigError(f"--against: the state was made from topics; name them: {named}")
    return LogFinder(source, entries)


def _in_topics(
    reader: Reader, topics: Sequence[str], settings: Settings, layout: Layout | None, entries: Entries
) -> Finder:
    if layout is None and ranges_of(entries):
        raise ConfigError(f"--against kafka://{topics[0]}: the state was made from files; name those")
    refuse_other_topics(layout, topics, reader)
    codec = JsonCodec(field_names(settings.input))
    return TopicFinder(reader, codec, entries, settings.kafka.request_timeout_s)
