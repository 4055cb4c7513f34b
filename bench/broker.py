"""A broker for benchmarks: the cluster that STREAMREC_KAFKA_BOOTSTRAP names, or a node of our own.

    with broker() as where:
        topic = where.topic("events", partitions=2)
        where.fill(topic, lines, keys)

Our own node is made by `deploy/kafka/node.py` in a temporary folder, and ends with the block.
"""

import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from machine import ROOT

from streamrec.eventlog.clients import Message
from streamrec.eventlog.topics import connect
from streamrec.settings import KafkaSettings

sys.path.append(str(ROOT / "deploy" / "kafka"))


class AbsentError(Exception):
    """No broker can be had here; the text says why."""


class Broker:
    """Topics on a cluster, and records in them.

    Parameters
    ----------
    bootstrap : host:port
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def settings(self, **more: Any) -> KafkaSettings:
        """How it is reached."""
        return KafkaSettings(bootstrap=(self.bootstrap,), **more)

    def topic(self, name: str, partitions: int = 1, **configs: str) -> str:
        """Make a topic whose name begins so; its name. Settings have `_` for the dot."""
        from kafka import KafkaAdminClient  # noqa: PLC0415 (hearing that there is no Java needs no client)

        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        named = {name.replace("_", "."): value for name, value in configs.items()}
        layout = {"num_partitions": partitions, "replication_factor": 1, "configs": named}
        admin.create_topics({unique: layout}, wait_for_metadata=True)
        admin.close()
        return unique

    def count(self, topic: str) -> int:
        """Records in a topic."""
        with closing(connect(self.settings()).reader()) as reader:
            return sum(one.end - one.first for one in reader.bounds(reader.places([topic])).values())

    def fill(self, topic: str, lines: Sequence[bytes], keys: Sequence[bytes]) -> None:
        """Append records, and wait until the broker has them."""
        outlet = connect(self.settings(client="confluent")).outlet()
        outlet.send([Message(topic, line, key) for line, key in zip(lines, keys, strict=True)])
        outlet.flush(60)
        outlet.close()


@contextmanager
def broker() -> Iterator[Broker]:
    """A broker while the block runs.

    Raises
    ------
    AbsentError
        If none is named, and Java or Maven are not here.
    """
    given = os.environ.get("STREAMREC_KAFKA_BOOTSTRAP")
    if given:
        yield Broker(given)
        return
    import jars  # noqa: PLC0415 (below deploy/)
    import node  # noqa: PLC0415

    if lacks := jars.missing():
        raise AbsentError("; ".join(lacks))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder).resolve() / "node"
        data.mkdir()
        port, controller = node.free_ports(2)
        plan = node.Plan(data, port, controller)
        process = node.launch(plan)
        try:
            node.await_answer(process, plan)
            yield Broker(f"{node.HOST}:{port}")
        finally:
            process.terminate()
            process.wait(30)
