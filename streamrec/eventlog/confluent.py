"""Members and readers on confluent-kafka, the faster client that may be installed or not.

    loop's thread ──consume──► librdkafka: fetches, heartbeats in threads of its own
                  ◄─assigned, revoked, lost, called inside of consume

librdkafka has its own assignors, which move single partitions: a lane has to be one partition here, which
whoever makes members checks by `whole_lanes`. What a member gains is handed to librdkafka only after the
assignee has sought it, and paused before anything of it is given.
"""

import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from streamrec.errors import (
    InvariantError,
    NotMemberError,
    OutOfRangeError,
    StreamrecError,
)
from streamrec.event import Record
from streamrec.eventlog.aside import Aside
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Assignee, Bounds, Commit
from streamrec.eventlog.confluent_options import (
    connection_options,
    library,
    member_options,
    our_errors,
    reading_options,
    translated,
)
from streamrec.settings import KafkaSettings

_END: Final = -1
"""librdkafka's OFFSET_END; never read from, since the place is paused."""


class _Cluster:
    """What the cluster holds, asked by a consumer and, for topics, by an admin client made when needed.

    A question waits for its answer for at most `patience_s`.
    """

    def __init__(self, settings: KafkaSettings, options: dict[str, Any], patience_s: float) -> None:
        self._library = library()
        self._settings = settings
        self._timeout_s = patience_s
        self._where = ",".join(settings.bootstrap)
        self._down: Any = None  # what the library said when it lost all brokers
        self._later: StreamrecError | None = None  # to raise when there are no records to give
        self._touched: set[Place] = set()  # by a rebalance while more records were asked for
        self._closed = False
        self._admin: Any = None
        self._positions: dict[Place, int] = {}  # next offset to read, for what to say when it is gone
        options = options | {"error_cb": self._hear_error}
        with our_errors(self._where):
            self._consumer = self._library.Consumer(options)
            self._reach()

    def places(self, topics: Sequence[str]) -> list[Place]:
        """All partitions of topics, in order."""
        return [
            (topic, partition)
            for topic, found in self._described(topics).items()
            for partition in sorted(one.id for one in found.partitions)
        ]

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The cluster's own id of each topic, in the form that other clients give it."""
        texts = {topic: str(found.topic_id) for topic, found in self._described(topics).items()}
        return {topic: str(UUID(bytes=urlsafe_b64decode(f"{text}=="))) for topic, text in texts.items()}

    def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        """What partitions hold now; with `read_committed` up to the first transaction that has not ended."""
        out, until = {}, time.monotonic() + self._timeout_s
        for place in places:
            with our_errors(f"{self._where}: bounds of {_named([place])}"):
                asked, left_s = self._library.TopicPartition(*place), max(0.1, until - time.monotonic())
                out[place] = Bounds(*self._consumer.get_watermark_offsets(asked, timeout=left_s))
        return out

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        """Where `poll` reads on."""
        return {place: self._positions[place] for place in places if place in self._positions}

    def close(self) -> None:
        """Give the connections back."""
        if not self._closed:
            self._closed = True
            with our_errors(self._where):
                self._consumer.close()

    def _reach(self) -> None:
        try:
            self._consumer.list_topics(topic="streamrec", timeout=self._settings.request_timeout_s)
        except self._library.KafkaException as error:
            self._consumer.close()
            raise translated(self._down or error.args[0], self._where) from None

    def _hear_error(self, error: Any) -> None:
        kinds = self._library.KafkaError
        code, refused = error.code(), self._down is not None and self._down.code() == kinds._AUTHENTICATION
        follows = code == kinds._ALL_BROKERS_DOWN and not refused  # who is refused everywhere hears this too
        if error.fatal() or code == kinds._AUTHENTICATION or follows:
            self._down = error

    def _described(self, topics: Sequence[str]) -> dict[str, Any]:
        from confluent_kafka.admin import AdminClient  # noqa: PLC0415 (may not be installed)

        if self._admin is None:
            self._admin = AdminClient(connection_options(self._settings))
        asked = self._library.TopicCollection(list(topics))
        found = self._admin.describe_topics(asked, request_timeout=self._timeout_s)
        described = {}
        for topic in topics:
            with our_errors(f"{self._where}: topic {topic}"):
                described[topic] = found[topic].result()
        return described

    def _consume(self, max_records: int, timeout_s: float) -> list[Record]:
        """At most so many records; librdkafka would wait for all of them."""
        later, self._later = self._later, None
        if later is not None:
            raise later
        messages = self._consumer.consume(max_records, 0) or self._consumer.consume(1, timeout_s)
        if len(messages) == 1 < max_records:
            self._touched.clear()
            more = self._consumer.consume(max_records - 1, 0)
            messages = [one for one in messages if (one.topic(), one.partition()) not in self._touched] + more
        if not messages and self._down is not None:
            self._look_again()
        records = [self._record(one) for one in messages if one.error() is None]
        problems = [problem for one in messages if one.error() and (problem := self._problem(one))]
        if problems and not records:
            raise problems[0]
        self._later = next(iter(problems), None)
        return records

    def _look_again(self) -> None:
        """The library says once that it lost all brokers; ask until one is there again."""
        try:
            self._consumer.list_topics(topic="streamrec", timeout=0.1)
        except self._library.KafkaException:
            raise translated(self._down, f"{self._where}: poll") from None
        self._down = None

    def _record(self, message: Any) -> Record:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        self._positions[topic, partition] = offset + 1
        return Record(topic, partition, offset, message.value(), message.key(), message.timestamp()[1])

    def _problem(self, message: Any) -> StreamrecError | None:
        error, kinds = message.error(), self._library.KafkaError
        place = (message.topic(), message.partition())
        if error.code() == kinds._PARTITION_EOF:
            self._positions[place] = message.offset()
            return None
        if error.code() in (kinds._AUTO_OFFSET_RESET, kinds.OFFSET_OUT_OF_RANGE):
            wanted = self._positions.get(place, message.offset())
            text = f"{_named([place])} does not hold offset {wanted}"
            return OutOfRangeError(
                f"{self._where}: {text}; seek to one that it holds (see its bounds)", {place: wanted}
            )
        if error.retriable() or error.code() == kinds._MAX_POLL_EXCEEDED:  # then the assignee hears of it
            return None
        return translated(error, f"{self._where}: poll")

    def _put_back(self, records: Sequence[Record]) -> None:
        """Have records read again that cannot be given now."""
        for record in reversed(records):
            self._positions[record.topic, record.partition] = record.offset
        for place in {(record.topic, record.partition) for record in records}:
            self._consumer.seek(self._library.TopicPartition(*place, self._positions[place]))


