"""What every source promises, over all sources."""

import gzip
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamrec.errors import ConfigError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec, Place, Source
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import FileSource, open_files
from streamrec.eventlog.memory import MemorySource, encode_event

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
N = 57
EVENTS = [Event(f"u{i % 5}", f"m{i % 3}", float(i // 2)) for i in range(N)]
SHUFFLED = [EVENTS[(i * 23) % N] for i in range(N)]

Make = Callable[[Path], Source]


def csv_bytes(events: list[Event]) -> bytes:
    return b"user,mark,time\n" + b"".join(f"{e.user},{e.mark},{e.time}\n".encode() for e in events)


def json_bytes(events: list[Event]) -> bytes:
    return b"\n".join(encode_event(event) for event in events)


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def parquet(path: Path, events: list[Event]) -> str:
    table = written(path.with_suffix(".csv"), csv_bytes(events))
    duckdb.sql(f"COPY (SELECT * FROM read_csv('{table}')) TO '{path}' (FORMAT parquet)")
    return str(path)


def opened(*paths: str) -> FileSource:
    return open_files(paths, FieldNames())


SOURCES: dict[str, Make] = {
    "memory": lambda tmp: MemorySource.of_events(EVENTS),
    "memory, three partitions": lambda tmp: MemorySource.of_events(
        [event._replace(partition=i % 3) for i, event in enumerate(EVENTS)]
    ),
    "csv": lambda tmp: opened(written(tmp / "a.csv", csv_bytes(EVENTS))),
    "csv.gz": lambda tmp: opened(written(tmp / "a.csv.gz", gzip.compress(csv_bytes(EVENTS)))),
    "csv.zst": lambda tmp: opened(written(tmp / "a.csv.zst", zstandard.compress(csv_bytes(EVENTS)))),
    "csv without a last line end": lambda tmp: opened(written(tmp / "a.csv", csv_bytes(EVENTS)[:-1])),
    "csv with CRLF and a byte order mark": lambda tmp: opened(
        written(tmp / "a.csv", b"\xef\xbb\xbf" + csv_bytes(EVENTS).replace(b"\n", b"\r\n"))
    ),
    "jsonl": lambda tmp: opened(written(tmp / "a.jsonl", json_bytes(EVENTS))),
    "jsonl.zst in two frames": lambda tmp: opened(
        written(
            tmp / "a.jsonl.zst",
            zstandard.compress(json_bytes(EVENTS[:9]) + b"\n") + zstandard.compress(json_bytes(EVENTS[9:])),
        )
    ),
    "parquet": lambda tmp: opened(parquet(tmp / "a.parquet", EVENTS)),
    "unsorted csv": lambda tmp: opened(written(tmp / "a.csv", csv_bytes(SHUFFLED))),
    "unsorted parquet": lambda tmp: opened(parquet(tmp / "a.parquet", SHUFFLED)),
    "two files": lambda tmp: opened(
        written(tmp / "a.csv", csv_bytes(EVENTS[:20])), written(tmp / "b.jsonl", json_bytes(EVENTS[20:]))
    ),
    "two files that overlap": lambda tmp: opened(
        written(tmp / "a.csv", csv_bytes(EVENTS[::2])), written(tmp / "b.jsonl", json_bytes(EVENTS[1::2]))
    ),
}


@pytest.fixture(params=SOURCES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Source]:
    return lambda: SOURCES[request.param](tmp_path)


def drain(source: Source, size: int = 10) -> list[Record]:
    out: list[Record] = []
    while not source.at_end():
        got = source.poll(size)
        assert len(got) <= size
        out += got
    return out


def events_of(source: Source, records: list[Record]) -> list[Event]:
    codec = source if isinstance(source, Codec) else JsonCodec(FieldNames())
    read = codec.decode_many(records)
    assert read == [codec.decode(record) for record in records]
    return [event for event in read if isinstance(event, Event)]


def positions_after(records: list[Record]) -> dict[Place, int]:
    return {(record.topic, record.partition): record.offset + 1 for record in records}


def test_every_event_comes_once(make: Callable[[], Source]) -> None:
    source = make()
    events = events_of(source, drain(source))
    assert sorted((e.time, e.user, e.mark) for e in events) == sorted(
        (e.time, e.user, e.mark) for e in EVENTS
    )


def test_events_come_in_order_of_time(make: Callable[[], Source]) -> None:
    source = make()
    records = drain(source)
    for place in source.topics():
        times = [e.time for e in events_of(source, [r for r in records if (r.topic, r.partition) == place])]
        assert times == sorted(times)


def test_offsets_of_a_place_are_gapless_from_zero(make: Callable[[], Source]) -> None:
    source = make()
    offsets: dict[Place, list[int]] = {place: [] for place in source.topics()}
    for record in drain(source):
        offsets[record.topic, record.partition].append(record.offset)
    assert all(some == list(range(len(some))) for some in offsets.values())


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_size_of_a_poll_changes_nothing(make: Callable[[], Source], size: int) -> None:
    assert drain(make(), size) == drain(make(), 10)


@pytest.mark.parametrize("read", [0, 1, 20, 41, N])
def test_a_source_goes_on_where_its_positions_say_in_the_same_order(
    make: Callable[[], Source], read: int
) -> None:
    whole = drain(make())
    source = make()
    source.seek(positions_after(whole[:read]))
    assert drain(source) == whole[read:]


def test_a_source_that_was_read_can_be_wound_back(make: Callable[[], Source]) -> None:
    source = make()
    whole = drain(source)
    source.seek(positions_after(whole[:31]))
    assert drain(source) == whole[31:]


def test_seeking_to_nothing_starts_again(make: Callable[[], Source]) -> None:
    source = make()
    first = drain(source)
    source.seek({})
    assert not source.at_end()
    assert drain(source) == first


def test_a_source_keeps_the_protocol_and_closes_twice(make: Callable[[], Source]) -> None:
    source = make()
    assert isinstance(source, Source)
    drain(source)
    source.close()
    source.close()


def test_a_live_source_in_memory_ends_only_when_told() -> None:
    source = MemorySource({("t", 0): []}, live=True)
    assert source.poll(5) == [] and not source.at_end()
    source.append(("t", 0), b"x")
    assert [record.value for record in source.poll(5)] == [b"x"] and not source.at_end()
    source.finish()
    assert source.at_end()


@unhurried
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40), st.integers(1, 9))
def test_memory_gives_what_it_was_given_by_partition(pairs: list[tuple[int, int]], size: int) -> None:
    events = [Event(f"u{p}", "m", float(t), partition=p) for p, t in pairs]
    source = MemorySource.of_events(events)
    read = events_of(source, drain(source, size))
    for partition in range(4):
        wanted = [event.time for event in events if event.partition == partition]
        assert [event.time for event in read if event.partition == partition] == wanted


def test_positions_of_an_input_that_is_not_there_are_refused(tmp_path: Path) -> None:
    source = opened(written(tmp_path / "a.csv", csv_bytes(EVENTS)))
    with pytest.raises(ConfigError, match=r"old\.csv: the state has read this input"):
        source.seek({("old.csv", 0): 3})
