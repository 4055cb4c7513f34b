"""Outlets and transactors on confluent-kafka, beside `kafka_outlet`.

librdkafka calls back about every message when it is polled; `pending`, `send` and `flush` do so.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from streamrec.errors import DeliveryError, FencedError, InvariantError, NotMemberError, UnavailableError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit, Member, Message
from streamrec.eventlog.confluent import ConfluentMember
from streamrec.eventlog.confluent_options import (
    library,
    our_errors,
    transaction_options,
    translated,
    writing_options,
)
from streamrec.eventlog.flights import Flight, Flights
from streamrec.settings import KafkaSettings


class _Writer:
    """A producer with its messages under way."""

    def __init__(self, settings: KafkaSettings, options: dict[str, Any]) -> None:
        kafka = library()
        self.where = ",".join(settings.bootstrap)
        self.flights = Flights()
        self.fenced = False
        self._purged = {kafka.KafkaError._PURGE_QUEUE, kafka.KafkaError._PURGE_INFLIGHT}
        self._down: Any = None
        with our_errors(self.where):
            self.producer = kafka.Producer(options | {"error_cb": self._hear_error})
        try:
            self.producer.list_topics(topic="streamrec", timeout=settings.request_timeout_s)
        except kafka.KafkaException as error:
            self.close(0.0)
            raise translated(self._down or error.args[0], self.where) from None

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages, without waiting for the broker."""
        self.flights.check()
        flight = self.flights.take(len(messages))
        for message in messages:
            self._produce(message, flight)
        self._serve(0)

    def pending(self) -> int:
        """Messages taken and not acknowledged yet."""
        self._serve(0)
        return self.flights.pending

    def flush(self, timeout_s: float) -> None:
        """Every message taken so far is acknowledged when this returns."""
        self.flights.wait(timeout_s, self._serve)

    def close(self, timeout_s: float) -> None:
        """Give up what is not acknowledged by then."""
        with suppress(library().KafkaException):  # one that was shut out has nothing to wait for
            self.producer.flush(timeout_s)
        self.producer.purge()
        with warnings.catch_warnings(), suppress(library().KafkaException):
            warnings.simplefilter("ignore")  # an open transaction of one who was shut out cannot be aborted
            self.producer.close(0.1)

    def _serve(self, timeout_s: float) -> None:
        """Have the library call back; what it raises here, it says for every message too."""
        with suppress(library().KafkaException):
            self.producer.poll(timeout_s)

    def _hear_error(self, error: Any) -> None:
        self._down = error

    def _produce(self, message: Message, flight: Flight) -> None:
        try:
            self.producer.produce(
                message.topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers) or None,
                partition=-1 if message.partition is None else message.partition,
                timestamp=message.timestamp_ms or 0,
                on_delivery=partial(self._delivered, flight, message.topic),
            )
        except library().KafkaException as error:
            flight.refused(self._refused(message.topic, error.args[0]))
        except BufferError as error:
            flight.refused(DeliveryError(f"{self.where}: topic {message.topic}: {error}; send less at once"))

    def _delivered(self, flight: Flight, topic: str, error: Any, _: Any) -> None:
        if error is None or error.code() in self._purged:
            flight.landed()
        else:
            flight.refused(self._refused(topic, error))

    def _refused(self, topic: str, error: Any) -> DeliveryError:
        ours = translated(error, f"{self.where}: topic {topic}")
        self.fenced = self.fenced or isinstance(ours, FencedError)
        return DeliveryError(f"{ours}; nothing after it is written")


class ConfluentOutlet:
    """An `Outlet` on confluent-kafka; parameters and errors as `KafkaPythonOutlet`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._writer = _Writer(settings, writing_options(settings))
        self._closed = False

    @property
    def pending(self) -> int:
        """Messages taken and not acknowledged yet."""
        return self._writer.pending()

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages, without waiting for the broker."""
        self._writer.send(messages)

    def flush(self, timeout_s: float) -> None:
        """Every message taken so far is acknowledged when this returns."""
        self._writer.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Give back the connections, waiting at most so long for what is under way."""
        if not self._closed:
            self._closed = True
            self._writer.close(timeout_s)


class ConfluentTransactor:
    """A `Transactor` on confluent-kafka; parameters and errors as `KafkaPythonTransactor`."""

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self._settings = settings
        self._id = transactional_id
        self._where = f"{','.join(settings.bootstrap)}: transactional id {transactional_id}"
        self._kept: _Writer | None = None
        self._in_doubt = False

    @property
    def pending(self) -> int:
        """Messages taken and not acknowledged yet."""
        return 0 if self._kept is None else self._kept.pending()

    def recover(self) -> None:
        """Shut out whoever used our transactional id before, and have what it left open aborted or ended."""
        self.close(0.0)
        writer = _Writer(self._settings, transaction_options(self._settings, self._id))
        try:
            with our_errors(self._where):
                writer.producer.init_transactions(self._settings.request_timeout_s)
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
        self._writer.flush(timeout_s)

    def commit(self, commits: Mapping[Place, Commit], member: Member) -> None:
        """Write offsets for the member's group, and end the transaction."""
        writer, timeout_s = self._writer, self._settings.request_timeout_s
        if not isinstance(member, ConfluentMember):
            raise InvariantError(f"{self._where}: wanted a member on confluent, got {type(member).__name__}")
        try:
            writer.flush(timeout_s)
            if commits:
                who, offsets = member.group_metadata(commits), member.as_offsets(commits)
                self._end(lambda: writer.producer.send_offsets_to_transaction(offsets, who, timeout_s))
            self._end(lambda: writer.producer.commit_transaction(timeout_s))
        except NotMemberError as error:
            raise FencedError(f"{error}; nothing of the transaction becomes visible") from None
        except DeliveryError as error:
            if writer.fenced:
                raise FencedError(str(error)) from None
            raise

    def abort(self) -> None:
        """Drop the transaction."""
        writer = self._writer
        self._end(lambda: writer.producer.abort_transaction(self._settings.request_timeout_s))
        writer.flights = Flights()

    def close(self, timeout_s: float = 5.0) -> None:
        """Give back the connections; an open transaction is aborted by the broker in its time."""
        if self._kept is not None:
            self._kept.close(timeout_s)
        self._kept, self._in_doubt = None, False

    @property
    def _writer(self) -> _Writer:
        if self._kept is None or self._in_doubt:
            raise InvariantError(f"{self._where}: recover before anything else")
        return self._kept

    def _end(self, step: Callable[[], None]) -> None:
        """A step towards the end of the transaction; if it is not answered, how it ended is in doubt."""
        try:
            with our_errors(self._where):
                step()
        except UnavailableError:
            self._in_doubt = True
            raise
