"""The state anew for another number of lanes, or of partitions: by replay, for rows cannot be moved.

    old lanes ─► positions, forgotten users        topics, from where the old lanes began
                              └──────────────┬─────────────────────┘
    new lane: its partitions in order of broker time, up to the old positions ─► cuts, journal, checkpoint
                              │
    STATE.making ── both renames ──► STATE (or --output); the old one is STATE.before-N

Tables, weights and mixtures are shared by the users of a lane, so a row alone says nothing in another lane.
The order is a function of the log (`eventlog.merged`); cuts close at `cut.cut_events`. A user who was
forgotten is forgotten again where the old lane had read up to. Nothing is lost and nothing doubled: the new
lanes stand at the old positions, and the records that they read are counted against those of the old ones.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streamrec.cut import Cutter
from streamrec.daemon.folders import lane_folders, refuse_other_topics
from streamrec.daemon.layout import Layout, by_lane, folder_of, layout_of
from streamrec.entries import Assigned, CutEntry, Entry, ForgetUser, GapSkip, Rewound
from streamrec.errors import ConfigError, DiskError, StateError
from streamrec.event import Record
from streamrec.eventlog.base import Codec, Place
from streamrec.eventlog.clients import Reader
from streamrec.eventlog.merged import Barrier, Merged
from streamrec.eventlog.reasons import SKIPPED
from streamrec.eventlog.shelves import Shelves
from streamrec.journal import Position, read
from streamrec.lane import JOURNAL, LAYOUT, Lane
from streamrec.order import Order
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.replay import refuse_lost
from streamrec.settings import Settings
from streamrec.state.fingerprint import refuse_changes
from streamrec.state.lanefile import Head
from streamrec.state.owners import Stamp, refuse_in_use, refuse_moved, stamp_of
from streamrec.state.reading import read_lane
from streamrec.state.snapshot import Snapshot
from streamrec.state.undo import open_save

BATCH = 2000

SettingsFor = Callable[[Mapping[str, Any]], Settings]
MakeCodec = Callable[[Settings], Codec]


class Plan(NamedTuple):
    """What is wanted.

    Parameters
    ----------
    state : folder of the old state
    lanes : how many there shall be
    topics : that the state was made from
    into : folder of the new state; None to put it in the old one's place
    what_is_left : go on where the topics do not hold all that was read any more
    """

    state: Path
    lanes: int
    topics: Sequence[str]
    into: Path | None = None
    what_is_left: bool = False

    @property
    def target(self) -> Path:
        """Folder of the new state."""
        return self.into or self.state

    @property
    def making(self) -> Path:
        """Where the new state is while it is made."""
        return self.target.with_name(f"{self.target.name}.making")

    @property
    def before(self) -> Path:
        """Where the old state goes when the new one takes its place."""
        return self.state.with_name(f"{self.state.name}.before-{self.lanes}")


class Built(NamedTuple):
    """A new lane: accepted events, users, digest of what it learned."""

    events: int
    users: int
    learned: str


class Outcome(NamedTuple):
    """What was made.

    Parameters
    ----------
    folder : of the new state
    lanes : by number
    before, after : records that the old lanes had read, and that the new ones read
    positions : next offsets
    notes : one line each, for people
    """

    folder: Path
    lanes: Mapping[int, Built]
    before: int
    after: int
    positions: Mapping[Place, int]
    notes: Sequence[str]


class _Old(NamedTuple):
    """An old lane, as its newest checkpoint says."""

    folder: Path
    stamp: Stamp
    settings: Head
    layout: Layout
    cutter: Cutter
    barriers: list[Barrier]


def repartition(plan: Plan, settings_for: SettingsFor, reader: Reader, make_codec: MakeCodec) -> Outcome:
    """Make the state anew for `plan.lanes` lanes.

    Parameters
    ----------
    plan : what is wanted
    settings_for : given those that shaped the state, all settings of the new lanes
    reader : of the cluster; nobody else may use it meanwhile
    make_codec : given the settings, what decodes records

    Raises
    ------
    ConfigError
        If lanes, topics or folders cannot be as wanted.
    StateError
        If a process has the state open, or used it meanwhile; if it holds a checkpoint of which nobody knows
        whether it counts; if the topics do not hold what was read, unless `what_is_left`.
    BrokerError
        If the cluster does not answer.
    DiskError
        If the disk refuses.
    """
    _take_back(plan)
    _refuse_folders(plan)
    olds = [_old(folder) for folder in lane_folders(plan.state).values()]
    settings = settings_for(olds[0].settings)
    for old in olds:
        refuse_in_use(old.folder)
        refuse_changes(old.settings, settings.shaping())
        refuse_other_topics(old.layout, plan.topics, reader)
    places = reader.places(plan.topics)
    if plan.lanes > max(partition for _, partition in places) + 1:
        raise ConfigError(f"--lanes: {plan.lanes} are more than there are partitions; give at most as many")
    ranges = _ranges(plan, olds, reader)
    layout = layout_of(plan.lanes, places, reader.topic_ids(plan.topics))
    shutil.rmtree(plan.making, ignore_errors=True)
    try:
        built = _build_all(plan, settings, reader, make_codec(settings), olds, ranges, layout)
        before, after = sum(records_read(old.cutter) for old in olds), sum(n for _, n in built.values())
        if before != after and not plan.what_is_left:
            raise _missing(before, after)
        for old in olds:
            refuse_in_use(old.folder)
            refuse_moved(old.folder, old.stamp)
    except BaseException:
        shutil.rmtree(plan.making, ignore_errors=True)
        raise
    _put_in_place(plan)
    lanes = {number: lane for number, (lane, _) in built.items()}
    positions = {place: end for place, (_, end) in ranges.items()}
    return Outcome(plan.target, lanes, before, after, positions, moved_users(olds[0].layout, layout))


def records_read(cutter: Cutter) -> int:
    """Records that a lane has read: the offsets that went by, without those at which there was no record.

    Examples
    --------
    >>> cutter = Cutter(Order(), last_time=lambda user: float("nan"))
    >>> cutter.skip("clicks", 0, 0, 40, "retention"), records_read(cutter)
    (40, 0)
    """
    causes = cutter.bins.causes
    none = sum(n for cause, n in causes.items() if cause not in SKIPPED and cause != "forgotten")
    return cutter.offsets_advanced - none


def moved_users(kept: Layout, now: Layout) -> list[str]:
    """Topics whose users may have their past in another lane than their future, one line each.

    A producer sends a key to hash mod partitions; that stays in its lane, (hash mod partitions) mod lanes, if
    the number of lanes divides the numbers of partitions before and after.

    Examples
    --------
    >>> from streamrec.daemon.layout import Topic
    >>> kept, now = Layout(2, {"clicks": Topic("x", 4)}), Layout(2, {"clicks": Topic("x", 6)})
    >>> moved_users(kept, now), len(moved_users(kept, Layout(4, now.topics)))
    ([], 1)
    """
    before = {name: topic.partitions for name, topic in kept.topics.items()}
    return [
        f"{name} had {before[name]} partitions, now {topic.partitions}: {now.lanes} lanes do not divide "
        "both, so that what is known of some users is in another lane than their next records; choose a "
        "number of lanes that divides both, or send the records to a new topic"
        for name, topic in now.topics.items()
        if before[name] != topic.partitions and (before[name] % now.lanes or topic.partitions % now.lanes)
    ]


def _old(folder: Path) -> _Old:
    head, loaded = read_lane(folder)
    layout = Layout.from_bytes(loaded.blobs.get(LAYOUT, b""))
    if layout is None:
        raise StateError(f"{folder}: was not made from topics; only those have lanes")
    if open_save(head) is not None:
        raise StateError(
            f"{folder}: save {open_save(head)} is prepared, and only the consumer group's offsets say "
            "whether it counts; start the daemon once, stop it, and begin again"
        )
    cutter = Cutter(Order(), _never, clock_of=own_clock)
    cutter.load(loaded.position)
    return _Old(folder, stamp_of(head), head["settings"], layout, cutter, _barriers(folder, loaded))


def _never(user: str) -> float:
    return float("nan")


def _barriers(folder: Path, loaded: Snapshot) -> list[Barrier]:
    """Where users were forgotten, by what had been read of the log that is there now."""
    accepted = msgspec.json.decode(loaded.blobs[JOURNAL], type=dict[int, int])
    entries = takewhile(lambda found: found[0].epoch <= max(accepted), read(folder, accepted))
    at: dict[Place, int] = {}
    barriers: list[Barrier] = []
    for place, offset in _steps(entries):
        if isinstance(place, str):
            barriers.append(Barrier(dict(at), place))
            continue
        if offset < at.get(place, 0):  # another log from here on: of it nothing had been read before
            barriers = [Barrier({**barrier.limits, place: 0}, barrier.user) for barrier in barriers]
        at[place] = offset
    return barriers


def _steps(entries: Iterable[tuple[Position, Entry]]) -> Iterator[tuple[Place | str, int]]:
    """Where partitions stood after each entry; a text is a user who was forgotten."""
    for _, entry in entries:
        match entry:
            case CutEntry():
                yield from (((topic, part), last) for topic, part, _, last in entry.reads)
            case Assigned():
                yield from (((topic, part), at) for topic, part, at in entry.places)
            case GapSkip():
                yield (entry.topic, entry.partition), entry.next
            case Rewound():
                yield (entry.topic, entry.partition), entry.to
            case ForgetUser():
                yield entry.user, 0


def _ranges(plan: Plan, olds: Sequence[_Old], reader: Reader) -> dict[Place, tuple[int, int]]:
    """First offset to read, and where the old lanes stood, per partition that they knew."""
    ends = {place: end for old in olds for place, end in old.cutter.positions.items()}
    begins = {place: first for old in olds for place, first in old.cutter.begins.items()}
    bounds = reader.bounds(sorted(ends))
    read_before = {place: (max(0, begins[place]), end) for place, end in ends.items() if begins[place] < end}
    if plan.what_is_left:
        read_before = {place: (bounds[place].first, end) for place, (_, end) in read_before.items()}
    refuse_lost(read_before, bounds)
    return {place: (min(end, max(begins[place], bounds[place].first)), end) for place, end in ends.items()}


def _build_all(
    plan: Plan,
    settings: Settings,
    reader: Reader,
    codec: Codec,
    olds: Sequence[_Old],
    ranges: Mapping[Place, tuple[int, int]],
    layout: Layout,
) -> dict[int, tuple[Built, int]]:
    """Every new lane with the number of records that it read."""
    patience_s, groups = settings.kafka.request_timeout_s, [old.barriers for old in olds]
    built = {}
    for number, places in by_lane(ranges, plan.lanes).items():
        mine = {place: ranges[place] for place in places}
        lane = Lane(settings, Outputs(), clock_of=own_clock, number=number)
        try:
            lane.open(folder_of(plan.making, number, plan.lanes))
            lane.layout = layout.to_bytes()
            lane.turn(Assigned(tuple((*place, first) for place, (first, _) in sorted(mine.items()))))
            _learn(lane, codec, Merged(Shelves(reader, mine, patience_s), places, groups))
            _pass_markers(lane, mine)
            facts = lane.n_events, lane.engine.arena.n_users, lane.learned()
            built[number] = Built(*facts), records_read(lane.cutter)
            lane.close()
        except BaseException:
            lane.abandon()
            raise
    return built


def _learn(lane: Lane, codec: Codec, merged: Merged) -> None:
    for found in _batches(merged):
        if isinstance(found, Barrier):
            _end_cut(lane)
            lane.turn(ForgetUser(found.user))
            continue
        for cut in lane.cutter.feed(zip(found, codec.decode_many(found), strict=True)):
            lane.apply(cut)
    _end_cut(lane)


def _batches(merged: Merged) -> Iterator[list[Record] | Barrier]:
    """Records to be decoded together; a barrier ends them."""
    batch: list[Record] = []
    for found in merged:
        if isinstance(found, Barrier):
            yield batch
            yield found
            batch = []
            continue
        batch.append(found)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def _end_cut(lane: Lane) -> None:
    """What was read becomes a cut; sets that are open stay so, for the daemon goes on."""
    while lane.cutter.has_work:
        lane.apply(lane.cutter.close())


def _pass_markers(lane: Lane, ranges: Mapping[Place, tuple[int, int]]) -> None:
    """Where the old lanes stood behind offsets without a record, go there too."""
    at = lane.positions
    for (topic, partition), (_, end) in sorted(ranges.items()):
        if at[topic, partition] < end:
            lane.turn(GapSkip(topic, partition, at[topic, partition], end, "log"))


def _missing(before: int, after: int) -> StateError:
    if after > before:
        return StateError(
            f"the topics give {after} records where {before} had been read: {after - before} more; read them "
            "with the kafka.isolation that the state was made with"
        )
    return StateError(
        f"the topics give {after} of the {before} records that had been read: {before - after} are gone "
        "(compaction, or a topic that was made anew); go on without them with --from-what-is-left"
    )


def _refuse_folders(plan: Plan) -> None:
    if plan.lanes < 1:
        raise ConfigError(f"--lanes: wanted 1 or more, got {plan.lanes}")
    taken = plan.into if plan.into is not None else plan.before
    if taken.exists():
        raise ConfigError(f"{taken}: is there already; move it away, or name another folder with --output")


def _take_back(plan: Plan) -> None:
    """An earlier call was killed between its two renames: the old state goes back to its place."""
    if plan.into is None and not plan.state.exists() and plan.before.exists():
        plan.before.rename(plan.state)


def _put_in_place(plan: Plan) -> None:
    try:
        if plan.into is None:
            plan.state.rename(plan.before)
        plan.making.rename(plan.target)
        fd = os.open(plan.target.resolve().parent, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise DiskError(
            f"{plan.target}: the new state is whole, in {plan.making}, but cannot be put in place "
            f"({error.strerror}); move it there"
        ) from error
