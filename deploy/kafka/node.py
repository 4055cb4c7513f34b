"""One Apache Kafka node on this machine: one directory, one process, no Docker.

    <data>/ server.properties  node.json (pid, port)  server.log  console.log  records/

    python deploy/kafka/node.py start --port 9092 --data runs/kafka
    python deploy/kafka/node.py stop --data runs/kafka

A single node is controller and broker at once (KRaft). All listeners are on 127.0.0.1:

    DIRECT      clients, and the node when it talks to itself (transaction markers)
    PROXIED     bound to one port, advertised as another one: clients are sent to a proxy in front
    SASL        user and password (SASL_PLAINTEXT, mechanism PLAIN)
    CONTROLLER  the controller

Standard library only, Python 3.11 or newer; the jars come from `jars.py`.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jars import NodeError, kafka_version, new_id, resolve

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
METADATA, METADATA_VERSION = 3, 4  # the request that says whether a broker is up
KEEP = {"log.retention.ms": "-1"}  # Kafka deletes by record time: a log of 2008 would be gone at once
SINGLE = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "DIRECT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "2",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.index.size.max.bytes": "1048576",
}


class Proxied(NamedTuple):
    """A listener whose clients are sent elsewhere: the port it is bound to, and the port it names."""

    port: int
    advertised: int


@dataclass(frozen=True)
class Plan:
    """What is to run where.

    Parameters
    ----------
    data : directory of the node; made if absent, gone on with if it holds a node's records
    port, controller_port : listeners DIRECT and CONTROLLER on 127.0.0.1
    proxied : listener PROXIED, or none
    sasl_port, users : listener SASL and its passwords by user; 0 for none
    settings : broker settings, over those of this file
    heap_mb : largest heap of the JVM, MiB
    jvm : further options of the JVM
    """

    data: Path
    port: int
    controller_port: int
    proxied: Proxied | None = None
    sasl_port: int = 0
    users: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    heap_mb: int = 384
    jvm: Sequence[str] = ()


def properties_of(plan: Plan) -> dict[str, str]:
    """All settings of the broker.

    Examples
    --------
    >>> properties_of(Plan(Path("d"), 9092, 9093))["advertised.listeners"]
    'DIRECT://127.0.0.1:9092'
    """
    bound = {"DIRECT": plan.port, "CONTROLLER": plan.controller_port}
    told = {"DIRECT": plan.port}
    if plan.proxied:
        bound["PROXIED"], told["PROXIED"] = plan.proxied
    if plan.sasl_port:
        bound["SASL"] = told["SASL"] = plan.sasl_port
    protocols = {name: "SASL_PLAINTEXT" if name == "SASL" else "PLAINTEXT" for name in bound}
    return {
        **SINGLE,
        **KEEP,
        **(_sasl(plan.users) if plan.sasl_port else {}),
        "controller.quorum.voters": f"1@{HOST}:{plan.controller_port}",
        "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in bound.items()),
        "advertised.listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in told.items()),
        "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
        "log.dirs": str((plan.data / "records").resolve()),
        **plan.settings,
    }


def _sasl(users: Mapping[str, str]) -> dict[str, str]:
    known = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": f"{module} required {known};",
    }


def _write_properties(plan: Plan) -> None:
    lines = [f"{name}={value}\n" for name, value in properties_of(plan).items()]
    (plan.data / "server.properties").write_text("".join(lines), encoding="utf-8")


def _lay_out(plan: Plan, jars: Path) -> None:
    """The directory of a node: settings, and for a new one what `kafka-storage format` writes."""
    records = plan.data / "records"
    records.mkdir(parents=True, exist_ok=True)
    _write_properties(plan)
    if not (records / "meta.properties").exists():
        shutil.copy(jars / "bootstrap.checkpoint", records)
        meta = f"version=1\nnode.id=1\ncluster.id={new_id()}\ndirectory.id={new_id()}\n"
        (records / "meta.properties").write_text(meta, encoding="utf-8")


def launch(plan: Plan) -> "subprocess.Popen[bytes]":
    """Start the node; it does not answer yet. Its process group is its own.

    Raises
    ------
    NodeError
        If Java or Maven is missing, or Maven fails.
    """
    jars = resolve()
    _lay_out(plan, jars)
    log4j = [
        f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
        f"-Dstreamrec.kafka.log={plan.data}/server.log",
    ]
    heap = [f"-Xmx{plan.heap_mb}m", "-XX:-UsePerfData", "-Dlog4j2.disableJmx=true"]
    where = ["-cp", f"{jars}/*", "kafka.Kafka", str(plan.data / "server.properties")]
    with (plan.data / "console.log").open("ab") as console:
        return subprocess.Popen(
            ["java", *heap, *plan.jvm, *log4j, *where],
            stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
        )  # fmt: skip


def answers(port: int, timeout_s: float = 1.0) -> bool:
    """Whether a broker at this port names a broker that is in service."""
    client = b"node"
    body = (
        struct.pack(">hhih", METADATA, METADATA_VERSION, 1, len(client))
        + client
        + struct.pack(">i?", 0, False)
    )
    try:
        with socket.create_connection((HOST, port), timeout_s) as link:
            link.settimeout(timeout_s)
            link.sendall(struct.pack(">i", len(body)) + body)
            head = b""
            while len(head) < 16:  # length, correlation, throttle, number of brokers
                got = link.recv(16 - len(head))
                if not got:
                    return False
                head += got
    except OSError:
        return False
    return bool(struct.unpack(">iiii", head)[3] > 0)


def await_answer(process: "subprocess.Popen[bytes]", plan: Plan, timeout_s: float = 60.0) -> None:
    """Return once the node answers; end it, and say what it logged, if it does not.

    Raises
    ------
    NodeError
        If it ends by itself, or stays silent for `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not answers(plan.port):
        ended = process.poll()
        if ended is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            what = f"no answer within {timeout_s:g} s" if ended is None else f"ended with {ended}"
            raise NodeError(f"Kafka on {HOST}:{plan.port}: {what}\n{_last_words(plan.data)}")
        time.sleep(0.05)


def _last_words(data: Path) -> str:
    logs = [data / name for name in ("server.log", "console.log")]
    return "\n".join(f"{log}: {log.read_text('utf-8', 'replace')[-1500:]}" for log in logs if log.exists())


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens, below those that the system gives away by itself.

    `STREAMREC_KAFKA_PORTS=low-high` narrows the choice. Nothing is reserved: another process may be faster.
    """
    low, high = map(int, os.environ.get("STREAMREC_KAFKA_PORTS", "20000-29999").split("-"))
    found: list[int] = []
    for port in random.sample(range(low, high + 1), high + 1 - low):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise NodeError(f"ports {low} to {high}: {count} free ones are needed, got {len(found)}")
    return found


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def is_node(pid: int, data: Path) -> bool:
    """Whether this process is the node of that directory; numbers of processes are given out again."""
    shown = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return str(data / "server.properties") in shown.stdout


def end(pid: int, data: Path, patience_s: float = 30.0) -> None:
    """Ask the node to stop, and kill it if it has not after `patience_s`."""
    for sign, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + wait_s
        if is_node(pid, data):
            os.kill(pid, sign)
        while is_node(pid, data):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return
    raise NodeError(f"process {pid} of {data} does not end")


def default_data(port: int) -> Path:
    """Where `start` keeps a node without `--data`: a temporary directory per user and port."""
    return Path(tempfile.gettempdir()) / f"streamrec-kafka-{os.getuid()}-{port}"


def running(data: Path) -> int | None:
    """The process of the node that `start` left in this directory, if it is alive."""
    note = data / "node.json"
    if not note.exists():
        return None
    pid = int(json.loads(note.read_text("utf-8"))["pid"])
    return pid if is_node(pid, data) else None


def start(port: int, data: Path) -> str:
    """Start a node that outlives this process; what to tell about it.

    Raises
    ------
    NodeError
        If something is missing, the port is taken, the directory is another user's, or it does not come up.
    """
    again = f"stop it: make kafka-stop KAFKA_PORT={port} KAFKA_DATA={data}"
    if pid := running(data):
        return f"Kafka is running already, process {pid}, data {data}\nbootstrap: {HOST}:{port}\n{again}"
    if not is_free(port):
        raise NodeError(f"{HOST}:{port}: somebody else listens there; choose another with KAFKA_PORT")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if data.stat().st_uid != os.getuid():
        raise NodeError(f"{data}: belongs to another user; choose another with KAFKA_DATA")
    plan = Plan(data, port, free_ports(1)[0], heap_mb=1024)
    process = launch(plan)
    (data / "node.json").write_text(json.dumps({"pid": process.pid, "port": port}), encoding="utf-8")
    await_answer(process, plan)
    up = f"Kafka {kafka_version()} is up, process {process.pid}, data {data}"
    return f"{up}\nbootstrap: {HOST}:{port}\n{again}"


def stop(data: Path) -> str:
    """Stop the node of this directory; its records stay."""
    pid = running(data)
    if pid is None:
        return f"no Kafka is running on {data}"
    end(pid, data)
    (data / "node.json").unlink()
    return f"Kafka is stopped; its records stay in {data}"


def main(words: Sequence[str] | None = None) -> int:
    """`start`, `stop`, `fetch`; 0, or 1 with the reason on the error output."""
    parser = argparse.ArgumentParser(description="One Apache Kafka node on this machine.")
    parser.add_argument("verb", choices=("start", "stop", "fetch"))
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--data", type=Path, help="directory of the node; a temporary one if left out")
    given = parser.parse_args(words)
    data = (given.data or default_data(given.port)).resolve()
    verbs = {
        "start": lambda: start(given.port, data),
        "stop": lambda: stop(data),
        "fetch": lambda: str(resolve()),
    }
    try:
        print(verbs[given.verb]())
    except NodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
