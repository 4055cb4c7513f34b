"""Streams with planted faults on a stage, and what the daemons say of themselves.

plant(stage, stream)      its lines to the topic; a line that has to be learned goes into the stage's log
bins(stage)               the bins of the newest checkpoint
wanted(stage, labels)     what they have to be
letters(stage)            (partition, offset) and reason of every dead letter
Page(port)                a daemon's HTTP port: metrics, probes, forecasts
"""

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from brokers import Cluster
from kafka import KafkaProducer
from prometheus_client.parser import text_string_to_metric_families
from stage import Stage, ends

from streamrec.eventlog.clients import Message
from streamrec.eventlog.letters import Letter, letter_of_message
from streamrec.eventlog.poison import KINDS
from streamrec.eventlog.reasons import SKIPPED
from streamrec.produce.faults import Stream
from streamrec.produce.streamfeed import StreamFeed
from streamrec.simulate import Poisson, Simulation, simulate
from streamrec.verbs.opening import kept_lane

T0 = 1.7e9
Labels = dict[int, list[str]]
"""By partition: ok, late, duplicate or the kind of poison of every record."""

Stages = Callable[[int], Stage]
"""The fixture `stages`: of so many partitions."""


def simulation(events: int, users: int = 60, seed: int = 3) -> Simulation:
    """A Poisson stream of our century."""
    made = simulate(Poisson(rate=1 / 3600, marks=11), events, users, seed, entry_s=7200.0)
    return replace(made, time=made.time + T0)


def plant(stage: Stage, stream: Stream) -> Labels:
    """Send all lines of a stream; what each is."""
    labels: Labels = {partition: [] for partition in range(stage.partitions)}
    messages = [line.message for line in StreamFeed(stream, stage.topic, stage.partitions).lines(1 << 40, 1)]
    send(stage.cluster, [message for message in messages if message is not None])
    for line, message in enumerate(messages):
        assert message is not None and message.partition is not None
        label = stream.label(line)
        stage.log[message.partition].append(stream.event(line) if label == "ok" else None)
        labels[message.partition].append(label)
    return labels


def send(cluster: Cluster, messages: Iterable[Message]) -> None:
    """Send messages as they are, and wait until all are there."""
    producer = KafkaProducer(bootstrap_servers=cluster.bootstrap, linger_ms=5)
    sent = [
        producer.send(m.topic, m.value, m.key, list(m.headers), m.partition, m.timestamp_ms or None)
        for m in messages
    ]
    producer.flush()
    producer.close()
    for answer in sent:
        answer.get()


def bins(stage: Stage, state: Path | None = None) -> Counter[str]:
    """How many records ended in which bin, as the newest checkpoint says; those that are held will be ok."""
    cutter = kept_lane(state or stage.state).cutter
    return +Counter({**cutter.bins.counts._asdict(), "ok": cutter.bins.counts.ok + cutter.order.n_held})


def wanted(stage: Stage, labels: Labels) -> Counter[str]:
    """The bins that the records before the newest checkpoint have to give."""
    return Counter(KINDS[label].bin if label in KINDS else label for label in _read(stage, labels))


def reasons(stage: Stage, labels: Labels) -> Counter[str]:
    """The dead letters that they have to give, by reason."""
    bad = (KINDS[label].reason for label in _read(stage, labels) if label in KINDS)
    return Counter(reason for reason in bad if reason not in SKIPPED)


def _read(stage: Stage, labels: Labels) -> list[str]:
    return [label for partition, at in stage.kept().items() for label in labels[partition][:at]]


def letters(stage: Stage) -> dict[tuple[int, int], Letter]:
    """Dead letters by the partition and offset of their record; one that came twice is the same letter."""
    n = sum(ends(stage.cluster, stage.letters).values())
    records = stage.cluster.read(stage.letters, n, 10.0)
    assert len(records) == n
    found: dict[tuple[int, int], Letter] = {}
    for record in records:
        letter = letter_of_message(record.value, record.key, record.headers)
        assert letter is not None and letter.topic == stage.topic
        assert found.setdefault((letter.partition, letter.offset), letter) == letter
    return found


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Page:
    """What a daemon serves.

    Parameters
    ----------
    port : of 127.0.0.1
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; (0, b"") while nobody listens."""
        try:
            with urlopen(self.url + path, timeout=20) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def by(self, name: str, label: str, **those: str) -> dict[str, float]:
        """Sums of a metric's samples by the value of a label; `those` with these values of other labels."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1].decode()):
            for sample in family.samples:
                if sample.name == f"streamrec_{name}" and those.items() <= sample.labels.items():
                    of = sample.labels[label]
                    found[of] = found.get(of, 0.0) + sample.value
        return found

    def total(self, name: str, label: str = "lane", value: str = "") -> float:
        """Sum of a metric's samples, of those that have this value of a label if one is given."""
        found = self.by(name, label)
        return found.get(value, 0.0) if value else sum(found.values())


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(_status(pid)["VmRSS"].split()[0]) / 1024


def threads(pid: int) -> int:
    """Threads of a process."""
    return int(_status(pid)["Threads"])


def files(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _status(pid: int) -> Mapping[str, Any]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}
