"""Outlets and transactors on kafka-python.

    send ──topic known──► producer ──► broker            acknowledged or refused ──► flights
      └───topic not known yet──► waiting, while a thread asks for the topic

The library's `send` waits for the partitions of a topic that it has not met, so messages of such a topic wait
here instead. It keeps what it took in memory without a bound: whoever sends looks at `pending`. A message is
never given up (`kafka_options.FOREVER_MS`): after an outage everything arrives, once and in order.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any, Final

from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.partitioner.default import DefaultPartitioner, murmur2

from streamrec.errors import (
    BrokerError,
    DeliveryError,
    FencedError,
    InvariantError,
    NotMemberError,
    UnavailableError,
)
from streamrec.eventlog.aside import Aside
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit, Member, Message
from streamrec.eventlog.flights import Flight, Flights
from streamrec.eventlog.kafka_options import our_errors, transaction_options, translated, writing_options
from streamrec.eventlog.kafka_python import KafkaPythonMember, as_offsets, net_maker, opening
from streamrec.settings import KafkaSettings

KNOWN_KEYS: Final = 50_000
"""Keys whose hashes are kept; about 10 MB at most."""

BAD_RECORDS: Final = (kafka_errors.InvalidTimestampError, kafka_errors.InvalidRecordError)
BAD_COMPANY: Final = "part of a batch"
"""In the library's text for a record that was refused because of another one of its batch."""


class ByKey(DefaultPartitioner):  # type: ignore[misc]
    """Places keys as every other client does, in half the time: hashes of keys that come again are kept."""

    def __init__(self) -> None:
        self._hash = lru_cache(maxsize=KNOWN_KEYS)(murmur2)

    def partition(
        self,
        topic: str,
        key: Any,
        serialized_key: bytes | None,
        value: Any,
        serialized_value: Any,
        cluster: Any,
    ) -> int:
        """The partition of a key; any, without one."""
        if serialized_key is None:
            chosen: int = super().partition(topic, key, serialized_key, value, serialized_value, cluster)
            return chosen
        partitions: list[int] = sorted(cluster.partitions_for_topic(topic))
        place: int = partitions[(self._hash(serialized_key) & 0x7FFFFFFF) % len(partitions)]
        return place


class Bell:
    """Wakes the producer's own thread once for many messages.

    The library does so for every message while a batch is full; each time that thread takes the interpreter.
    """

    def __init__(self, producer: Any) -> None:
        self._ring = producer._sender.wakeup
        self._held = self._wanted = False
        producer._sender.wakeup = self._wake

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ring at the end of the block, if anybody wanted to meanwhile."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._wanted:
                self._wanted = False
                self._ring()

    def _wake(self) -> None:
        if self._held:
            self._wanted = True
        else:
            self._ring()


