"""The jars of an Apache Kafka server: resolved by Maven once per user, and the first records of a node.

    pom.xml --mvn--> <cache>/streamrec/kafka/<version>-<sum of pom.xml>/*.jar, bootstrap.checkpoint

Processes may race for the directory: it appears whole, by renaming, or not at all. Needs Java 17 or newer
always, Maven until the jars are there. Standard library only.
"""

import base64
import os
import re
import shutil
import subprocess
import tempfile
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

POM = Path(__file__).resolve().parent / "pom.xml"
JAVA_MAJOR = 17
FAST_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")  # up sooner, slower later
FIRST_NODE = """node.id=1
process.roles=broker,controller
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:2
listeners=DIRECT://127.0.0.1:1,CONTROLLER://127.0.0.1:2
inter.broker.listener.name=DIRECT
listener.security.protocol.map=DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={records}
"""


class NodeError(Exception):
    """Kafka cannot be started or stopped here; the text says what is missing and what to do."""


def missing() -> list[str]:
    """What this machine lacks to run Kafka, a sentence each; empty if nothing."""
    lacks = []
    major = java_major()
    if major < JAVA_MAJOR:
        found = f"java is version {major}" if major else "there is no java"
        lacks.append(f"Java {JAVA_MAJOR} or newer: {found} (Debian: apt-get install openjdk-17-jre-headless)")
    if not jars_dir().is_dir() and shutil.which("mvn") is None:
        lacks.append("Maven, to fetch Kafka's jars once: there is no mvn (Debian: apt-get install maven)")
    return lacks


def java_major() -> int:
    """Major version of the `java` on the path; 0 without one."""
    try:
        told = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(found[1]) if found else 0


def kafka_version() -> str:
    """The version of Kafka that pom.xml names.

    Examples
    --------
    >>> kafka_version().split(".")[0]
    '4'
    """
    found = re.search(r"kafka_2\.13</artifactId>\s*<version>([^<]+)", POM.read_text("utf-8"))
    if not found:
        raise NodeError(f"{POM}: names no version of kafka_2.13")
    return found[1]


def jars_dir() -> Path:
    """Where the jars are, or will be; another pom.xml has another place."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "streamrec" / "kafka" / f"{kafka_version()}-{zlib.crc32(POM.read_bytes()):08x}"


def resolve() -> Path:
    """The directory of Kafka's jars, fetched if they are not there; it appears whole or not at all.

    Raises
    ------
    NodeError
        If Java or Maven is missing, or Maven fails.
    """
    if lacks := missing():
        raise NodeError("Apache Kafka needs " + "; ".join(lacks))
    place = jars_dir()
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".fetching-") as scratch:
            fetched = Path(scratch) / "jars"
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
            _run(["mvn", "-q", "-B", "-f", str(POM), *goal])
            _format_once(fetched, Path(scratch))
            _move_unless_there(fetched, place)
    return place


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = (done.stdout + done.stderr)[-2000:]
        raise NodeError(f"{' '.join(command)}: ended with {done.returncode}\n{tail}")


def _move_unless_there(made: Path, place: Path) -> None:
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():  # not because another process was first
            raise


def _format_once(jars: Path, scratch: Path) -> None:
    """Keep the first metadata records beside the jars: a JVM less at every later start."""
    properties = scratch / "server.properties"
    properties.write_text(FIRST_NODE.format(records=scratch / "records"), encoding="utf-8")
    tool = ["java", *FAST_JVM, "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
    _run([*tool, "-t", new_id(), "-c", str(properties)])
    shutil.copy(scratch / "records" / "bootstrap.checkpoint", jars)


def new_id() -> str:
    """A new identifier as Kafka writes them: 22 letters of base64, and no dash in front."""
    written = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return "A" + written[1:] if written.startswith("-") else written
