"""Members and readers on kafka-python.

    loop's thread           thread aside              the library's own thread
    poll ──────────────────► consumer.poll ─────────► fetches, heartbeats, rebalances
     │ gained/leaving/lost ◄──────────────────────────┘ waits, and goes on with its heartbeats
     └ commit, seek, ... ───────────────────────────►

The library calls rebalance listeners in its own thread, where nothing of it may be used and every heartbeat
waits. So the poll runs aside, and the loop's thread answers what the listener asks: the assignee is called by
the thread that polls, may commit and seek, and may take its time.

Positions are ours alone: what was gained is paused and stands at offset 0 until it is sought.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.future import Future as KafkaFuture
from kafka.net.compat import KafkaNetClient
from kafka.structs import OffsetAndMetadata

from streamrec.errors import InvariantError, NotMemberError, UnavailableError
from streamrec.event import Record
from streamrec.eventlog.aside import Aside
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import AbsentTopicError, Assignee, Bounds, Commit
from streamrec.eventlog.kafka_flaws import end_the_join, free_the_line, hush, refuse_topics_made_anew
from streamrec.eventlog.kafka_options import (
    connection_options,
    member_options,
    milliseconds,
    our_errors,
    reading_options,
)
from streamrec.eventlog.lane_assignor import LaneAssignor
from streamrec.settings import KafkaSettings

CLOSE_MS: Final = 1000
"""Most time that leaving a group takes."""

_UNKNOWN_TOPIC: Final = kafka_errors.UnknownTopicOrPartitionError.errno


@contextmanager
def opening(settings: KafkaSettings) -> Iterator[list[Any]]:
    """Opens a client of the library; what it opened is closed again if it fails half way.

    Yields a list that takes the network client, which the library makes by the `kafka_client` of its options.
    Where the broker says no and hangs up at once, the library mostly hears the second only.
    """
    nets: list[Any] = []
    hush()
    try:
        with our_errors(",".join(settings.bootstrap)):
            yield nets
    except BaseException as error:
        for net in nets:
            net.close()
        if isinstance(error, UnavailableError) and settings.sasl_username is not None:
            hint = "if the broker is up, check sasl_mechanism, sasl_username and the password"
            raise UnavailableError(f"{error}; {hint}") from None
        raise


def net_maker(nets: list[Any]) -> Any:
    """Makes network clients, and writes them down."""

    def make(**options: Any) -> Any:
        nets.append(KafkaNetClient(**options))
        return nets[-1]

    return make


class _Cluster:
    """What the cluster holds, asked by a consumer and, for topics, by an admin client, for so long."""

    def __init__(self, settings: KafkaSettings, options: Mapping[str, Any], patience_s: float) -> None:
        self._settings = settings
        self._timeout_ms = milliseconds(patience_s)
        self._where = ",".join(settings.bootstrap)
        self._admin: Any = None
        self._closed = False
        with opening(settings) as nets:
            self._consumer = KafkaConsumer(**options, kafka_client=net_maker(nets))
        self._net = nets[0]

    def places(self, topics: Sequence[str]) -> list[Place]:
        """All partitions of topics, in order."""
        return [
            (topic, partition)
            for topic, found in self._described(topics).items()
            for partition in sorted(one["partition_index"] for one in found["partitions"])
        ]

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The cluster's own id of each topic."""
        return {topic: str(found["topic_id"]) for topic, found in self._described(topics).items()}

    def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        """What partitions hold now; with `read_committed` up to the first transaction that has not ended."""
        asked = [TopicPartition(*place) for place in places]
        if not asked:
            return {}
        with our_errors(f"{self._where}: bounds of {_named(places)}"):
            until = time.monotonic() + self._timeout_ms / 1000
            first = self._consumer.beginning_offsets(asked, timeout_ms=self._timeout_ms)
            end = self._consumer.end_offsets(asked, timeout_ms=milliseconds(until - time.monotonic()))
        return {place: Bounds(first[at], end[at]) for place, at in zip(places, asked, strict=True)}

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        """Where `poll` reads on."""
        assigned = self._consumer._subscription.assignment  # `position` of the library makes requests
        found = {place: assigned.get(TopicPartition(*place)) for place in places}
        return {place: state.position.offset for place, state in found.items() if state and state.position}

    def close(self) -> None:
        """Give the connections back."""
        if self._closed:
            return
        self._closed = True
        self._close_consumer()
        if self._admin is not None:
            self._admin.close()

    def _close_consumer(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=min(CLOSE_MS, self._timeout_ms))

    def _described(self, topics: Sequence[str]) -> dict[str, Any]:
        if self._admin is None:
            with opening(self._settings) as nets:
                patience = dict.fromkeys(("request_timeout_ms", "bootstrap_timeout_ms"), self._timeout_ms)
                options = connection_options(self._settings) | patience
                self._admin = KafkaAdminClient(**options, kafka_client=net_maker(nets))
        with our_errors(f"{self._where}: topics {', '.join(topics)}"):
            found = {one["name"]: one for one in self._admin.describe_topics(list(topics))}
        for topic in topics:
            code = found[topic]["error_code"] if topic in found else _UNKNOWN_TOPIC
            if code == _UNKNOWN_TOPIC:
                raise AbsentTopicError(
                    f"{self._where}: topic {topic} does not exist; make it, or name another"
                )
            with our_errors(f"{self._where}: topic {topic}"):
                if code:
                    raise kafka_errors.for_code(code)()
        return {topic: found[topic] for topic in topics}

    def _records(self, fetched: Mapping[Any, Sequence[Any]]) -> list[Record]:
        if not fetched and not self._is_connected():
            raise UnavailableError(f"{self._where}: no connection to the cluster; poll again")
        return [
            Record(one.topic, one.partition, one.offset, one.value, one.key, one.timestamp)
            for records in fetched.values()
            for one in records
        ]

    def _is_connected(self) -> bool:
        return any(connection.connected for connection in list(self._net._manager._conns.values()))