class _Writer:
    """A producer with its messages under way.

    Parameters
    ----------
    settings : how the cluster is reached
    options : of the producer
    """

    def __init__(self, settings: KafkaSettings, options: Mapping[str, Any]) -> None:
        self.where = ",".join(settings.bootstrap)
        self.flights = Flights()
        self.fenced = False
        self._patience_s = settings.request_timeout_s
        self._lock = threading.RLock()
        self._known: set[str] = set()
        self._waiting: dict[str, list[tuple[Message, Flight]]] = {}
        self._closed = False
        with opening(settings) as nets:
            self.producer = KafkaProducer(**options, partitioner=ByKey(), kafka_client=net_maker(nets))
        self._net = nets[0]
        self._bell = Bell(self.producer)

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages, without waiting for the broker."""
        self.flights.check()
        flight = self.flights.take(len(messages))
        with self._lock, self._bell.held():
            for message in messages:
                if message.topic in self._known:
                    self._hand_over(message, flight)
                else:
                    self._wait_for_topic(message, flight)

    def close(self, timeout_s: float) -> None:
        """Close the producer; what is not acknowledged by then is given up."""
        end = time.monotonic() + timeout_s
        with suppress(BrokerError):
            self.flights.wait(timeout_s)
        self._closed = True
        sender = self.producer._sender  # `close` raises before it closes if something is under way
        try:
            if self.flights.pending:
                sender.force_close()
            self.producer.close(timeout=max(0.1, end - time.monotonic()))
        except kafka_errors.KafkaError:
            sender.force_close()
        sender.join(max(0.5, end - time.monotonic()))

    def forget_waiting(self) -> None:
        """Drop messages that still wait for their topic."""
        with self._lock:
            for topic, waiting in self._waiting.items():
                self._waiting[topic] = []
                for _, flight in waiting:
                    flight.landed()

    def _hand_over(self, message: Message, flight: Flight) -> None:
        value = b"" if message.value is None and message.key is None else message.value
        try:
            sent = self.producer.send(
                message.topic,
                value=value,
                key=message.key,
                headers=list(message.headers),
                partition=message.partition,
                timestamp_ms=message.timestamp_ms,
            )
        except (kafka_errors.KafkaError, ValueError) as error:
            self._end(flight, message.topic, error)
            return
        sent.add_callback(flight.landed)
        sent.add_errback(partial(self._end, flight, message.topic))

    def _end(self, flight: Flight, topic: str, error: BaseException) -> None:
        if isinstance(error, kafka_errors.TransactionAbortedError):
            flight.landed()
        else:
            flight.refused(self._refused(topic, error))

    def _refused(self, topic: str, error: BaseException) -> DeliveryError:
        if isinstance(error, kafka_errors.MessageSizeTooLargeError | kafka_errors.RecordListTooLargeError):
            advice = "a message is too large: raise max.message.bytes of the topic, or write less"
            return DeliveryError(f"{self.where}: topic {topic}: {advice} ({error})")
        if isinstance(error, BAD_RECORDS) or BAD_COMPANY in str(error):
            advice = (
                "refused, most likely for a timestamp ahead of the broker's clock: set the clock of this "
                "machine, or make the topic with message.timestamp.type=LogAppendTime"
            )
            return DeliveryError(f"{self.where}: topic {topic}: {advice} ({error})")
        ours = translated(error, f"{self.where}: topic {topic}")
        self.fenced = self.fenced or isinstance(ours, FencedError)
        return DeliveryError(f"{ours}; nothing after it is written")

    def _wait_for_topic(self, message: Message, flight: Flight) -> None:
        if message.topic not in self._waiting:
            name = f"streamrec-topic-{message.topic}"
            threading.Thread(target=self._ask_for, args=(message.topic,), name=name, daemon=True).start()
        self._waiting.setdefault(message.topic, []).append((message, flight))

    def _ask_for(self, topic: str) -> None:
        """Ask for a topic until it is known or refused; its messages go on their way, or are refused."""
        refused = self._first_answer(topic)
        with self._lock:
            if refused is None:
                self._known.add(topic)
            for message, flight in self._waiting.pop(topic):
                if refused is None:
                    self._hand_over(message, flight)
                else:
                    flight.refused(refused)

    def _first_answer(self, topic: str) -> DeliveryError | None:
        asked = time.monotonic()
        while not self._closed:
            try:
                self.producer._wait_on_metadata(topic, 200)  # `partitions_for` with a time of its own
                return None
            except kafka_errors.RetriableError:
                if not any(one.connected for one in list(self._net._manager._conns.values())):
                    asked = time.monotonic()
                if time.monotonic() - asked > self._patience_s:
                    return DeliveryError(
                        f"{self.where}: topic {topic} does not exist; make it, or name another"
                    )
            except kafka_errors.KafkaError as error:
                return self._refused(topic, error)
        return None


class KafkaPythonOutlet:
    """An `Outlet` on kafka-python.

    Parameters
    ----------
    settings : how the cluster is reached

    Raises
    ------
    UnavailableError
        If no broker answers within `request_timeout_s`.
    BrokerError
        If the broker does not let us in.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._writer = _Writer(settings, writing_options(settings))
        self._closed = False

    @property
    def pending(self) -> int:
        """Messages taken and not acknowledged yet."""
        return self._writer.flights.pending

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages, without waiting for the broker."""
        self._writer.send(messages)

    def flush(self, timeout_s: float) -> None:
        """Every message taken so far is acknowledged when this returns."""
        self._writer.flights.wait(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Give back the connections, waiting at most so long for what is under way."""
        if not self._closed:
            self._closed = True
            self._writer.close(timeout_s)


