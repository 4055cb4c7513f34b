"""States of topics, replayed from topic and journal: equal bits, or one line that says why not."""

import json
import threading
from pathlib import Path

import pytest
from fake_topics import TINY, TOPIC, Cluster, FakeClients, FakeReader, Living

from streamrec.entries import GapSkip, Rewound
from streamrec.errors import BrokerError, ConfigError, StateError
from streamrec.settings import Settings, load_settings
from streamrec.state.digest import global_digest
from streamrec.state.reading import read_lane
from streamrec.verbs.keeping import forecast, inspect, verify
from streamrec.verbs.opening import kept_lane, lane_of_checkpoint

AGAINST = [f"kafka://{TOPIC}"]


def settings_for(lanes: int = 1, lateness_s: float = 0.0) -> Settings:
    sizes = {"cut.live_min_events": 16, "cut.live_max_events": 48, "checkpoint.every_events": 10**9}
    flags = {**TINY, **sizes, "kafka.lanes": lanes, "order.lateness_s": lateness_s}
    return load_settings(None, flags, {})


def learned(cluster: Cluster, state: Path, lanes: int = 1, seed: int = 0, lateness_s: float = 0.0) -> Living:
    living = Living(cluster, state, settings_for(lanes, lateness_s), seed)
    living.read()
    return living


