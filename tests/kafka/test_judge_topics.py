"""The judge and dead letters on a real broker: topics give what files give, and nothing comes twice."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from brokers import Cluster, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "judge"))

from judged import Lines, lines, settings_of, toy_forecasts, verdict

from streamrec.daemon.layout import folder_of
from streamrec.errors import BrokerError
from streamrec.evaluate import cumulative
from streamrec.event import Record
from streamrec.eventlog.base import Reject
from streamrec.eventlog.clients import Message
from streamrec.eventlog.topics import TopicLetters, connect
from streamrec.settings import KafkaSettings
from streamrec.verbs import letters as verb
from streamrec.verbs.opening import kept_lane

pytestmark = pytest.mark.needs("offsets")
PARTITIONS = 2


def kafka_of(broker: Cluster) -> KafkaSettings:
    return KafkaSettings(bootstrap=(broker.bootstrap,))


def send(broker: Cluster, messages: list[Message]) -> None:
    outlet = connect(kafka_of(broker)).outlet()
    outlet.send(messages)
    outlet.flush(30.0)
    outlet.close()


def command(broker: Cluster, *arguments: str) -> subprocess.Popen[bytes]:
    """A verb in a process of its own."""
    environment = os.environ | {"STREAMREC_KAFKA__BOOTSTRAP": json.dumps([broker.bootstrap])}
    words = [sys.executable, "-m", "streamrec", *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def ended(process: subprocess.Popen[bytes]) -> str:
    """What a process said until it ended well."""
    try:
        out, err = process.communicate(timeout=400)  # the first run of all compiles kernels
    finally:
        process.kill()
    assert process.returncode == 0, err.decode()
    return (out + err).decode()


class Logs:
    """The same two logs in memory and in topics."""

    def __init__(self, broker: Cluster, topics: Callable[..., str], folder: Path) -> None:
        self.broker = broker
        self.events, self.forecasts = (
            topics("events", partitions=PARTITIONS),
            topics("forecasts", partitions=3),
        )
        drawn = lines(500, partitions=PARTITIONS)
        self.lines: Lines = {(self.events, partition): held for (_, partition), held in drawn.items()}
        self.issued = toy_forecasts(self.lines, 230)
        self.file = folder / "forecasts.jsonl"
        self.file.write_bytes(b"".join(line + b"\n" for line in self.issued))

    def send(self, begin: float, end: float) -> None:
        """Send this part of both to their topics."""
        for (topic, partition), held in self.lines.items():
            part = held[int(begin * len(held)) : int(end * len(held))]
            send(self.broker, [Message(topic, value, partition=partition) for value in part])
        part = self.issued[int(begin * len(self.issued)) : int(end * len(self.issued))]
        send(self.broker, [Message(self.forecasts, x, json.loads(x)["user"].encode()) for x in part])

    def judge(self, *more: str) -> subprocess.Popen[bytes]:
        """A judge of the topics."""
        names = "--forecasts", f"kafka://{self.forecasts}", "--events", f"kafka://{self.events}"
        return command(self.broker, "judge", *names, *more)


@pytest.fixture
def logs(broker: Cluster, topics: Callable[..., str], tmp_path: Path) -> Logs:
    """Logs with restarts, ties, late and duplicate events, and bad lines; the topics are empty."""
    return Logs(broker, topics, tmp_path)


def straight(logs: Logs) -> Any:
    """What a judge of the logs in memory says."""
    figures = verdict(logs.lines, logs.file, settings_of(), topics=[logs.events])
    return json.loads(json.dumps(figures).replace("NaN", "null"))


def test_topics_give_the_figures_of_files_also_in_several_goes(logs: Logs, tmp_path: Path) -> None:
    for begin, end in ((0.0, 0.4), (0.4, 1.0)):
        logs.send(begin, end)
        ended(logs.judge("--state", str(tmp_path / "state"), "--json", str(tmp_path / "figures.json")))
    assert json.loads((tmp_path / "figures.json").read_text()) == straight(logs)


def test_a_judge_that_follows_and_is_killed_comes_to_the_same_figures(logs: Logs, tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state"))
    for begin, end, sign in (
        (0.0, 0.3, signal.SIGKILL),
        (0.3, 0.7, signal.SIGKILL),
        (0.7, 1.0, signal.SIGTERM),
    ):
        process = logs.judge("--follow", "--metrics-port", "0", *state)
        has_read = partial(has_read_all, address_of(process), int(end * len(logs.issued)))
        logs.send(begin, end)
        wait_until(has_read, 60.0, "the forecasts to be read")
        process.send_signal(sign)
        process.communicate(timeout=60)
        assert process.returncode == (0 if sign == signal.SIGTERM else -signal.SIGKILL)
    ended(logs.judge(*state, "--json", str(tmp_path / "figures.json")))
    assert json.loads((tmp_path / "figures.json").read_text()) == straight(logs)


def address_of(process: subprocess.Popen[bytes]) -> str:
    """Where a judge serves its figures."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(rb"serving (http://\S+)", line):
            return found[1].decode()
    raise AssertionError("it ended before it served")


def has_read_all(address: str, n: int) -> bool:
    """Whether a judge has read n forecasts."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r'^streamrec_judge_forecasts\{kind="read"\} (\S+)', text, re.MULTILINE)
    return found is not None and float(found[1]) >= n


def test_letters_of_a_topic_are_listed_shown_and_sent_back_once(
    broker: Cluster, topics: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events, dead = topics("events", partitions=PARTITIONS), topics("dead", partitions=PARTITIONS)
    kafka = kafka_of(broker)
    records = [
        Record(events, i % PARTITIONS, i, b"bad %d" % i, b"u%d" % i if i % 3 else None, 10**12 + i)
        for i in range(40)
    ]
    outlet = connect(kafka).outlet()
    sink = TopicLetters(outlet, dead, 30.0)
    for record in (*records, *records[30:]):  # written again after a crash
        sink.write(record, Reject("not_json" if record.offset % 4 else "bad_time", "why"))
    sink.sync()
    outlet.close()
    send(broker, [Message(dead, b"no letter")])

    verb.list_letters(f"kafka://{dead}", kafka, as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert {row["reason"]: row["letters"] for row in listed["letters"]} == {"bad_time": 12, "not_json": 38}
    assert listed["strange"] == 1
    verb.show_letter(f"kafka://{dead}", f"{events}:1:7", kafka)
    assert json.loads(capsys.readouterr().out)["value"] == {"text": "bad 7", "bytes": 5}

    for reason, limit in (("bad_time", 4), ("bad_time", None), (None, None), (None, None)):
        state = tmp_path / "notes"
        verb.requeue_letters(f"kafka://{dead}", kafka, None, reason, limit, False, state, None)
    said = capsys.readouterr().out
    counts = re.findall(r"sent (\d+) letters", said)
    assert counts == ["4", "6", "30", "0"]
    back = broker.read(events, len(records) + 1, 5.0)
    key_of = {record.offset: record for record in records}
    assert len(back) == len(records)
    for one in back:
        came_from = int(dict(one.headers)["requeued-from"].rsplit(b":")[-1])
        record = key_of.pop(came_from)
        assert (one.partition, one.key, one.value, one.timestamp) == (
            record.partition, record.key, record.value, record.timestamp_ms
        )  # fmt: skip


def test_letters_go_to_no_topic_that_does_not_exist(broker: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"topic":"no-such-topic","partition":0,"offset":1,"reason":"not_json","value":"ew=="}\n')
    with pytest.raises(BrokerError, match="no-such-topic does not exist"):
        verb.requeue_letters(str(path), kafka_of(broker), None, None, None, False, None, None)
    assert not Path(f"{path}.requeued").exists()


def test_the_daemons_own_scores_are_the_judges(
    broker: Cluster, topics: Callable[..., str], tmp_path: Path
) -> None:
    events, forecasts = topics("events"), topics("forecasts")
    send(broker, [Message(events, line, b"k") for line in lines(400, 3)["log", 0]])
    (tmp_path / "tiny.toml").write_text('[models]\nenabled = ["gamma_poisson", "context_1"]\n')
    state, tiny = tmp_path / "state", ("-c", str(tmp_path / "tiny.toml"))
    sink = ("--state", str(state), "--sink", f"kafka:{forecasts}", "--until-end")
    ended(command(broker, "run", f"kafka://{events}", *tiny, *sink))
    names = ("--forecasts", f"kafka://{forecasts}", "--events", f"kafka://{events}")
    ended(command(broker, "judge", *names, *tiny, "--json", str(tmp_path / "figures.json")))
    figures = json.loads((tmp_path / "figures.json").read_text())
    theirs = cumulative(kept_lane(folder_of(state, 0, 1)).engine)["mixture"]
    assert figures["mark_issued"]["events"] == theirs["mark_issued"]["events"] > 100
    assert figures["mark_issued"]["nll"] == pytest.approx(theirs["mark_issued"]["nll"], rel=1e-9)
    assert figures["time"]["events"] == theirs["time"]["events"]
    density = theirs["time"]["log_density_issued"]
    assert figures["time"]["log_density_issued"] == pytest.approx(density, rel=1e-9)