class ConfluentReader(_Cluster):
    """A `Reader` on confluent-kafka; parameters and errors as `KafkaPythonReader`."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, reading_options(settings), settings.request_timeout_s)

    def assign(self, positions: Mapping[Place, int]) -> None:
        """Read these places, and no other, from these offsets on."""
        self._positions = dict(positions)
        with our_errors(f"{self._where}: assign"):
            self._consumer.assign(
                [self._library.TopicPartition(*at, offset) for at, offset in positions.items()]
            )

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """At most so many records of the assigned places."""
        with our_errors(f"{self._where}: poll"):
            return self._consume(max_records, timeout_s)


class ConfluentMember(_Cluster):
    """A `Member` on confluent-kafka; parameters and errors as `KafkaPythonMember`."""

    whole_lanes = False
    """Whether a lane may have several partitions: they would move one by one."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, member_options(settings), settings.answer_s)
        self._where = f"{self._where}: group {settings.group}"
        self._cooperative = settings.rebalance == "cooperative"
        self._joined = False
        self._aside, self._telling = Aside("streamrec-commit"), False
        self._held: set[Place] = set()
        self._gaining: dict[Place, int] | None = None  # offsets sought while the assignee hears of a gain
        self._flowing: set[Place] = set()  # not paused
        self._raised: BaseException | None = None  # by the assignee

    def join(self, topics: Sequence[str], assignee: Assignee) -> None:
        """Become a member; partitions come later, during `poll`."""
        self._assignee = assignee
        self._joined = True
        with our_errors(f"{self._where}: join"):
            self._consumer.subscribe(
                list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Records of partitions that are not paused; rebalances happen in here."""
        with our_errors(f"{self._where}: poll"):
            records = self._consume(max_records, timeout_s)
        if self._raised is not None:
            self._put_back(records)
        self._raise_what_the_assignee_raised()
        return records

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Read on from these offsets."""
        self._must_hold(positions)
        self._positions.update(positions)
        for place, offset in positions.items():
            if self._gaining is not None and place in self._gaining:
                self._gaining[place] = offset
                continue
            with our_errors(f"{self._where}: seek"):
                self._consumer.seek(self._library.TopicPartition(*place, offset))

    def pause(self, places: Sequence[Place]) -> None:
        """Give no records of these until they are resumed."""
        ours = [place for place in places if place in self._held]
        self._flowing.difference_update(ours)
        self._consumer.pause(self._named_here(ours))

    def resume(self, places: Sequence[Place]) -> None:
        """Give their records again; InvariantError if one was never sought."""
        ours = [place for place in places if place in self._held]
        if unsought := sorted(set(ours) - self._positions.keys()):
            raise InvariantError(f"{self._where}: {_named(unsought)}: resumed before it was sought")
        self._flowing.update(ours)
        self._consumer.resume(self._named_here(ours))

    def commit(self, commits: Mapping[Place, Commit]) -> None:
        """Write offsets of the group, and wait for the answer."""
        self._must_hold(commits)
        if not commits:
            return
        with our_errors(f"{self._where}: commit"):
            written = self._written(partial(self._write, self.as_offsets(commits)))
        for one in written:
            if one.error is not None:
                raise translated(one.error, f"{self._where}: commit")

    def _written(self, write: Callable[[], list[Any]]) -> list[Any]:
        """Have the library commit, which has no time-out for it; inside of its callbacks nothing else can."""
        if self._telling:
            return write()
        return self._aside.within(write, self._settings.answer_s, f"{self._where}: commit")

    def _write(self, offsets: list[Any]) -> list[Any]:
        """Commit, however long the library takes."""
        written: list[Any] = self._consumer.commit(offsets=offsets, asynchronous=False)
        return written

    def committed(self, places: Sequence[Place]) -> dict[Place, Commit]:
        """What the group has committed, unfinished transactions waited for."""
        asked = [self._library.TopicPartition(*place) for place in places]
        with our_errors(f"{self._where}: committed"):
            found = self._consumer.committed(asked, timeout=self._timeout_s) if asked else []
        for one in found:
            if one.error is not None:
                raise translated(one.error, f"{self._where}: committed")
        return {
            (one.topic, one.partition): Commit(one.offset, one.metadata or "")
            for one in found
            if one.offset >= 0
        }

    def as_offsets(self, commits: Mapping[Place, Commit]) -> list[Any]:
        """Commits as the library has them."""
        return [self._library.TopicPartition(*at, one.offset, one.metadata) for at, one in commits.items()]

    def group_metadata(self, places: Iterable[Place]) -> Any:
        """Who we are in the group, for a transaction that commits these; nobody, if we never joined."""
        if self._joined:
            self._must_hold(places)
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave the group, and give the connections back."""
        super().close()
        self._aside.close()
        self._raise_what_the_assignee_raised()

    def _on_assign(self, consumer: Any, partitions: Sequence[Any]) -> None:
        gained = _places(partitions)
        self._gaining = dict.fromkeys(gained, _END)
        self._touched.update(gained)
        self._held.update(gained)
        for place in gained:
            self._positions.pop(place, None)
        if gained:
            self._told(self._assignee.gained, gained)
        start = [self._library.TopicPartition(*at, offset) for at, offset in self._gaining.items()]
        self._gaining = None
        (consumer.incremental_assign if self._cooperative else consumer.assign)(start)
        consumer.pause(self._named_here(set(gained) - self._flowing))

    def _on_revoke(self, consumer: Any, partitions: Sequence[Any]) -> None:
        self._let_go(consumer, partitions, self._assignee.leaving, before=False)

    def _on_lost(self, consumer: Any, partitions: Sequence[Any]) -> None:
        self._let_go(consumer, partitions, self._assignee.lost, before=True)

    def _let_go(self, consumer: Any, partitions: Sequence[Any], tell: Any, before: bool) -> None:
        gone = [place for place in _places(partitions) if place in self._held]
        self._touched.update(gone)
        self._flowing.difference_update(gone)
        if before:
            self._held.difference_update(gone)
        if gone:
            self._told(tell, gone)
        self._held.difference_update(gone)
        if self._cooperative:
            consumer.incremental_unassign(list(partitions))
        else:
            consumer.unassign()

    def _told(self, tell: Any, places: list[Place]) -> None:
        self._telling = True
        try:
            tell(places)
        except BaseException as error:
            self._raised = self._raised or error
        finally:
            self._telling = False

    def _named_here(self, places: Iterable[Place]) -> list[Any]:
        """Places as the library has them; those that it was not given yet are left out."""
        return [self._library.TopicPartition(*at) for at in places if at not in (self._gaining or ())]

    def _must_hold(self, places: Iterable[Place]) -> None:
        if strange := sorted(set(places) - self._held):
            raise NotMemberError(f"{self._where}: {_named(strange)}: is not ours (any more); poll again")

    def _raise_what_the_assignee_raised(self) -> None:
        error, self._raised = self._raised, None
        if error is not None:
            raise error


def _places(partitions: Iterable[Any]) -> list[Place]:
    return sorted((one.topic, one.partition) for one in partitions)


def _named(places: Iterable[Place]) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in places)
