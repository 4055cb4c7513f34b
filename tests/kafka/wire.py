"""What the tests' proxy understands of Kafka's protocol, read and written by kafka-python's own classes.

    request   api int16, version int16, correlation int32, client id, [tags], body
    answer    correlation int32, [tags], body

Frames are without their length. An answer keeps the version of its request.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import kafka.protocol.consumer as of_consumers
import kafka.protocol.metadata as of_all
import kafka.protocol.producer as of_producers


class Api(IntEnum):
    """Kinds of requests, by their keys in the protocol."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


# they change nothing at the broker, so nobody can tell whether it has heard them
READING = frozenset({Api.FETCH, Api.LIST_OFFSETS, Api.METADATA, Api.OFFSET_FETCH, Api.FIND_COORDINATOR})


class Head(NamedTuple):
    """What every request begins with."""

    api: int
    version: int
    correlation: int
    client: str


def head_of(frame: bytes) -> Head:
    """The head of a request."""
    api, version, correlation, length = struct.unpack_from(">hhih", frame)
    return Head(api, version, correlation, frame[10 : 10 + max(length, 0)].decode("utf-8", "replace"))


def correlation_of(frame: bytes) -> int:
    """Which request an answer belongs to."""
    return int(struct.unpack_from(">i", frame)[0])


def request_of(frame: bytes) -> Any:
    """A request, decoded."""
    head = head_of(frame)
    return class_of(Api(head.api), "Request").decode(frame, version=head.version, header=True)


def answer_of(api: Api, version: int, frame: bytes) -> Any:
    """An answer, decoded."""
    return class_of(api, "Response").decode(frame, version=version, header=True)


def written(answer: Any) -> bytes:
    """An answer, encoded in the version that it was made or decoded in."""
    return bytes(answer.encode(header=True))


def class_of(api: Api, ending: str) -> Any:
    """kafka-python's class of this kind; `ending` is Request or Response."""
    name = "".join(word.capitalize() for word in api.name.split("_")) + ending
    return next(vars(room)[name] for room in (of_consumers, of_producers, of_all) if name in vars(room))


def is_answered(frame: bytes) -> bool:
    """Whether the broker answers this request; it does not if a producer waits for nobody."""
    return head_of(frame).api != Api.PRODUCE or bool(request_of(frame).acks)


def refusal(frame: bytes, error: int) -> bytes:
    """The answer to a request that says `error` wherever an answer of its kind can say so."""
    head, request = head_of(frame), request_of(frame)
    api = Api(head.api)
    answer = class_of(api, "Response")(version=head.version)
    if api is Api.PRODUCE:
        _mirror(answer, "responses", "partition_responses", request.topic_data)
        for line in lines(api, answer):
            line.base_offset = -1
    elif api in (Api.OFFSET_COMMIT, Api.TXN_OFFSET_COMMIT):
        _mirror(answer, "topics", "partitions", request.topics)
    elif api is Api.ADD_PARTITIONS_TO_TXN:
        _mirror(answer, "results_by_topic_v3_and_below", "results_by_partition", request.v3_and_below_topics)
    elif api is Api.JOIN_GROUP:
        answer.member_id = request.member_id
    blame(api, answer, error)
    answer.with_header(correlation_id=head.correlation)
    return written(answer)


def _mirror(answer: Any, topics: str, partitions: str, asked: Any) -> None:
    """Fill an answer with an empty line for each topic and partition of the request."""
    of_topic = answer.fields[topics].data_class
    of_partition = of_topic.fields[partitions].data_class
    key = "index" if "index" in of_partition.fields else "partition_index"
    told = []
    for topic in asked:
        wanted = topic.partition_data if hasattr(topic, "partition_data") else topic.partitions
        numbers = [part if isinstance(part, int) else getattr(part, key) for part in wanted]
        line = of_topic(**{partitions: [of_partition(**{key: number}) for number in numbers]})
        line.name = topic.name
        if "topic_id" in of_topic.fields:
            line.topic_id = topic.topic_id
        told.append(line)
    setattr(answer, topics, told)


def lines(api: Api, answer: Any) -> Iterator[Any]:
    """The parts of an answer that say how it went: per partition, per topic, or the answer itself."""
    if api is Api.METADATA:
        yield from answer.topics
    elif api is Api.FETCH:
        yield from (part for topic in answer.responses for part in topic.partitions)
    elif api is Api.PRODUCE:
        yield from (part for topic in answer.responses for part in topic.partition_responses)
    elif api in (Api.OFFSET_COMMIT, Api.TXN_OFFSET_COMMIT, Api.LIST_OFFSETS):
        yield from (part for topic in answer.topics for part in topic.partitions)
    elif api is Api.ADD_PARTITIONS_TO_TXN:
        yield from (p for t in answer.results_by_topic_v3_and_below for p in t.results_by_partition)
    elif api is Api.FIND_COORDINATOR and answer.version >= 4:
        yield from answer.coordinators
    elif api is Api.OFFSET_FETCH and answer.version >= 8:
        yield from answer.groups
    elif api is Api.OFFSET_FETCH and answer.version < 2:
        yield from (part for topic in answer.topics for part in topic.partitions)
    else:
        yield answer


def blame(api: Api, answer: Any, error: int) -> None:
    """Write `error` where this kind of answer says how it went; a Fetch loses its records."""
    name = "partition_error_code" if api is Api.ADD_PARTITIONS_TO_TXN else "error_code"
    for line in lines(api, answer):
        setattr(line, name, error)
        if api is Api.FETCH:
            line.records = b""


def take_records(answer: Any, topic: object, partition: int) -> tuple[bool, bool]:
    """Take the records of a partition out of a Fetch answer: whether it had any, whether others have any.

    `topic` is its name, or its id in answers of version 13 and above.
    """
    taken = left = False
    for line in answer.responses:
        for part in line.partitions:
            if part.partition_index == partition and topic in (line.topic, line.topic_id):
                taken = taken or bool(part.records)
                part.records = b""
            left = left or bool(part.records)
    return taken, left


def without_session(version: int, frame: bytes) -> bytes:
    """A Fetch answer that opens no session, so that every Fetch names all partitions (KIP-227)."""
    if version < 7:
        return frame
    at = 4 + (version >= 12) + 4 + 2  # correlation, no tags, throttle, error code; then the session
    return frame[:at] + b"\0\0\0\0" + frame[at + 4 :]
