"""Producers against a real broker: every line once, in order per user, however often they are killed."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from brokers import Cluster

from streamrec.errors import ConfigError, FencedError, UnavailableError
from streamrec.eventlog.clients import Commit, Message
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import open_files
from streamrec.eventlog.topic_admin import dangers, ensure_topic
from streamrec.eventlog.topics import connect
from streamrec.produce.logfeed import LogFeed
from streamrec.produce.pace import Pacer, SystemClock
from streamrec.produce.sending import BatchLimits, Sending
from streamrec.produce.shipping import Shipper
from streamrec.settings import KafkaSettings

pytestmark = pytest.mark.needs("transactions")
PARTITIONS = 3


def write_log(path: Path, lines: int) -> list[bytes]:
    """A log of JSON lines with a bad one now and then; its lines."""
    rng = random.Random(7)
    out = []
    for i in range(lines):
        good = json.dumps({"user": f"u{rng.randrange(50)}", "mark": f"m{i % 7}", "time": 1.5e9 + i, "n": i})
        out.append(b"not an event %d" % i if i % 97 == 96 else good.encode())
    path.write_bytes(b"\n".join(out) + b"\n")
    return out


CLIENTS = ["kafka-python"] + ["confluent"] * (importlib.util.find_spec("confluent_kafka") is not None)


def command(broker: Cluster, *arguments: str, client: str = "kafka-python") -> subprocess.Popen[bytes]:
    """A verb in a process of its own."""
    environment = os.environ | {
        "STREAMREC_KAFKA__BOOTSTRAP": json.dumps([broker.bootstrap]),
        "STREAMREC_KAFKA__CLIENT": client,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "streamrec", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def ended(process: subprocess.Popen[bytes]) -> str:
    """What a process said until it ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    return (out + err).decode()


def committed(broker: Cluster, topic: str, lines: int, partitions: int = PARTITIONS) -> list:
    """All records that a reader of committed ones sees; a last one in each partition shows that it is all."""
    for partition in range(partitions):
        broker.send(topic, [b"the end"], partition=partition)
    found = broker.read(topic, lines + partitions, 30.0, isolation_level="read_committed")
    return [record for record in found if record.value != b"the end"]


def assert_each_line_once_in_order(records: list, lines: list[bytes]) -> None:
    numbers: dict[int, list[int]] = {}
    for record in records:
        number = int(dict(record.headers)["source-line"])
        assert record.value == lines[number - 1]
        numbers.setdefault(record.partition, []).append(number)
    assert sorted(number for part in numbers.values() for number in part) == list(range(1, len(lines) + 1))
    assert all(part == sorted(part) for part in numbers.values())


def settings_for(broker: Cluster, name: str, client: str = "kafka-python") -> KafkaSettings:
    given = {"bootstrap": [broker.bootstrap], "group": name, "client": client, "request_timeout_s": 10.0}
    return KafkaSettings.model_validate(given)


def test_a_replay_that_is_killed_at_random_moments_sends_each_line_once(
    broker: Cluster, topics, tmp_path: Path
) -> None:
    topic, log = topics("replay", PARTITIONS), tmp_path / "log.jsonl"
    lines = write_log(log, 12_000)
    arguments = ("replay", str(log), "--to", f"kafka://{topic}", "--rate", "6000")
    rng, kills = random.Random(11), 0
    while kills < 6:
        process = command(broker, *arguments, client=CLIENTS[kills % len(CLIENTS)])
        time.sleep(rng.uniform(1.0, 2.0))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
    assert kills >= 1
    ended(command(broker, *arguments[:-2]))
    assert "0 messages sent; 12,000 lines in all" in ended(command(broker, *arguments))
    records = committed(broker, topic, len(lines))
    assert_each_line_once_in_order(records, lines)
    good = [record for record in records if record.key is not None]
    assert all(record.timestamp == json.loads(record.value)["time"] * 1000 for record in good)
    assert all(record.key.decode() == json.loads(record.value)["user"] for record in good)


class Dies(BaseException):
    """The process would be dead here."""


class Struck:
    """A real transactor; the n-th call of one of its methods is the last, or its answer is lost."""

    def __init__(self, transactor, method: str, n: int, after: bool, error: type[BaseException]) -> None:
        self._transactor, self._method, self._after, self._error = transactor, method, after, error
        self.left = n

    def __getattr__(self, name: str):
        call = getattr(self._transactor, name)
        return call if name != self._method else lambda *arguments: self._strike(call, arguments)

    def _strike(self, call, arguments):
        self.left -= 1
        if self.left == 0 and not self._after:
            raise self._error("before")
        call(*arguments)
        if self.left == 0:
            raise self._error("after")


