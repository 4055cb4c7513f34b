"""What has to hold when a seed has ended: I1 to I8, lane by lane.

kept        the state on the disk, as its newest checkpoint has it
lineage     its journal, walked beside the log (`lineage`)
replayed    a fresh lane that does what the journal says
undisturbed a fresh lane that reads the log in fixed rounds, as if nothing had ever happened
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from lineage import Lineage
from log_memory import History
from processes import CODEC
from sim_lanes import FORECASTS, LETTERS

from streamrec.cut import Cut
from streamrec.daemon.feeds import FixedFeed
from streamrec.daemon.layout import by_lane, folder_of
from streamrec.entries import Assigned
from streamrec.eventlog.base import Place
from streamrec.eventlog.memory import MemorySink
from streamrec.journal import read
from streamrec.lane import JOURNAL, Lane
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.replay import replay_cuts
from streamrec.state.reading import read_lane


class _Named(msgspec.Struct):
    id: str


_ID = msgspec.json.Decoder(_Named)


class Watched(Lane):
    """A lane that keeps its tie sets and its dead letters."""

    def __init__(self, world: Any, number: int) -> None:
        self.sink = MemorySink()
        super().__init__(world.settings, Outputs(self.sink), clock_of=own_clock, number=number)
        self.sets: Counter[Any] = Counter()
        self.letters: list[bytes] = []

    def apply(self, cut: Cut) -> Any:
        """Look at the cut, then do it."""
        self.sets.update((one.user, one.time, tuple(sorted(one.marks))) for one in cut.sets)
        self.letters += [f"{r.topic}:{r.partition}:{r.offset}".encode() for r, _ in cut.rejects]
        return super().apply(cut)

    def all_sets(self) -> Counter[Any]:
        """Those in cuts, those that wait, and those that are open."""
        order = self.cutter.order
        waiting = [(one.user, one.time, tuple(sorted(one.marks))) for one in order.released]
        opened = [(one[2], one[0], tuple(sorted(one[6]))) for one in order._open.values()]
        return self.sets + Counter(waiting) + Counter(opened)

    def kept(self) -> tuple[str, str]:
        """Digests of what was learned, and of where it stands."""
        return self.learned(), self.position()


class Ended(NamedTuple):
    """What is left of a lane."""

    number: int
    kept: tuple[str, str]
    replayed: Watched
    lineage: Lineage


def check(world: Any) -> list[tuple[str, str]]:
    """Check all lanes of a world that has ended; the digests of each."""
    lanes = world.settings.kafka.lanes
    ended = [
        _check_lane(world, number, places, folder_of(world.folder, number, lanes))
        for number, places in by_lane(world.broker.places(), lanes).items()
    ]
    _check_output(world, ended)
    return [one.kept for one in ended]


def _check_lane(world: Any, number: int, places: Sequence[Place], folder: Path) -> Ended:
    _, loaded = read_lane(folder)
    kept = Watched(world, number)
    kept.look(loaded)
    accepted = msgspec.json.decode(loaded.blobs[JOURNAL], type=dict[int, int])
    entries = [(at, entry) for at, entry in read(folder, accepted) if at.epoch in accepted]
    lineage = Lineage(world.broker, places, entries, CODEC, world.begun[number])
    replayed = Watched(world, number)
    for segment in lineage.segments:
        replay_cuts(replayed, segment.log, segment.entries)
    wanted, got = kept.kept(), replayed.kept()
    assert wanted == got, f"lane {number}: kept {wanted}, its journal gives {got}"
    counts = kept.cutter.bins.counts
    assert counts == lineage.bins, f"lane {number}: bins {counts}, the log gives {lineage.bins}"
    assert replayed.all_sets() == lineage.sets, (
        f"lane {number}: tie sets {replayed.all_sets() - lineage.sets}, "
        f"the log gives {lineage.sets - replayed.all_sets()}"
    )
    _check_users(number, replayed, lineage)
    fixed = world.settings.cut.mode == "fixed"
    if not fixed:
        _check_ends(world, lineage)
    elif lineage.undisturbed:
        _check_undisturbed(world, number, places, kept)
    _check_group(world, kept)
    return Ended(number, wanted, replayed, lineage)


def _check_users(number: int, replayed: Watched, lineage: Lineage) -> None:
    users: Counter[str] = Counter()
    for (user, _, marks), n in replayed.all_sets().items():
        users[user] += n * len(marks)
    assert users == lineage.users, (
        f"lane {number}: {users - lineage.users} more, {lineage.users - users} less"
    )


def _check_ends(world: Any, lineage: Lineage) -> None:
    """Nothing is left unread."""
    for place in lineage.places:
        assert lineage.lives[place] == len(world.broker.lives[place[0]]) - 1 or place[0] not in world.remade
        partition = world.broker.partition(place)
        left = list(partition.visible_from(max(lineage.at[place], partition.first)))
        assert not left, f"{place}: {left} were never read"


def _check_undisturbed(world: Any, number: int, places: Sequence[Place], kept: Watched) -> None:
    """The lane was kept between two rounds of an undisturbed run.

    How long before the last one is not bound: a writer that is busy passes checkpoints over.
    """
    lane = Watched(world, number)
    lane.turn(Assigned(tuple((*place, 0) for place in places)))
    feed = FixedFeed(lane.cutter, places)
    log = History(world.broker, dict.fromkeys(places, 0), CODEC)
    for place in places:
        records = list(log.records(place, 0, log.partition(place).end))
        feed.take(zip(records, CODEC.decode_many(records), strict=True))
    same = [] if kept.n_events else [kept.kept()]  # before its first round it may not even be assigned
    for step in feed.steps():
        assert isinstance(step, Cut)
        lane.apply(step)
        if feed.resting and lane.n_events == kept.n_events:
            same.append(lane.kept())
    assert kept.kept() in same, f"lane {number}: at event {kept.n_events} {kept.kept()}, undisturbed {same}"


def _check_group(world: Any, kept: Lane) -> None:
    """What the group was told is in the checkpoint."""
    for place, at in kept.positions.items():
        commit = world.group.commits.get(place)
        if commit is not None and place[0] not in world.remade:
            assert commit.offset <= at, f"{place}: the group has {commit.offset}, the checkpoint {at}"


def _check_output(world: Any, ended: Sequence[Ended]) -> None:
    for topic, wanted in (
        (FORECASTS, [(_ID.decode(line).id, line) for one in ended for line in one.replayed.sink.lines]),
        (LETTERS, [(key.decode(), None) for one in ended for key in one.replayed.letters]),
    ):
        lines = defaultdict(list)
        for name, line in wanted:
            lines[name].append(line)
        _check_topic(world, topic, lines)


def _check_topic(world: Any, topic: str, wanted: dict[str, list[bytes | None]]) -> None:
    late = {process.name for process in world.everybody if process.late}
    found: dict[str, list[Any]] = defaultdict(list)
    for sent in world.broker.sent:
        visible = sent.transaction is None or sent.transaction.outcome == "committed"
        if sent.message.topic == topic and visible:
            name = _ID.decode(sent.message.value).id if topic == FORECASTS else sent.message.key.decode()
            found[name].append((sent.message.value if topic == FORECASTS else None, sent.sender))
    if world.settings.kafka.transactions:
        once = {name: [line for line, _ in lines] for name, lines in found.items()}
        strange = {name for name in {*once, *wanted} if once.get(name) != wanted.get(name)}
        assert not strange, f"{topic}: {_shown(strange, once, wanted)}"
        return
    for name, lines in wanted.items():
        assert found[name], f"{topic}: {name} was never sent"
        last, sender = found[name][-1]
        lasts = {who: line for line, who in found[name]}.values() if sender in late else [last]
        assert lines[-1] in lasts, f"{topic}: {name} is another"


def _shown(strange: set[str], found: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> str:
    return "; ".join(
        f"{name}: {len(found.get(name, []))} visible, {len(wanted.get(name, []))} wanted"
        for name in sorted(strange)[:3]
    )
