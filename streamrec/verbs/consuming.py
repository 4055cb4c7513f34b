"""run on a Kafka topic: the daemon, its group, its outputs, and its signals.

forecasts     kafka:TOPIC (key: user), jsonl:FILE or none
dead letters  kafka:TOPIC (original bytes, reasons in headers) or FILE
"""

import atexit
import gc
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np

from streamrec.daemon.folders import refuse_other_lanes
from streamrec.daemon.holdings import Workshop
from streamrec.daemon.loop import Daemon
from streamrec.daemon.workshop import Plain, Transactional
from streamrec.diary import Diary
from streamrec.errors import ConfigError
from streamrec.event import TieSet
from streamrec.eventlog.base import Letters, Sink
from streamrec.eventlog.clients import Outlet, Transactor
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.sinks import DeadLetters, JsonLinesSink
from streamrec.eventlog.topics import Clients, TopicLetters, TopicSink, connect
from streamrec.outputs import Outputs
from streamrec.processor import Engine
from streamrec.settings import Settings, load_settings
from streamrec.verbs.opening import field_names, topics_of
from streamrec.verbs.serving import watching
from streamrec.verbs.stopping import ending_in_time, stopped_by_signals

WARM_UP_S = 10.0
"""Time after which somebody who waits for the first start is told why."""

log = logging.getLogger(__name__)

CLOSE_S = 1.0
"""Most time that messages are waited for at the end which no checkpoint waits for."""

PATIENCE_S = 1e6
"""Time that a checkpoint's thread waits for its messages: any outage is shorter."""


def consume(
    inputs: Sequence[str],
    config: Path | None,
    flags: Mapping[str, Any],
    state: Path | None,
    sink: str,
    dead_letters: str | None,
    until_end: bool = False,
) -> None:
    """Join the group and learn from topics until SIGTERM or SIGINT.

    Raises
    ------
    ConfigError
        If inputs, outputs or settings do not go together.
    BrokerError
        If the broker refuses, or cannot be reached at the start.
    """
    settings = load_settings(config, flags)
    topics = topics_of(inputs)
    if state is None:
        raise ConfigError(f"{inputs[0]}: a live topic needs --state FOLDER, where its checkpoints are kept")
    refuse_other_lanes(state, settings.kafka.lanes)
    clients = connect(settings.kafka)
    targets = Targets(sink, dead_letters, settings, clients)
    partitions = _check_lanes(clients, settings, topics)
    with ending_in_time() as start_clock, watching(settings) as observer, _closing(targets):
        with _saying(WARM_UP_S, "still loading: the first start on a machine compiles kernels, for minutes"):
            warm_up(settings)
            settle_memory()
            atexit.register(gc.unfreeze)  # libraries look at the end whether all of theirs was given back
        targets.open(partitions)
        member = clients.member()
        shop = _workshop(settings, state, targets, observer)
        clock = time.monotonic
        daemon = Daemon(member, topics, settings, shop, targets.pending, clock, observer, until_end)
        with stopped_by_signals(daemon, start_clock):
            daemon.run()


class Targets:
    """Where forecasts and dead letters of all lanes go; makes the outputs of each.

    Parameters
    ----------
    sink : kafka:TOPIC, jsonl:FILE or none
    letters : kafka:TOPIC, FILE or None
    settings : transactions, times
    clients : make outlets
    """

    def __init__(self, sink: str, letters: str | None, settings: Settings, clients: Clients) -> None:
        self.settings, self.clients = settings, clients
        self.sink_topic, self.letters_topic = topic_of(sink), topic_of(letters or "")
        self.sink_file = "" if self.sink_topic or sink == "none" else _file_of(sink)
        self.letters_file = "" if self.letters_topic else letters or ""
        self.transactional = settings.kafka.transactions
        if self.transactional and (self.sink_file or self.letters_file or not self.sink_topic):
            raise ConfigError(
                "kafka.transactions: forecasts and dead letters have to go to topics of the same cluster; "
                "give --sink kafka:TOPIC, and --dead-letters kafka:TOPIC or none"
            )
        self._outlet: Outlet | None = None
        self._transactors: dict[int, Transactor] = {}

    def open(self, partitions: int) -> None:
        """Make topics that are not there, with so many partitions, and open the outlet that lanes share."""
        from streamrec.eventlog.topic_admin import make_if_absent  # noqa: PLC0415 (kafka only where needed)

        topics = [topic for topic in (self.sink_topic, self.letters_topic) if topic]
        for name in make_if_absent(self.settings.kafka, topics, partitions) if topics else ():
            log.info("topic made", extra={"topic": name, "n_partitions": partitions})
        if topics and not self.transactional:
            self._outlet = self.clients.outlet()

    def plain(self, number: int) -> Outputs:
        """Outputs of a lane that share one outlet, or have files of their own."""
        sink = self._sink(number, self._outlet)
        try:
            return Outputs(sink, self._letters(number, self._outlet))
        except BaseException:
            if sink is not None:
                sink.close()
            raise

    def transactor(self, number: int) -> Transactor:
        """A transactor for a lane's transactions."""
        kafka = self.settings.kafka
        made = self.clients.transactor(f"{kafka.transactional_id or kafka.group}-lane-{number}")
        self._transactors[number] = made
        return made

    def within(self, number: int, transactor: Transactor) -> Outputs:
        """Outputs of a lane inside its transactions; the writer of its checkpoints closes the transactor."""
        return Outputs(self._sink(number, transactor), self._letters(number, transactor))

    def pending(self) -> int:
        """Messages under way."""
        outlets = [*self._transactors.values(), *([self._outlet] if self._outlet else [])]
        return sum(outlet.pending for outlet in outlets)

    def close(self) -> None:
        """Close what is open; what a checkpoint waits for is acknowledged, the rest will be sent again."""
        for outlet in (*self._transactors.values(), self._outlet):
            if outlet is not None:
                outlet.close(CLOSE_S)

    def _sink(self, number: int, outlet: Outlet | None) -> Sink | None:
        if self.sink_topic and outlet is not None:
            return TopicSink(outlet, self.sink_topic, self._patience_s())
        return JsonLinesSink(self._own(self.sink_file, number)) if self.sink_file else None

    def _letters(self, number: int, outlet: Outlet | None) -> Letters | None:
        if self.letters_topic and outlet is not None:
            return TopicLetters(outlet, self.letters_topic, self._patience_s())
        if not self.letters_file:
            return None
        return DeadLetters(JsonLinesSink(self._own(self.letters_file, number)))

    def _patience_s(self) -> float:
        """How long a checkpoint waits for its messages; a thread of its own can sit out any outage."""
        return self.settings.kafka.request_timeout_s if self.transactional else PATIENCE_S

    def _own(self, path: str, number: int) -> str:
        """A file per lane, where there are several."""
        return path if self.settings.kafka.lanes == 1 else f"{path}.lane-{number}"