STEPS = [("recover", 1, False), ("recover", 1, True)] + [
    (method, n, after)
    for method, after in [("begin", True), ("send", True), ("commit", False), ("commit", True)]
    for n in (1, 2, 5)
]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("error", [Dies, UnavailableError])
def test_deaths_and_lost_answers_at_every_step_one_after_the_other_lose_and_double_nothing(
    broker: Cluster, topics, tmp_path: Path, error: type[BaseException], client: str
) -> None:
    topic, log = topics("steps", PARTITIONS), tmp_path / "log.jsonl"
    lines = write_log(log, 3000)
    clients, clock = connect(settings_for(broker, topic, client)), SystemClock()
    left_open = []

    def run(transactor, batches: int) -> None:
        """Send some batches; what it used is left open, as of a process that is not quite dead."""
        member, seen = clients.member(), []
        left_open.append(transactor)
        shipper = Shipper(transactor, member, topic, clock)
        feed = LogFeed(open_files([str(log)], FieldNames()), topic, PARTITIONS)
        more = {"limits": BatchLimits(lines=20), "stopped": lambda: len(seen) > batches, "seen": seen.append}
        try:
            Sending(feed, shipper, Pacer(clock), clock, **more).run()
        except Dies:
            pass
        finally:
            member.close()

    for method, n, after in STEPS:
        struck = Struck(clients.transactor(topic), method, n, after, error)
        run(struck, batches=6)
        assert struck.left <= 0, f"{method} {n}: did not strike"
    run(clients.transactor(topic), batches=1000)
    assert_each_line_once_in_order(committed(broker, topic, len(lines)), lines)
    for transactor in left_open:
        transactor.close(0.0)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_process_that_was_taken_for_dead_can_end_nothing_any_more(
    broker: Cluster, topics, client: str
) -> None:
    topic = topics("zombie", 1)
    clients = connect(settings_for(broker, topic, client))
    message = Message(topic, b"from the dead", b"u")
    zombie, other, member = clients.transactor(topic), clients.transactor(topic), clients.member()
    zombie.recover()
    zombie.begin()
    zombie.send([message])
    zombie.flush(10.0)
    other.recover()
    with pytest.raises(FencedError):
        zombie.commit({(topic, 0): Commit(1, "")}, member)
    assert committed(broker, topic, 0, 1) == []
    assert member.committed([(topic, 0)]) == {}
    for one in (zombie, other, member):
        one.close()


def test_sigterm_ends_a_replay_cleanly_and_the_next_one_goes_on(
    broker: Cluster, topics, tmp_path: Path
) -> None:
    topic, log = topics("term", PARTITIONS), tmp_path / "log.jsonl"
    lines = write_log(log, 3000)
    arguments = ("replay", str(log), "--to", f"kafka://{topic}", "--id", f"{topic}-a", "--speed", "500")
    process = command(broker, *arguments)
    assert broker.read(topic, 1, 30.0, isolation_level="read_committed")
    process.send_signal(signal.SIGTERM)
    said = ended(process)
    assert "run the same command again to go on" in said
    assert "lines had been sent before" in ended(command(broker, *arguments[:-2]))
    assert_each_line_once_in_order(committed(broker, topic, len(lines)), lines)


def test_a_simulated_stream_arrives_with_what_was_planted(broker: Cluster, tmp_path: Path) -> None:
    topic = f"simulated-{os.getpid()}-{time.monotonic_ns()}"
    recipe = ("simulate", "poisson", "--events", "3000", "--users", "40", "--seed", "5")
    faults = ("--poison", "0.05", "--duplicates", "0.02", "--late", "0.03", "--lateness", "600")
    try:
        said = ended(
            command(broker, *recipe, *faults, "--to", f"kafka://{topic}", "--partitions", "2", "--json")
        )
        planted = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
        records = committed(broker, topic, planted["lines"], 2)
        assert len(records) == planted["lines"] == 3000 + 150 + 60
        labels = [dict(record.headers)["planted"].decode() for record in records]
        counts = {name: labels.count(name) for name in ("ok", "late", "duplicate")}
        assert counts == {name: planted["planted"][name] for name in counts}
        assert sum(record.value is None for record in records) == planted["reasons"].get("tombstone", 0)
    finally:
        broker.drop([topic])


def test_a_topic_is_made_to_keep_old_stamps_and_a_dangerous_one_is_said(broker: Cluster, topics) -> None:
    kafka = settings_for(broker, "admin")
    name = f"made-{os.getpid()}-{time.monotonic_ns()}"
    try:
        made = ensure_topic(kafka, name, 4)
        assert (made.partitions, made.created, made.configs["retention.ms"]) == (4, True, "-1")
        assert dangers(name, made) == []
        assert not ensure_topic(kafka, name, None).created
        with pytest.raises(ConfigError, match="has 4 partitions, not 2"):
            ensure_topic(kafka, name, 2)
    finally:
        broker.drop([name])
    old = topics("old", 1, {"retention.ms": 3_600_000, "cleanup.policy": "compact,delete"})
    said = "\n".join(dangers(old, ensure_topic(kafka, old, None)))
    assert "retention.ms=3600000 deletes records 1 h after their stamps" in said
    assert "keeps one record per user" in said