class KafkaPythonTransactor:
    """A `Transactor` on kafka-python.

    Calls of the library that have no time-out run aside. After an UnavailableError nobody knows how the
    transaction ended, so that everything but `recover` and `close` is refused.

    Parameters
    ----------
    settings : how the cluster is reached
    transactional_id : ours alone; whoever recovers with it shuts out all others
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self._settings = settings
        self._id = transactional_id
        self._where = f"{','.join(settings.bootstrap)}: transactional id {transactional_id}"
        self._aside = Aside("streamrec-transaction")
        self._kept: _Writer | None = None
        self._in_doubt = False

    @property
    def pending(self) -> int:
        """Messages taken and not acknowledged yet."""
        return 0 if self._kept is None else self._kept.flights.pending

    def recover(self) -> None:
        """Shut out whoever used our transactional id before, and have what it left open aborted or ended."""
        self._drop(0.0)
        self._aside = Aside("streamrec-transaction")
        writer = _Writer(self._settings, transaction_options(self._settings, self._id))
        try:
            with our_errors(self._where):
                writer.producer.init_transactions()
        except BaseException:
            writer.close(0.0)
            raise
        self._kept = writer

    def begin(self) -> None:
        """Begin a transaction."""
        with our_errors(self._where):
            self._writer.producer.begin_transaction()

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages into the transaction."""
        self._writer.send(messages)

    def flush(self, timeout_s: float) -> None:
        """Every message taken so far is acknowledged when this returns; it is not visible yet."""
        self._writer.flights.wait(timeout_s)

    def commit(self, commits: Mapping[Place, Commit], member: Member) -> None:
        """Write offsets for the member's group, and end the transaction."""
        writer = self._writer
        if not isinstance(member, KafkaPythonMember):
            raise InvariantError(
                f"{self._where}: wanted a member on kafka-python, got {type(member).__name__}"
            )
        try:
            writer.flights.wait(self._settings.request_timeout_s)
            who = member.group_metadata(commits)
            self._end(lambda: _commit(writer.producer, commits, who))
        except NotMemberError as error:
            raise FencedError(f"{error}; nothing of the transaction becomes visible") from None
        except DeliveryError as error:
            if writer.fenced:
                raise FencedError(str(error)) from None
            raise

    def abort(self) -> None:
        """Drop the transaction."""
        writer = self._writer
        writer.forget_waiting()
        self._end(writer.producer.abort_transaction)
        writer.flights = Flights()

    def close(self, timeout_s: float = 5.0) -> None:
        """Give back the connections; an open transaction is aborted by the broker in its time."""
        self._drop(timeout_s)

    @property
    def _writer(self) -> _Writer:
        if self._kept is None or self._in_doubt:
            raise InvariantError(f"{self._where}: recover before anything else")
        return self._kept

    def _end(self, job: Callable[[], None]) -> None:
        """End the transaction, or doubt how it ended."""
        try:
            with our_errors(self._where):
                self._aside.within(job, self._settings.request_timeout_s, self._where)
        except UnavailableError:
            self._in_doubt = True
            raise

    def _drop(self, timeout_s: float) -> None:
        if self._kept is not None:
            self._kept.close(timeout_s)
        self._aside.close()
        self._kept, self._in_doubt = None, False


def _commit(producer: Any, commits: Mapping[Place, Commit], who: Any) -> None:
    if commits:
        producer.send_offsets_to_transaction(as_offsets(commits), who)
    producer.commit_transaction()