class KafkaPythonReader(_Cluster):
    """A `Reader` on kafka-python.

    Parameters
    ----------
    settings : how the cluster is reached, and the isolation

    Raises
    ------
    UnavailableError
        If no broker answers within `request_timeout_s`.
    BrokerError
        If the broker does not let us in.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, reading_options(settings), settings.request_timeout_s)

    def assign(self, positions: Mapping[Place, int]) -> None:
        """Read these places, and no other, from these offsets on."""
        with our_errors(f"{self._where}: assign"):
            self._consumer.assign([TopicPartition(*place) for place in positions])
            for place, offset in positions.items():
                self._consumer.seek(TopicPartition(*place), offset)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """At most so many records of the assigned places."""
        with our_errors(f"{self._where}: poll"):
            fetched = self._consumer.poll(timeout_ms=round(timeout_s * 1000), max_records=max_records)
        return self._records(fetched)


class KafkaPythonMember(_Cluster):
    """A `Member` on kafka-python, with the assignor of lanes.

    Parameters
    ----------
    settings : how the cluster is reached, the group, its time-outs, lanes, static membership

    Raises
    ------
    UnavailableError
        If no broker answers within `request_timeout_s`.
    BrokerError
        If the broker does not let us in.
    """

    whole_lanes = True
    """Whether a lane may have several partitions: they move together."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._assignor = LaneAssignor(settings.lanes, settings.rebalance == "cooperative")
        assignors = [self._assignor]
        options = member_options(settings) | {"partition_assignment_strategy": assignors}
        super().__init__(settings, options, settings.answer_s)
        self._where = f"{self._where}: group {settings.group}"
        self._aside = Aside("streamrec-poll")
        self._ids: dict[str, str] = {}
        self._held: set[Place] = set()  # ours, as the assignee knows
        self._unsought: set[Place] = set()
        self._raised: BaseException | None = None  # by the assignee
        self._joined = False

    def join(self, topics: Sequence[str], assignee: Assignee) -> None:
        """Become a member; partitions come later, during `poll`."""
        self._assignee, self._joined = assignee, True
        with our_errors(f"{self._where}: join"):
            self._consumer.subscribe(list(topics), listener=_Listener(self))
        self._learn(topics)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Records of partitions that are not paused; rebalances happen in here."""
        timeout_ms = round(timeout_s * 1000)
        end_the_join(self._consumer)
        free_the_line(self._consumer)
        with our_errors(f"{self._where}: poll"):
            fetched = self._aside.asking(
                lambda: self._consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
            )
        if self._raised is not None:
            for place, records in fetched.items():  # cannot be given now: have them read again
                self._consumer.seek(place, records[0].offset)
        self._raise_what_the_assignee_raised()
        if not fetched:
            self._look_whether_fenced()
        return refuse_topics_made_anew(self._net.cluster, self._ids, self._records(fetched))

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """The cluster's own id of each topic; records of others with these names are refused from now on."""
        self._ids |= super().topic_ids(topics)
        return {topic: self._ids[topic] for topic in topics}

    def seek(self, positions: Mapping[Place, int]) -> None:
        """Read on from these offsets."""
        self._must_hold(positions)
        for place, offset in positions.items():
            self._consumer.seek(TopicPartition(*place), offset)
        self._unsought -= set(positions)

    def pause(self, places: Sequence[Place]) -> None:
        """Give no records of these until they are resumed."""
        self._consumer.pause(*[TopicPartition(*place) for place in places if place in self._held])

    def resume(self, places: Sequence[Place]) -> None:
        """Give their records again; InvariantError if one was never sought."""
        ours = [place for place in places if place in self._held]
        if unsought := sorted(self._unsought.intersection(ours)):
            raise InvariantError(f"{self._where}: {_named(unsought)}: resumed before it was sought")
        self._consumer.resume(*[TopicPartition(*place) for place in ours])

    def commit(self, commits: Mapping[Place, Commit]) -> None:
        """Write offsets of the group, and wait for the answer."""
        self._must_hold(commits)
        with our_errors(f"{self._where}: commit"):
            self._consumer.commit(as_offsets(commits), timeout_ms=self._timeout_ms)

    def committed(self, places: Sequence[Place]) -> dict[Place, Commit]:
        """What the group has committed, unfinished transactions waited for."""
        coordinator = self._consumer._coordinator  # the public call asks for one partition at a time
        with our_errors(f"{self._where}: committed"):
            found = coordinator.fetch_committed_offsets(
                [TopicPartition(*place) for place in places], timeout_ms=self._timeout_ms
            )
        return {(at.topic, at.partition): Commit(one.offset, one.metadata or "") for at, one in found.items()}

    def group_metadata(self, places: Iterable[Place]) -> Any:
        """Who we are in the group, for a transaction that commits these places; nobody, if never joined."""
        if self._joined:
            self._must_hold(places)
        return self._consumer.group_metadata()

    def tell(self, what: str, places: Sequence[Place]) -> None:
        """Pass on to the assignee what happens to places; in the thread that polls."""
        mine = [place for place in places if what == "gained" or place in self._held]
        try:
            if what == "gained":
                self._held.update(mine)
                self._assignee.gained(mine)
            elif what == "leaving":
                self._assignee.leaving(mine)
            else:
                self._held.difference_update(mine)
                self._assignee.lost(mine)
        except BaseException as error:
            self._raised = self._raised or error
        finally:
            if what != "gained":
                self._held.difference_update(mine)

    def hold_still(self, places: Sequence[Place]) -> None:
        """Pause what was gained before anything can be fetched of it."""
        for place in places:
            self._consumer.pause(TopicPartition(*place))
            self._consumer.seek(TopicPartition(*place), 0)
        self._unsought.update(places)

    def _learn(self, topics: Sequence[str]) -> None:
        """Wait until the library knows the topics; a leader that does not would give nothing to anybody."""
        end = time.monotonic() + self._settings.request_timeout_s
        cluster = self._net.cluster
        while unknown := [topic for topic in topics if cluster.partitions_for_topic(topic) is None]:
            if time.monotonic() > end:
                self.places(unknown)  # says so if they do not exist
                raise UnavailableError(
                    f"{self._where}: no answer about topics {', '.join(unknown)}; ask again"
                )
            cluster.request_update()
            time.sleep(0.02)

    def _close_consumer(self) -> None:
        self._aside.asking(super()._close_consumer)
        self._aside.close()
        self._raise_what_the_assignee_raised()

    def _must_hold(self, places: Iterable[Place]) -> None:
        if strange := sorted(set(places) - self._held):
            raise NotMemberError(f"{self._where}: {_named(strange)}: is not ours (any more); poll again")

    def _raise_what_the_assignee_raised(self) -> None:
        error, self._raised = self._raised, None
        if error is not None:
            raise error

    def _look_whether_fenced(self) -> None:
        """The library gives up heartbeats when another member takes our name, but says so at commits only."""
        coordinator = self._consumer._coordinator
        if self._settings.group_instance_id and coordinator.stable() and not coordinator._heartbeat_enabled:
            with our_errors(self._where):
                raise kafka_errors.FencedInstanceIdError()


class _Listener:
    """Hears of rebalances in the library's thread, and asks the thread that polls to pass it on."""

    def __init__(self, member: KafkaPythonMember) -> None:
        self._member = member

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        places = _places(assigned)
        self._member.hold_still(places)
        await self._pass_on("gained", places)

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        await self._pass_on("leaving", _places(revoked))

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._member._assignor.forget()
        await self._pass_on("lost", _places(lost))

    async def _pass_on(self, what: str, places: list[Place]) -> None:
        if not places:
            return
        told, net = KafkaFuture(), self._member._net._net
        answer = self._member._aside.put(lambda: self._member.tell(what, places))
        answer.add_done_callback(lambda _: net.call_soon_threadsafe(lambda: told.success(None)))
        await told


AsyncConsumerRebalanceListener.register(_Listener)


def as_offsets(commits: Mapping[Place, Commit]) -> dict[Any, Any]:
    """Commits as the library has them."""
    made = {place: OffsetAndMetadata(one.offset, one.metadata, -1) for place, one in commits.items()}
    return {TopicPartition(*place): one for place, one in made.items()}


def _places(partitions: Iterable[Any]) -> list[Place]:
    return sorted((one.topic, one.partition) for one in partitions)


def _named(places: Iterable[Place]) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in places)
