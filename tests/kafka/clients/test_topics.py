"""Topics as logs, sinks and letters: on a toy cluster for all orders of arrival, and on a broker."""

import random
from collections.abc import Mapping, Sequence

import pytest
from ears import settings_for
from hypothesis import given
from hypothesis import strategies as st

from streamrec.errors import BrokerError, ConfigError, OutOfRangeError, UnavailableError
from streamrec.event import Event, Record
from streamrec.eventlog import confluent_options
from streamrec.eventlog.base import Letters, Place, Reject, Sink
from streamrec.eventlog.clients import Bounds, Message
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import encode_event
from streamrec.eventlog.topics import LETTER_BYTES, Clients, TopicLetters, TopicLog, TopicSink, connect
from streamrec.settings import KafkaSettings

CODEC = JsonCodec(FieldNames())


class ToyReader:
    """Gives records of its places in any order that respects each place's own."""

    def __init__(self, held: Mapping[Place, Sequence[int]], ends: Mapping[Place, int], seed: int) -> None:
        self.held, self.ends, self.random = held, ends, random.Random(seed)
        self.at: dict[Place, int] = {}
        self.away = 0

    def places(self, topics: Sequence[str]) -> list[Place]:
        return sorted(place for place in self.held if place[0] in topics)

    def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        return {place: Bounds(min(self.held[place], default=0), self.ends[place]) for place in places}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(topics, "id")

    def assign(self, positions: Mapping[Place, int]) -> None:
        self.at = dict(positions)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        if self.away:
            self.away -= 1
            raise UnavailableError("away")
        out: list[Record] = []
        for place in self.random.sample(sorted(self.at), self.random.randint(0, len(self.at))):
            offsets = [offset for offset in self.held[place] if offset >= self.at[place]]
            taken = offsets[: self.random.randint(0, max_records - len(out))]
            out += [Record(*place, offset, b"%d" % offset) for offset in taken]
            if len(taken) == len(offsets):  # also past what is no record
                self.at[place] = max(self.ends[place], self.at[place])
            elif taken:
                self.at[place] = taken[-1] + 1
        return out

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        return {place: self.at[place] for place in places}

    def close(self) -> None:
        """Nothing to give back."""


def read_all(log: TopicLog, sizes: Sequence[int] = (7,)) -> list[Place | tuple[str, int, int]]:
    out: list[tuple[str, int, int]] = []
    turn = 0
    while not log.at_end():
        out += [(one.topic, one.partition, one.offset) for one in log.poll(sizes[turn % len(sizes)])]
        turn += 1
        assert turn < 100_000
    return out


OFFSETS = st.lists(st.integers(0, 60), unique=True, max_size=30).map(sorted)
HELD = st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), OFFSETS, min_size=1)


@given(HELD, st.integers(0, 9), st.integers(0, 2**20), st.lists(st.integers(1, 20), min_size=1))
def test_the_order_is_that_of_offsets_however_records_arrive(held, markers, seed, sizes):
    ends = {place: max(offsets, default=-1) + 1 + markers for place, offsets in held.items()}
    log = TopicLog(ToyReader(held, ends, seed), ["a", "b"], CODEC)
    expected = sorted((offset, place) for place, offsets in held.items() for offset in offsets)
    assert read_all(log, sizes) == [(*place, offset) for offset, place in expected]
    assert log.count() == 0


@given(HELD, st.integers(0, 2**20), st.integers(0, 40))
def test_a_log_that_is_sought_goes_on_as_if_it_had_never_stopped(held, seed, n):
    ends = {place: max(offsets, default=-1) + 1 for place, offsets in held.items()}
    whole = read_all(TopicLog(ToyReader(held, ends, seed), ["a", "b"], CODEC))
    positions = {(topic, partition): offset + 1 for topic, partition, offset in whole[:n]}
    log = TopicLog(ToyReader(held, ends, seed + 1), ["a", "b"], CODEC)
    log.seek(positions)
    left = [(offset, (topic, p)) for topic, p, offset in whole[n:]]
    assert read_all(log) == [(*place, offset) for offset, place in left]


def test_partitions_are_not_read_far_ahead_of_the_one_that_lags(monkeypatch):
    monkeypatch.setattr("streamrec.eventlog.topics.AHEAD_RECORDS", 2000)
    held = {("a", 0): range(20_000), ("a", 1): range(20_000)}
    reader = ToyReader(held, dict.fromkeys(held, 20_000), 3)
    log = TopicLog(reader, ["a"], CODEC)
    most = 0
    while not log.at_end():
        log.poll(500)
        most = max(most, len(log._held))
    assert most <= 2 * 1000 + 500


def test_an_absence_is_borne_for_a_while():
    reader = ToyReader({("a", 0): [0, 1]}, {("a", 0): 2}, 1)
    reader.away = 3
    assert len(read_all(TopicLog(reader, ["a"], CODEC))) == 2
    reader.away = 3
    log = TopicLog(reader, ["a"], CODEC, patience_s=0.0)
    with pytest.raises(UnavailableError):
        log.poll(10)


