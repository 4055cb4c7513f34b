"""States that a daemon made of a real topic: verified, made anew for other lanes, gone on with."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import Cluster
from kafka import KafkaProducer
from typer.testing import CliRunner

from streamrec.cli import app
from streamrec.errors import BrokerError, StateError, UnavailableError
from streamrec.event import Event
from streamrec.eventlog.memory import encode_event
from streamrec.repartition import Plan
from streamrec.verbs.consuming import consume
from streamrec.verbs.keeping import verify
from streamrec.verbs.making import validate
from streamrec.verbs.opening import kept_lane
from streamrec.verbs.repartitioning import repartition_state
from streamrec.verbs.scoring import evaluate_files

pytestmark = pytest.mark.needs("transactions", "offsets", "admin")
PARTITIONS = 4
Topics = Callable[..., str]


def flags_for(broker: Cluster, topic: str, **more: Any) -> dict[str, Any]:
    """Settings of a tiny bank, a group of the topic's own, short times."""
    return {
        "models.enabled": ["gamma_poisson", "context_1"],
        "kafka.bootstrap": [broker.bootstrap],
        "kafka.group": topic,
        "kafka.session_timeout_s": 6.0,
        "kafka.heartbeat_s": 1.0,
        "checkpoint.every_s": 0.5,
        "cut.idle_tick_s": 0.3,
        **{name.replace("__", "."): value for name, value in more.items()},
    }


def events(n: int, seed: int, start: float = 1.7e9) -> list[Event]:
    """Users who come again and again, in order of time."""
    draw = random.Random(seed)
    return [
        Event(f"u{draw.randrange(30)}", f"m{draw.randrange(7)}", start + 10.0 * i + draw.randrange(3))
        for i in range(n)
    ]


def send(broker: Cluster, topic: str, sent: list[Event], plain: bool = False) -> None:
    """To the topic, by user; half of it in transactions, whose markers take offsets, unless it is `plain`."""
    half = len(sent) // (1 if plain else 2)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for event in sent[:half]:
        producer.send(topic, encode_event(event), key=event.user.encode())
    producer.close()
    if plain:
        return
    within = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=topic)
    within.init_transactions()
    for begin in range(half, len(sent), 50):
        within.begin_transaction()
        for event in sent[begin : begin + 50]:
            within.send(topic, encode_event(event), key=event.user.encode())
        within.commit_transaction()
    within.close()


def learn(broker: Cluster, topic: str, state: Path, **more: Any) -> None:
    """Run the daemon up to the end of the topic."""
    flags = flags_for(broker, topic, **more)
    consume([f"kafka://{topic}"], None, flags, state, "none", None, until_end=True)


def n_events(state: Path, lanes: int) -> list[int]:
    """Accepted events by lane."""
    return [kept_lane(state if lanes == 1 else state / f"lane-{n}").n_events for n in range(lanes)]


def test_a_state_is_made_anew_for_two_lanes_and_gone_on_with(
    broker: Cluster, topics: Topics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, state = topics("clicks", PARTITIONS), tmp_path / "state"
    against = [f"kafka://{topic}"]
    flags = {"kafka.bootstrap": [broker.bootstrap]}
    send(broker, topic, events(400, seed=1))
    learn(broker, topic, state)
    verify(state, against, None, flags)
    assert n_events(state, 1) == [400]
    repartition_state(Plan(state, 2, tuple(against)), None, flags)
    assert "records: 400 read before, 400 now, 0 missing" in capsys.readouterr().out
    assert sum(n_events(state, 2)) == 400
    verify(state, against, None, flags)
    send(broker, topic, events(300, seed=2, start=1.8e9))
    learn(broker, topic, state, kafka__lanes=2)
    assert sum(n_events(state, 2)) == 700
    verify(state, against, None, flags)
    assert capsys.readouterr().out.splitlines()[-1] == "equal"
    positions = {place: at for n in (0, 1) for place, at in kept_lane(state / f"lane-{n}").positions.items()}
    assert len(positions) == PARTITIONS
    assert sum(positions.values()) > 700  # markers went by, too


def test_a_state_whose_forecasts_are_in_transactions_is_verified(
    broker: Cluster, topics: Topics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, out, state = topics("clicks", 2), topics("forecasts"), tmp_path / "state"
    send(broker, topic, events(300, seed=3))
    flags = flags_for(broker, topic, kafka__transactions=True)
    consume([f"kafka://{topic}"], None, flags, state, f"kafka:{out}", None, until_end=True)
    verify(state, [f"kafka://{topic}"], None, {"kafka.bootstrap": [broker.bootstrap]})
    assert capsys.readouterr().out.splitlines()[-1] == "equal"


def test_a_topic_that_was_deleted_and_made_again_is_not_compared(
    broker: Cluster, topics: Topics, tmp_path: Path
) -> None:
    topic, state = topics("clicks"), tmp_path / "state"
    send(broker, topic, events(60, seed=4))
    learn(broker, topic, state)
    broker.drop([topic])
    admin = broker.admin()
    while topic in admin.list_topics():
        pass
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    admin.close()
    with pytest.raises(StateError, match="made anew since it was read"):
        verify(state, [f"kafka://{topic}"], None, {"kafka.bootstrap": [broker.bootstrap]})


def test_a_topic_is_evaluated_and_validated_as_its_file_is(
    broker: Cluster, topics: Topics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, log, sent = topics("clicks"), tmp_path / "log.jsonl", events(300, seed=5)
    send(broker, topic, sent, plain=True)
    log.write_bytes(b"".join(encode_event(event) + b"\n" for event in sent))
    flags, figures = flags_for(broker, topic), {}
    for name, source in (("file", str(log)), ("topic", f"kafka://{topic}")):
        out = tmp_path / f"{name}.json"
        evaluate_files([source], None, flags, 0.0, None, out, None)
        figures[name] = json.loads(out.read_text())
    timed = {"input", "seconds", "events_per_second", "cpu_seconds", "peak_rss_mb"}
    shown = {name: {k: v for k, v in f.items() if k not in timed} for name, f in figures.items()}
    assert shown["topic"] == shown["file"]
    capsys.readouterr()
    validate([f"kafka://{topic}"], None, flags, False)
    assert "records looked at: 300 (ok 300)" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["evaluate", "validate"])
def test_a_topic_or_broker_that_is_not_there_ends_in_one_line_and_exit_code_3(
    broker: Cluster, verb: str
) -> None:
    done = CliRunner().invoke(app, [verb, "kafka://nowhere", "--bootstrap", broker.bootstrap])
    assert isinstance(done.exception, BrokerError)
    assert done.exception.exit_code == 3
    assert "topic nowhere does not exist" in str(done.exception)


def test_a_broker_that_does_not_answer_is_unavailable() -> None:
    flags = {"kafka.bootstrap": ["127.0.0.1:1"], "kafka.request_timeout_s": 1.0}
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        validate(["kafka://clicks"], None, flags, False)


def test_users_are_in_one_lane_each(broker: Cluster, topics: Topics, tmp_path: Path) -> None:
    topic, state = topics("clicks", PARTITIONS), tmp_path / "state"
    send(broker, topic, events(300, seed=6))
    learn(broker, topic, state)
    whole = kept_lane(state).engine.arena.names_in_order()[0]
    repartition_state(Plan(state, 4, (f"kafka://{topic}",)), None, {"kafka.bootstrap": [broker.bootstrap]})
    lanes = [kept_lane(state / f"lane-{n}").engine.arena.names_in_order()[0] for n in range(4)]
    found = Counter(user for names in lanes for user in names)
    assert set(found.values()) == {1}
    assert set(found) <= set(whole)