def replayed(state: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    verify(state, AGAINST, None, {})
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster that the verbs reach, whatever they are told of brokers."""
    cluster = Cluster(4)
    cluster.send(1200, seed=1)
    for verb in ("keeping", "opening"):
        monkeypatch.setattr(f"streamrec.verbs.{verb}.connect", lambda settings: FakeClients(cluster))
    return cluster


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("lateness_s", [0.0, 30.0])
def test_a_state_of_topics_is_equal_to_its_replay(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], lanes: int, lateness_s: float
) -> None:
    learned(cluster, tmp_path / "state", lanes, lateness_s=lateness_s).close()
    cluster.send(300, seed=2)  # a log that goes on does not matter
    lines = replayed(tmp_path / "state", capsys)
    assert lines[-1] == "equal"
    assert sum(line.startswith("lane-") for line in lines) == (0 if lanes == 1 else 3 * lanes)


def test_a_state_that_was_closed_and_opened_is_equal_to_its_replay(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (5, 6, 7):
        learned(cluster, tmp_path, seed=seed).close()
        cluster.send(200, seed=seed)
    assert replayed(tmp_path, capsys)[-1] == "equal"


def test_a_state_is_verified_while_it_is_learned_into(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    living = learned(cluster, tmp_path)
    living.keep()
    n_kept = living.held[0].lane.n_events
    cluster.send(400, seed=9)
    living.read()  # journalled, not in a checkpoint yet
    assert replayed(tmp_path, capsys)[-1] == "equal"
    assert f"{n_kept} events" in replayed(tmp_path, capsys)[0]
    living.close()
    assert replayed(tmp_path, capsys)[-1] == "equal"
    assert f"{n_kept} events" not in replayed(tmp_path, capsys)[0]


def test_every_checkpoint_is_equal_to_its_replay_while_a_thread_goes_on_learning(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    living, enough = learned(cluster, tmp_path), threading.Event()
    living.rest()
    living.keep()

    def go_on() -> None:
        for seed in range(100, 400):
            cluster.send(30, seed)
            living.read()
            living.rest()
            living.keep()
            if enough.is_set():
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    seen = []
    for _ in range(4):
        lines = replayed(tmp_path, capsys)
        assert lines[-1] == "equal"
        seen.append(int(lines[0].split()[-2]))
    was_learning = thread.is_alive()
    enough.set()
    thread.join()
    living.close()
    assert was_learning
    assert seen == sorted(set(seen))
    assert replayed(tmp_path, capsys)[-1] == "equal"


def test_what_a_stalled_owner_writes_after_another_opened_is_not_replayed(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stalled = learned(cluster, tmp_path)
    stalled.keep()
    learned(cluster, tmp_path, seed=4).close()
    cluster.send(100, seed=3)
    journal = stalled.held[0].lane.journal
    assert journal is not None
    journal.append(GapSkip(TOPIC, 0, 0, 5, "never"))
    assert replayed(tmp_path, capsys)[-1] == "equal"
    stalled.held[0].lane.abandon()


def test_another_topic_is_noticed_by_its_bits(cluster: Cluster, tmp_path: Path) -> None:
    learned(cluster, tmp_path).close()
    at = next(i for i, record in enumerate(cluster.logs[TOPIC, 0]) if b"m1" in (record.value or b""))
    record = cluster.logs[TOPIC, 0][at]
    cluster.logs[TOPIC, 0][at] = record._replace(value=(record.value or b"").replace(b"m1", b"m2"))
    with pytest.raises(StateError, match="do not give this state"):
        verify(tmp_path, AGAINST, None, {})


def test_a_topic_made_anew_is_not_compared(cluster: Cluster, tmp_path: Path) -> None:
    learned(cluster, tmp_path).close()
    cluster.id = "second"
    with pytest.raises(
        StateError, match=r"made anew since it was read \(its id was first, now it is second\)"
    ):
        verify(tmp_path, AGAINST, None, {})


@pytest.mark.parametrize(("cause", "what"), [("recreated", "was made anew"), ("truncated", "lost its end")])
def test_a_log_that_was_rewound_is_not_comparable(
    cluster: Cluster, tmp_path: Path, cause: str, what: str
) -> None:
    living = learned(cluster, tmp_path)
    at = living.held[0].lane.positions[TOPIC, 0]
    living.held[0].lane.turn(Rewound(TOPIC, 0, at, 0, cause))
    living.keep()
    living.held[0].lane.abandon()
    with pytest.raises(
        StateError, match=f"not comparable since epoch 1 .* {what} after its records below {at}"
    ):
        verify(tmp_path, AGAINST, None, {})


def test_records_that_retention_took_are_named(cluster: Cluster, tmp_path: Path) -> None:
    learned(cluster, tmp_path).close()
    cluster.trim((TOPIC, 1), 40)
    with pytest.raises(StateError, match=r"clicks\[1\]: offsets 0 to \d+ were read, the topic holds 40 to"):
        verify(tmp_path, AGAINST, None, {})


def test_a_record_that_compaction_took_is_noticed(cluster: Cluster, tmp_path: Path) -> None:
    living = learned(cluster, tmp_path)
    living.close()
    place, end = max(living.held[0].lane.positions.items())
    cluster.lose(place, end - 1)
    with pytest.raises(StateError, match=r"not all of them are there"):
        verify(tmp_path, AGAINST, None, {})


def test_a_gap_that_was_skipped_is_replayed(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    living = learned(cluster, tmp_path)
    lane, place = living.held[0].lane, (TOPIC, 2)
    end = lane.positions[place]
    lane.turn(GapSkip(TOPIC, 2, end, end + 50, "retention"))
    cluster.end[place] += 50
    living.held[0].read[place] = end + 50
    cluster.send(200, seed=8)
    living.read()
    living.close()
    assert replayed(tmp_path, capsys)[-1] == "equal"


@pytest.mark.parametrize(
    ("against", "error", "line"),
    [
        (["kafka://views"], ConfigError, "made from other topics; name kafka://clicks"),
        (["kafka://clicks", "log.csv"], ConfigError, "topics and files cannot be read in one run"),
        (["log.csv"], ConfigError, "made from topics; name them: kafka://clicks"),
    ],
)
def test_the_wrong_log_is_refused_with_the_right_one(
    cluster: Cluster,
    tmp_path: Path,
    against: list[str],
    error: type[Exception],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("user,mark,time\nu1,m1,5\n")
    living = learned(cluster, tmp_path / "state")
    living.close()
    with pytest.raises(error, match=line):
        verify(tmp_path / "state", against, None, {})


def test_settings_that_shaped_the_state_cannot_be_others(cluster: Cluster, tmp_path: Path) -> None:
    learned(cluster, tmp_path / "state").close()
    (tmp_path / "other.toml").write_text("[order]\nlateness_s = 5.0\n[models]\nseed = 3\n")
    verify(tmp_path / "state", AGAINST, tmp_path / "other.toml", {})  # those of the state go first
    with pytest.raises(StateError, match=r"order\.lateness_s: stored 0\.0, now 7\.0"):
        verify(tmp_path / "state", AGAINST, None, {"order.lateness_s": 7.0})


def test_inspect_tells_of_all_lanes_and_their_layout(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    living = learned(cluster, tmp_path, lanes=2)
    living.close()
    capsys.readouterr()
    inspect(tmp_path)
    told = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    digests = {n: kept_lane(tmp_path / f"lane-{n}").learned() for n in (0, 1)}
    assert told["digest"] == global_digest(digests)
    assert {n: told[f"lane-{n}.digest"] for n in (0, 1)} == digests
    assert int(told["events"]) == sum(held.lane.n_events for held in living.held.values())
    assert told["lane-1.lanes"] == "2"
    assert json.loads(told["lane-1.topics"].replace("'", '"')) == {TOPIC: ["first", 4]}
    inspect(tmp_path / "lane-1")
    assert capsys.readouterr().out.splitlines()[0] == f"digest {digests[1]}"


def test_a_user_is_found_in_whichever_lane_knows_it(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned(cluster, tmp_path, lanes=2).close()
    users = {n: kept_lane(tmp_path / f"lane-{n}").engine.arena.names_in_order()[0] for n in (0, 1)}
    for number, names in users.items():
        capsys.readouterr()
        forecast(tmp_path, names[0], None)
        answer = json.loads(capsys.readouterr().out)
        assert answer["user"] == names[0]
        lane = lane_of_checkpoint(*read_lane(tmp_path / f"lane-{number}"), number)
        assert answer == json.loads(lane.forecast(names[0]).to_json())
    with pytest.raises(ConfigError, match="never seen"):
        forecast(tmp_path, "nobody", None)


def test_two_kinds_of_state_in_one_folder_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    learned(cluster, tmp_path, lanes=2).close()
    learned(cluster, tmp_path, lanes=1).close()
    with pytest.raises(StateError, match="holds a state of one lane and lane-0, lane-1"):
        inspect(tmp_path)


def test_an_unknown_topic_is_an_error_of_the_broker(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="topic views does not exist"):
        FakeReader(cluster).places(["views"])
