"""kcat, which shares no line with our clients, writes and reads our topics."""

import json
import shutil
import subprocess

import pytest
from brokers import Cluster, Topics

pytestmark = pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")


def kcat(broker: Cluster, topic: str, *words: str, stdin: str = "") -> str:
    """What kcat prints."""
    command = ["kcat", "-b", broker.bootstrap, "-t", topic, *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30, check=True).stdout


def test_what_kcat_writes_we_read_with_key_and_headers(broker: Cluster, topics: Topics) -> None:
    topic = topics()
    kcat(broker, topic, "-P", "-K", "\t", "-H", "source=kcat", stdin="u1\tfirst\nu2\tsecond\n")
    records = broker.read(topic, 2)
    assert [(r.key, r.value) for r in records] == [(b"u1", b"first"), (b"u2", b"second")]
    assert [list(r.headers) for r in records] == [[("source", b"kcat")]] * 2
    assert all(r.timestamp > 1_700_000_000_000 for r in records)


def test_what_we_write_kcat_reads_with_key_time_and_headers(broker: Cluster, topics: Topics) -> None:
    topic = topics()
    broker.send(topic, [b"v"], key=b"u1", timestamp_ms=1_199_145_600_123, headers=[("reason", b"bad_json")])
    (line,) = kcat(broker, topic, "-C", "-e", "-J", "-q", "-o", "beginning").splitlines()
    told = json.loads(line)
    assert (told["key"], told["payload"], told["ts"]) == ("u1", "v", 1_199_145_600_123)
    assert told["headers"] == ["reason", "bad_json"]
    assert (told["partition"], told["offset"]) == (0, 0)
