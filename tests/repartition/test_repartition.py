"""A state made anew for other lanes: nothing lost, nothing doubled, the old one kept, refusals explained."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from zlib import crc32

import pytest
from fake_topics import TINY, TOPIC, Cluster, FakeClients, FakeReader, Living, layout_now

from streamrec.daemon.folders import lane_folders, refuse_other_lanes
from streamrec.daemon.layout import Layout, refuse_changes
from streamrec.entries import CutEntry, ForgetUser, GapSkip, Rewound
from streamrec.errors import ConfigError, DiskError, StateError
from streamrec.event import Event, Record, TieSet
from streamrec.eventlog.base import Codec, Place
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.journal import read
from streamrec.lane import Lane
from streamrec.processor import CutResult, Engine
from streamrec.repartition import Outcome, Plan, repartition
from streamrec.settings import Settings, load_settings
from streamrec.state.reading import read_lane
from streamrec.verbs.consuming import consume
from streamrec.verbs.keeping import verify
from streamrec.verbs.opening import kept_lane, lane_of_checkpoint
from streamrec.verbs.repartitioning import repartition_state
from streamrec.verbs.running import run


def settings_for(lanes: int = 1) -> Settings:
    sizes = {"cut.live_min_events": 16, "cut.live_max_events": 48, "checkpoint.every_events": 10**9}
    return load_settings(None, {**TINY, **sizes, "kafka.lanes": lanes}, {})


def codec(settings: Settings) -> Codec:
    return JsonCodec(FieldNames())


def remade(cluster: Cluster, plan: Plan) -> Outcome:
    return repartition(plan, lambda stored: settings_for(plan.lanes), FakeReader(cluster), codec)


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(4)
    cluster.send(900, seed=1)
    return cluster


@pytest.fixture
def state(cluster: Cluster, tmp_path: Path) -> Path:
    living = Living(cluster, tmp_path / "state", settings_for(), seed=0)
    living.read()
    living.close()
    return tmp_path / "state"


@pytest.fixture
def learned_marks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Events per user that engines learn from now on."""
    counts: Counter[str] = Counter()
    process = Engine.process

    def counting(engine: Engine, sets: list[TieSet]) -> CutResult:
        for one in sets:
            counts[one.user] += len(one.marks)
        return process(engine, sets)

    monkeypatch.setattr(Engine, "process", counting)
    yield counts


def truth(cluster: Cluster) -> Counter[str]:
    """Events per user that are not late in their user's own order: what every lane has to learn."""
    counts: Counter[str] = Counter()
    last: dict[str, float] = {}
    for place in cluster.logs:
        for event in JsonCodec(FieldNames()).decode_many(cluster.logs[place]):
            if isinstance(event, Event) and event.time >= last.get(event.user, -math.inf):
                last[event.user] = event.time
                counts[event.user] += 1
    return counts


def home_of(user: str, folders: Mapping[int, Path]) -> Lane:
    """The lane, of as many as there are partitions, that a user's records go to."""
    return kept_lane(folders[crc32(user.encode()) % len(folders)])


def flush(state: Path) -> None:
    """Let every lane learn the sets that are still open."""
    for number, folder in lane_folders(state).items():
        lane = lane_of_checkpoint(*read_lane(folder), number)
        for cut in lane.cutter.finish():
            lane.engine.process(cut.sets)


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_every_event_is_learned_once_and_the_new_lanes_stand_where_the_old_one_stood(
    cluster: Cluster, state: Path, learned_marks: Counter[str], lanes: int
) -> None:
    old = kept_lane(state)
    outcome = remade(cluster, Plan(state, lanes, [TOPIC], state.with_name("new")))
    flush(outcome.folder)
    assert learned_marks == truth(cluster)
    folders = lane_folders(outcome.folder)
    assert list(folders) == list(range(lanes))
    positions: dict[Place, int] = {}
    for number, folder in folders.items():
        lane = kept_lane(folder)
        positions |= lane.positions
        assert {place[1] % lanes for place in lane.positions} == {number}
        assert outcome.lanes[number][0::2] == (lane.n_events, lane.learned())
        refuse_changes(Layout.from_bytes(lane.layout), layout_now(cluster, lanes))
    assert positions == old.positions == outcome.positions
    assert outcome.before == outcome.after == sum(map(len, cluster.logs.values()))


