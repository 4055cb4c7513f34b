"""What every sink promises, and what happens when the disk does not play along."""

import errno
import json
import os
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamrec.errors import ConfigError, DiskError, StateError
from streamrec.event import Record
from streamrec.eventlog.base import Reject, Sink
from streamrec.eventlog.memory import MemorySink
from streamrec.eventlog.sinks import DeadLetters, JsonLinesSink, NullSink

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LINES = [b'{"n":1}', b"", "ü".encode(), b"x" * 1000]


@pytest.fixture(params=["file", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Sink]:
    return MemorySink if request.param == "memory" else lambda: JsonLinesSink(tmp_path / "out.jsonl")


def content(sink: Sink) -> bytes:
    sink.flush()
    if isinstance(sink, MemorySink):
        return b"".join(line + b"\n" for line in sink.lines)
    assert isinstance(sink, JsonLinesSink)
    return Path(sink.path).read_bytes()


def test_lines_arrive_in_order_with_their_ends(make: Callable[[], Sink]) -> None:
    sink = make()
    sink.emit(LINES[:2])
    sink.emit(LINES[2:])
    assert content(sink) == b"".join(line + b"\n" for line in LINES)
    sink.close()
    sink.close()


def test_the_position_is_the_length_flushed_or_not(make: Callable[[], Sink]) -> None:
    sink = make()
    for line in LINES:
        sink.emit([line])
        before = sink.position()
        assert before == len(content(sink)) == sink.position()


@unhurried
@given(kept=st.lists(st.binary(max_size=9)), lost=st.lists(st.binary(max_size=9)), flushed=st.booleans())
def test_cutting_back_forgets_exactly_what_came_after(
    tmp_path_factory: pytest.TempPathFactory, kept: list[bytes], lost: list[bytes], flushed: bool
) -> None:
    for sink in (MemorySink(), JsonLinesSink(tmp_path_factory.mktemp("sink") / "out")):
        sink.emit(kept)
        position = sink.position()
        wanted = content(sink) if flushed else None
        sink.emit(lost)
        sink.cut_back(position)
        sink.emit([b"next"])
        assert len(content(sink)) == position + 5
        assert wanted is None or content(sink) == wanted + b"next\n"


def test_cutting_back_beyond_the_end_is_refused(make: Callable[[], Sink]) -> None:
    sink = make()
    sink.emit(LINES)
    with pytest.raises(StateError, match="bytes"):
        sink.cut_back(sink.position() + 1)


def test_a_reopened_file_goes_on_at_its_end_and_loses_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    first = JsonLinesSink(path)
    first.emit([b"one", b"two"])
    first.flush()
    accepted = first.position()
    first.close()
    path.write_bytes(path.read_bytes() + b'{"torn')  # what a crash may leave
    second = JsonLinesSink(path)
    assert second.position() == accepted + 6
    second.cut_back(accepted)
    second.emit([b"three"])
    second.close()
    first.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_nothing_reaches_a_null_sink() -> None:
    sink = NullSink()
    sink.emit(LINES)
    sink.flush()
    sink.cut_back(0)
    sink.close()
    assert sink.position() == 0


@pytest.mark.parametrize("sink", [MemorySink(), NullSink()])
def test_sinks_keep_the_protocol(sink: Sink, tmp_path: Path) -> None:
    assert isinstance(sink, Sink)
    assert isinstance(JsonLinesSink(tmp_path / "x"), Sink)


def test_a_full_disk_is_one_clear_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is not on this system")
    sink = JsonLinesSink("/dev/full")
    sink.emit([b"x"])
    with pytest.raises(
        DiskError, match=r"^/dev/full: cannot be written \(No space left on device\); [^\n]*$"
    ):
        sink.flush()
    with pytest.raises(DiskError):
        sink.close()
    sink.close()


def test_a_write_that_failed_half_way_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = JsonLinesSink(tmp_path / "out")
    real, room = os.write, [4]

    def small_disk(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = real(file, bytes(data[: room[0]]))
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", small_disk)
    sink.emit([b"abc", b"defg"])
    with pytest.raises(DiskError):
        sink.flush()
    assert sink.position() == 9
    room[0] = 100
    sink.flush()
    assert (tmp_path / "out").read_bytes() == b"abc\ndefg\n"


def test_a_folder_that_is_not_there_is_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No such file or directory"):
        JsonLinesSink(tmp_path / "no" / "out")


@unhurried
@given(value=st.none() | st.binary(), key=st.none() | st.binary(), detail=st.text())
def test_a_dead_letter_is_one_line_that_keeps_every_byte(
    value: bytes | None, key: bytes | None, detail: str
) -> None:
    sink = MemorySink()
    DeadLetters(sink).write(Record("t", 3, 7, value, key, 99), Reject("not_json", detail))
    (line,) = sink.lines
    assert b"\n" not in line
    letter = json.loads(line)
    back = [None if letter[name] is None else b64decode(letter[name]) for name in ("value", "key")]
    assert back == [value, key]
    place = ("topic", "partition", "offset", "reason", "detail", "timestamp_ms")
    assert [letter[name] for name in place] == ["t", 3, 7, "not_json", detail, 99]


def test_dead_letters_are_cut_back_with_their_sink(tmp_path: Path) -> None:
    letters = DeadLetters(JsonLinesSink(tmp_path / "dead.jsonl"))
    letters.write(Record("t", 0, 0, b"a"), Reject("not_json", ""))
    letters.flush()
    position = letters.position()
    letters.write(Record("t", 0, 1, b"b"), Reject("not_json", ""))
    letters.cut_back(position)
    letters.close()
    assert (tmp_path / "dead.jsonl").read_bytes().count(b"\n") == 1
    assert (tmp_path / "dead.jsonl").stat().st_size == position


def test_a_second_writer_of_the_same_file_is_refused(tmp_path: Path) -> None:
    first = JsonLinesSink(tmp_path / "out")
    with pytest.raises(ConfigError, match="another process writes to this file"):
        JsonLinesSink(tmp_path / "out")
    first.close()
    JsonLinesSink(tmp_path / "out").close()


def test_another_file_in_the_place_of_ours_is_left_alone(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "out")
    sink.emit(LINES)
    sink.hand_over()
    position, tail = sink.position(), sink.tail()
    sink.emit(LINES)
    sink.cut_back(position, tail)
    sink.close()
    other = b"x" * (position + 7)
    (tmp_path / "out").write_bytes(other)
    again = JsonLinesSink(tmp_path / "out")
    with pytest.raises(StateError, match="is not the file that the state has written"):
        again.cut_back(position, tail)
    again.close()
    assert (tmp_path / "out").read_bytes() == other


def test_after_an_fsync_that_failed_none_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonLinesSink(tmp_path / "out")
    sink.emit(LINES)
    sink.hand_over()

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        with pytest.raises(DiskError):
            sink.sync()
    with pytest.raises(DiskError, match="input/output error"):
        sink.sync()
    with pytest.raises(DiskError):
        sink.close()