@pytest.mark.parametrize("at", [2, 11])
def test_a_position_that_the_log_does_not_hold_is_refused(at):
    log = TopicLog(ToyReader({("a", 0): range(3, 10)}, {("a", 0): 10}, 1), ["a"], CODEC)
    with pytest.raises(OutOfRangeError, match=r"a\[0\]: next offset is .* holds 3 to 10"):
        log.seek({("a", 0): at})


class ToyOutlet:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.flushed: list[float] = []
        self.pending = 0

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages

    def flush(self, timeout_s: float) -> None:
        self.flushed.append(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        raise AssertionError("an outlet is closed by whoever made it")


def test_lines_go_out_under_their_keys_and_sync_waits_for_them():
    outlet = ToyOutlet()
    sink = TopicSink(outlet, "forecasts", 7.0)
    assert isinstance(sink, Sink)
    sink.emit([b"1", b"2"], ["ü", "b"])
    sink.emit([b"3"])
    assert [(one.topic, one.value, one.key) for one in outlet.sent] == [
        ("forecasts", b"1", "ü".encode()), ("forecasts", b"2", b"b"), ("forecasts", b"3", None),
    ]  # fmt: skip
    sink.hand_over()
    assert not outlet.flushed
    sink.sync()
    sink.flush()
    assert outlet.flushed == [7.0, 7.0] and (sink.position(), sink.tail()) == (0, 0)
    sink.cut_back(0)
    sink.close()


def test_a_letter_has_the_bytes_as_they_came_and_says_whence():
    outlet = ToyOutlet()
    letters = TopicLetters(outlet, "dead", 1.0)
    assert isinstance(letters, Letters)
    letters.write(Record("clicks", 3, 7, b"\xff\x00", b"k", 12), Reject("not_utf8", "byte 0 \ud800"))
    (sent,) = outlet.sent
    assert (sent.value, sent.key) == (b"\xff\x00", b"k")
    assert dict(sent.headers) == {
        "reason": b"not_utf8", "detail": b"byte 0 ?", "topic": b"clicks", "partition": b"3", "offset": b"7",
        "timestamp_ms": b"12",
    }  # fmt: skip


def test_a_letter_that_no_topic_would_take_is_cut_and_says_so():
    outlet = ToyOutlet()
    letters = TopicLetters(outlet, "dead", 1.0)
    letters.write(Record("clicks", 0, 0, b"x" * 1_000_000), Reject("too_large", ""))
    letters.write(Record("clicks", 0, 1, None), Reject("tombstone", ""))
    assert len(outlet.sent[0].value) == LETTER_BYTES
    assert dict(outlet.sent[0].headers)["bytes"] == b"1000000"
    assert outlet.sent[1].value == b""


def test_a_client_that_is_not_installed_is_named(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(confluent_options.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"confluent-kafka is not installed"):
        connect(KafkaSettings(client="confluent"))
    assert connect(KafkaSettings()).whole_lanes


def test_lanes_are_partitions_with_confluent():
    assert not connect(KafkaSettings(client="confluent")).whole_lanes


@pytest.mark.needs("transactions")
def test_a_log_of_topics_reads_what_they_hold_at_any_poll_size(broker, topics, clients: Clients, opened):
    names = [topics("a", partitions=3), topics("b")]
    events = [Event(f"u{i % 7}", f"m{i % 3}", float(i), partition=i % 3) for i in range(300)]
    for partition in range(3):
        values = [encode_event(one) for one in events if one.partition == partition]
        broker.send(names[0], values, partition=partition)
    transactor = opened(clients.transactor(f"t-{names[1]}"))
    transactor.recover()
    for _ in range(4):  # each leaves a marker among the offsets
        transactor.begin()
        transactor.send([Message(names[1], encode_event(events[0])) for _ in range(5)])
        transactor.commit({}, opened(clients.member()))
    seen = []
    for sizes in ((1,), (7, 50), (1000,)):
        log = opened(TopicLog(clients.reader(), names, CODEC))
        if sizes == (1000,):
            broker.send(names[1], [b"too late"])
        seen.append(read_all(log, sizes))
        assert log.poll(10) == [] and log.at_end()
    assert len(seen[0]) == 320 and seen[0] == seen[1] == seen[2]
    keys = [(offset, topic, partition) for topic, partition, offset in seen[0]]
    assert keys == sorted(keys)
    log = opened(TopicLog(clients.reader(), names[:1], CODEC))
    log.seek({(names[0], 1): 90})
    assert log.count() == 210 and len(read_all(log)) == 210
    log.seek({})
    while not (records := log.poll(50)):
        assert not log.at_end()
    assert {type(one) for one in log.decode_many(records)} == {Event}


def test_a_log_of_a_topic_that_does_not_exist_is_refused(broker, client, opened):
    reader = opened(connect(settings_for(broker.bootstrap, client)).reader())
    with pytest.raises(BrokerError, match="no-such-topic"):
        TopicLog(reader, ["no-such-topic"], CODEC)