def test_a_daemon_goes_on_from_there_and_learns_the_rest_once(
    cluster: Cluster, state: Path, learned_marks: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = remade(cluster, Plan(state, 2, [TOPIC]))
    cluster.send(400, seed=2)
    living = Living(cluster, outcome.folder, settings_for(2), seed=3)
    living.read()
    living.close()
    monkeypatch.setattr("streamrec.verbs.keeping.connect", lambda kafka: FakeClients(cluster))
    before_replay = learned_marks.copy()
    verify(state, [f"kafka://{TOPIC}"], None, {})
    learned_marks.clear()
    learned_marks.update(before_replay)
    flush(state)
    assert learned_marks == truth(cluster)


def test_only_what_the_old_lanes_had_read_is_read(cluster: Cluster, state: Path) -> None:
    once = remade(cluster, Plan(state, 2, [TOPIC], state.with_name("once")))
    cluster.send(300, seed=2)
    again = remade(cluster, Plan(state, 2, [TOPIC], state.with_name("again")))
    assert again[1:] == once[1:]


def test_there_and_back_is_the_same_whatever_lanes_were_between(cluster: Cluster, state: Path) -> None:
    direct = remade(cluster, Plan(state, 4, [TOPIC], state.with_name("direct")))
    two = remade(cluster, Plan(state, 2, [TOPIC], state.with_name("two")))
    around = remade(cluster, Plan(two.folder, 4, [TOPIC], state.with_name("around")))
    assert around.lanes == direct.lanes


def test_the_old_state_is_kept_beside_the_new_one(cluster: Cluster, state: Path) -> None:
    digest = kept_lane(state).learned()
    remade(cluster, Plan(state, 2, [TOPIC]))
    assert sorted(path.name for path in state.parent.iterdir()) == ["state", "state.before-2"]
    assert kept_lane(state.with_name("state.before-2")).learned() == digest
    with pytest.raises(StateError, match=r"holds lanes up to number 1, but kafka\.lanes is 1"):
        refuse_other_lanes(state, 1)
    with pytest.raises(StateError, match=r"holds one lane, but kafka\.lanes is 2"):
        refuse_other_lanes(state.with_name("state.before-2"), 2)
    refuse_other_lanes(state, 2)
    refuse_other_lanes(state.with_name("absent"), 2)
    with pytest.raises(ConfigError, match=r"state\.before-2: is there already"):
        remade(cluster, Plan(state, 2, [TOPIC]))


def test_a_daemon_with_another_number_of_lanes_does_not_begin_anew_beside_a_state(state: Path) -> None:
    flags = {**TINY, "kafka.lanes": 2}
    with pytest.raises(StateError, match=r"holds one lane, but kafka\.lanes is 2"):
        consume([f"kafka://{TOPIC}"], None, flags, state, "none", None)
    assert list(lane_folders(state)) == [0]


def test_files_do_not_go_on_with_a_state_of_topics(state: Path) -> None:
    log = state.with_name("log.csv")
    log.write_text("user,mark,time\nu1,m1,5\n")
    with pytest.raises(StateError, match="was made from topics, and cannot go on with files"):
        run([str(log)], None, dict(TINY), state, "none", None)


def test_a_call_that_was_killed_between_its_renames_is_taken_back(
    cluster: Cluster, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, rename = kept_lane(state).learned(), Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.endswith(".making"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(DiskError, match=r"the new state is whole, in .*state\.making"):
        remade(cluster, Plan(state, 2, [TOPIC]))
    assert not state.exists()
    monkeypatch.setattr(Path, "rename", rename)
    outcome = remade(cluster, Plan(state, 2, [TOPIC]))
    assert kept_lane(state.with_name("state.before-2")).learned() == digest
    assert list(lane_folders(outcome.folder)) == [0, 1]


def test_a_state_that_a_process_has_open_is_refused(cluster: Cluster, state: Path) -> None:
    living = Living(cluster, state, settings_for(), seed=1)
    with pytest.raises(StateError, match="a process has this state open; stop the daemon"):
        remade(cluster, Plan(state, 2, [TOPIC]))
    living.close()
    assert remade(cluster, Plan(state, 2, [TOPIC])).before > 0


def test_a_state_that_was_used_meanwhile_is_refused_and_nothing_is_left_behind(
    cluster: Cluster, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(FakeReader):
        def poll(self, max_records: int, timeout_s: float) -> list[Record]:
            if not used:
                used.append(Living(cluster, state, settings_for(), seed=1))
                used[0].close()
            return super().poll(max_records, timeout_s)

    used: list[Living] = []
    with pytest.raises(StateError, match=r"somebody has used this state meanwhile \(epoch 1 .* now epoch 2"):
        repartition(Plan(state, 2, [TOPIC]), lambda stored: settings_for(2), Busy(cluster), codec)
    assert [path.name for path in state.parent.iterdir()] == ["state"]


def test_a_topic_that_lost_its_beginning_is_refused_or_counted_exactly(cluster: Cluster, state: Path) -> None:
    lost = sum(record.offset < 50 for record in cluster.logs[TOPIC, 1])
    cluster.trim((TOPIC, 1), 50)
    with pytest.raises(StateError, match=r"clicks\[1\]: offsets 0 to \d+ were read, the topic holds 50 to"):
        remade(cluster, Plan(state, 2, [TOPIC]))
    outcome = remade(cluster, Plan(state, 2, [TOPIC], what_is_left=True))
    assert outcome.before - outcome.after == lost > 0
    assert outcome.positions == kept_lane(state.with_name("state.before-2")).positions


def test_records_that_compaction_took_are_counted_too(cluster: Cluster, state: Path) -> None:
    log = cluster.logs[TOPIC, 2]
    for record in (log[5], log[-1]):
        cluster.lose((TOPIC, 2), record.offset)
    with pytest.raises(StateError, match=r"give \d+ of the \d+ records that had been read: 2 are gone"):
        remade(cluster, Plan(state, 2, [TOPIC]))
    outcome = remade(cluster, Plan(state, 2, [TOPIC], what_is_left=True))
    assert outcome.before - outcome.after == 2
    assert outcome.positions == kept_lane(state.with_name("state.before-2")).positions


def test_records_that_were_skipped_before_are_not_missing_now(cluster: Cluster, tmp_path: Path) -> None:
    state = tmp_path / "state"
    living = Living(cluster, state, settings_for(), seed=0)
    living.read()
    living.rest()
    lane, at = living.held[0].lane, cluster.end[TOPIC, 0]
    lane.turn(GapSkip(TOPIC, 0, lane.positions[TOPIC, 0], at + 70, "retention"))
    living.held[0].read[TOPIC, 0] = cluster.end[TOPIC, 0] = at + 70
    cluster.send(100, seed=4)
    living.read()
    living.close()
    outcome = remade(cluster, Plan(state, 2, [TOPIC]))
    assert outcome.before == outcome.after == sum(map(len, cluster.logs.values()))


def test_a_topic_that_was_made_anew_counts_what_was_read_of_the_first_as_missing(
    cluster: Cluster, tmp_path: Path
) -> None:
    state, n_first = tmp_path / "state", len(cluster.logs[TOPIC, 3])
    living = Living(cluster, state, settings_for(), seed=0)
    living.read()
    living.rest()
    lane = living.held[0].lane
    lane.turn(Rewound(TOPIC, 3, lane.positions[TOPIC, 3], 0, "recreated"))
    cluster.logs[TOPIC, 3], cluster.end[TOPIC, 3], living.held[0].read[TOPIC, 3] = [], 0, 0
    cluster.send(200, seed=4)
    living.read()
    living.close()
    with pytest.raises(StateError, match=f": {n_first} are gone"):
        remade(cluster, Plan(state, 2, [TOPIC]))
    outcome = remade(cluster, Plan(state, 2, [TOPIC], what_is_left=True))
    assert outcome.before - outcome.after == n_first
    assert outcome.positions == {place: log[-1].offset + 1 for place, log in cluster.logs.items()}


def test_a_user_is_forgotten_again_where_the_old_lane_had_read_up_to(
    cluster: Cluster, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    living = Living(cluster, state, settings_for(), seed=0)
    living.read()
    living.rest()
    limits = dict(living.held[0].lane.positions)
    for user in ("u0", "u3"):
        living.held[0].lane.turn(ForgetUser(user))
    cluster.send(150, seed=4)
    for place, log in cluster.logs.items():  # u0 comes again, u3 does not
        cluster.logs[place] = [r for r in log if r.offset < limits[place] or r.key != b"u3"]
    living.read()
    living.close()
    folders = lane_folders(remade(cluster, Plan(state, 4, [TOPIC])).folder)
    known = {user: home_of(user, folders).engine.arena.find(user) >= 0 for user in ("u0", "u3")}
    assert known == {"u0": True, "u3": False}
    for number, folder in folders.items():
        entries = [entry for _, entry in read(folder, {}) if isinstance(entry, CutEntry | ForgetUser)]
        at = [i for i, entry in enumerate(entries) if isinstance(entry, ForgetUser)]
        assert entries[at[0] : at[-1] + 1] == [ForgetUser("u0"), ForgetUser("u3")]
        limit = limits[TOPIC, number]
        before = [r for entry in entries[: at[0]] if isinstance(entry, CutEntry) for r in entry.reads]
        after = [r for entry in entries[at[-1] :] if isinstance(entry, CutEntry) for r in entry.reads]
        assert max(last for _, _, _, last in before) == limit
        assert min(first for _, _, first, _ in after) == limit


def test_partitions_that_were_added_are_left_to_the_daemon(cluster: Cluster, state: Path) -> None:
    for p in (4, 5):
        cluster.logs[TOPIC, p], cluster.first[TOPIC, p], cluster.end[TOPIC, p] = [], 0, 0
    cluster.send(100, seed=2)
    same = remade(cluster, Plan(state, 2, [TOPIC], state.with_name("two")))
    other = remade(cluster, Plan(state, 4, [TOPIC], state.with_name("four")))
    assert (len(same.notes), len(other.notes)) == (0, 1)
    assert {place for place in same.positions if place[1] > 3} == set()
    kept = Layout.from_bytes(kept_lane(same.folder / "lane-0").layout)
    refuse_changes(kept, layout_now(cluster, 2))


@pytest.mark.parametrize(
    ("lanes", "topics", "error", "line"),
    [
        (0, [TOPIC], ConfigError, "--lanes: wanted 1 or more, got 0"),
        (5, [TOPIC], ConfigError, "--lanes: 5 are more than there are partitions"),
        (2, ["views"], ConfigError, "made from other topics; name kafka://clicks"),
    ],
)
def test_what_cannot_be_is_refused(
    cluster: Cluster, state: Path, lanes: int, topics: list[str], error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=line):
        remade(cluster, Plan(state, lanes, topics))
    assert [path.name for path in state.parent.iterdir()] == ["state"]


def test_the_verb_says_what_was_made(
    cluster: Cluster, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamrec.verbs.repartitioning.connect", lambda kafka: FakeClients(cluster))
    with pytest.raises(ConfigError, match="wanted kafka://TOPIC"):
        repartition_state(Plan(state, 2, ["log.csv"]), None, {})
    repartition_state(Plan(state, 2, [f"kafka://{TOPIC}"]), None, {"kafka.bootstrap": None})
    lines = capsys.readouterr().out.splitlines()
    n = sum(map(len, cluster.logs.values()))
    assert lines[2:] == [
        f"records: {n} read before, {n} now, 0 missing",
        f"state: {state}; the old one: {state}.before-2",
    ]
    assert lines[0].endswith(kept_lane(state / "lane-0").learned())