def topic_of(target: str) -> str:
    """The topic of `kafka:TOPIC` or `kafka://TOPIC`; empty for anything else.

    Examples
    --------
    >>> topic_of("kafka:forecasts"), topic_of("kafka://forecasts"), topic_of("jsonl:out.jsonl")
    ('forecasts', 'forecasts', '')
    """
    scheme, _, rest = target.partition(":")
    return rest.removeprefix("//") if scheme == "kafka" else ""


def _file_of(sink: str) -> str:
    kind, _, path = sink.partition(":")
    if kind != "jsonl" or not path:
        raise ConfigError(f"--sink {sink}: wanted kafka:TOPIC, jsonl:FILE or none")
    return path


def _check_lanes(clients: Clients, settings: Settings, topics: Sequence[str]) -> int:
    """Make sure that the group can hand out partitions as lanes need them; the partitions of a topic."""
    cluster = clients.reader()
    try:
        places = cluster.places(topics)
    finally:
        cluster.close()
    kafka, partitions = settings.kafka, max(partition for _, partition in places) + 1
    if kafka.lanes > partitions:
        raise ConfigError(
            f"kafka.lanes: {kafka.lanes} are more than {topics[0]} has partitions; give at most as many"
        )
    if not clients.whole_lanes and kafka.lanes not in (1, len(places)):
        raise ConfigError(
            f"kafka.lanes: with the confluent client lanes are partitions: wanted 1 or {len(places)}, got "
            f"{kafka.lanes}; or set kafka.client to kafka-python"
        )
    if settings.cut.mode == "fixed" and settings.cut.cut_events * kafka.lanes < len(places):
        raise ConfigError("cut.cut_events: fixed rounds need one event or more of every partition")
    return partitions


def _workshop(settings: Settings, state: Path, targets: Targets, observer: Diary) -> Workshop:
    codec, clock = JsonCodec(field_names(settings.input)), time.monotonic
    if targets.transactional:
        return Transactional(settings, state, targets.transactor, targets.within, codec, clock, observer)
    return Plain(settings, state, targets.plain, codec, clock, observer, observer.make_writer)


def warm_up(settings: Settings) -> None:
    """Load libraries and kernels before joining, so that a takeover costs a restore and no more."""
    engine = Engine(settings)
    for step in range(3):
        engine.process([TieSet(f"u{i}", 1e9 + 60.0 * step, (f"m{i % 3}",), 0, i) for i in range(4)])
    rows = engine.arena.rows_of(["u0"])  # and what a query needs, so that the first does not stop the loop
    engine.marks.forecast(rows)
    engine.waits.forecast(rows, np.array([1.0]))


@contextmanager
def _saying(after_s: float, what: str) -> Iterator[None]:
    """Write a line if the block takes so long."""
    timer = Timer(after_s, log.info, (what,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def settle_memory() -> None:
    """Keep the garbage collector from what the libraries made: to go through all of it takes 0.2 s."""
    gc.collect()
    gc.freeze()


@contextmanager
def _closing(targets: Targets) -> Iterator[None]:
    try:
        yield
    finally:
        targets.close()
