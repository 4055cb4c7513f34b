"""Dead letters: read back, counted, shown safely, and sent back once."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.errors import ConfigError, StateError, UnavailableError
from streamrec.event import Record
from streamrec.eventlog.base import Reject
from streamrec.eventlog.clients import Message
from streamrec.eventlog.letters import Letter, LetterFile, letter_of_line, letter_of_message
from streamrec.eventlog.sinks import JsonLinesSink, dead_letter
from streamrec.eventlog.topics import letter
from streamrec.settings import KafkaSettings
from streamrec.verbs import letters as verb
from streamrec.verbs.requeue import Notes, ToFile, ToTopic, plan, requeue

KAFKA = KafkaSettings()
BYTES = st.none() | st.binary(max_size=40)
REASONS = ("bad_time", "not_json", "missing_user")


def letter_at(
    offset: int, reason: str = "not_json", partition: int = 0, value: bytes | None = b"{"
) -> Letter:
    return Letter("clicks", partition, offset, reason, "cut off", 1_700_000_000_000 + offset, b"u1", value)


def line_of(one: Letter) -> bytes:
    record = Record(one.topic, one.partition, one.offset, one.value, one.key, one.timestamp_ms)
    return dead_letter(record, Reject(one.reason, one.detail))


def write(path: Path, letters: Sequence[Letter]) -> Path:
    path.write_bytes(b"".join(line_of(one) + b"\n" for one in letters))
    return path


class Wire:
    """An outlet that keeps what it took, and now and then loses its connection."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.sent: list[Message] = []
        self.left = fail_after
        self.pending = 0

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages

    def flush(self, timeout_s: float) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise UnavailableError("wire: no answer; try again")

    def close(self, timeout_s: float = 5.0) -> None:
        """Nothing is held open."""


@given(st.text(max_size=10), st.integers(0, 99), st.integers(0, 2**50), BYTES, BYTES, st.text(max_size=20))
def test_a_letter_comes_back_as_it_was_written_from_a_file_and_from_a_topic(
    topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None, detail: str
) -> None:
    record, reject = Record(topic, partition, offset, value, key, 17), Reject("not_json", detail)
    wanted = Letter(topic, partition, offset, "not_json", detail, 17, key, value)
    assert letter_of_line(dead_letter(record, reject)) == wanted
    message = letter("dead", record, reject)
    read = letter_of_message(message.value, message.key, message.headers)
    assert read == (wanted if key is not None or value is not None else wanted._replace(value=b""))


def test_a_letter_that_was_cut_says_so_and_is_never_sent_back(tmp_path: Path) -> None:
    message = letter("dead", Record("clicks", 0, 1, b"x" * 2_000_000), Reject("oversize", ""))
    read = letter_of_message(message.value, message.key, message.headers)
    assert read is not None
    assert not read.whole
    wire = Wire()
    done = requeue(lambda: iter([read]), Notes(tmp_path / "notes", "t"), ToTopic(wire, "t"))
    assert (wire.sent, done.sent, done.cut) == ([], {}, 1)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"topic":"t"}', b"\xff", b"[" * 100_000])
def test_what_is_no_letter_is_counted_and_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(line + b"\n" + line_of(letter_at(1)) + b"\n" + line_of(letter_at(2))[:30])
    box = LetterFile(path)
    assert [one.offset for one in box.read()] == [1]
    assert box.strange == 1
    with path.open("ab") as file:
        file.write(line_of(letter_at(2))[30:] + b"\n")
    assert [one.offset for one in box.read()] == [2]


def test_list_counts_by_reason_and_topic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    letters = [letter_at(n, REASONS[n % 2]) for n in range(5)]
    verb.list_letters(str(write(tmp_path / "bad.jsonl", letters)), KAFKA, as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert [(row["reason"], row["letters"]) for row in listed["letters"]] == [
        ("bad_time", 3),
        ("not_json", 2),
    ]
    assert (listed["letters"][0]["first"], listed["letters"][0]["last"]) == ("clicks:0:0", "clicks:0:4")


def test_show_gives_one_letter_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = letter_at(7, value=b"\x1b[2J\x07")
    path = str(write(tmp_path / "bad.jsonl", [letter_at(1), evil]))
    for which in ("2", "clicks:0:7"):
        verb.show_letter(path, which, KAFKA)
        out = capsys.readouterr().out
        assert json.loads(out)["value"] == {"text": "\x1b[2J\x07", "bytes": 5}
        assert "\x1b" not in out
    with pytest.raises(ConfigError, match="no letter 3"):
        verb.show_letter(path, "3", KAFKA)


def test_requeue_sends_key_value_and_timestamp_back_to_where_the_record_was(tmp_path: Path) -> None:
    wire = Wire()
    requeue(lambda: iter([letter_at(5, partition=3)]), Notes(tmp_path / "notes", "own"), ToTopic(wire, None))
    came_from = ("requeued-from", b"clicks:3:5")
    assert wire.sent == [Message("clicks", b"{", b"u1", (came_from,), 1_700_000_000_005, 3)]


def test_a_letter_that_was_written_twice_is_sent_once_and_a_second_requeue_goes_on(tmp_path: Path) -> None:
    wire = Wire()
    letters = [letter_at(n, REASONS[n % 3], n % 2) for n in (4, 0, 1, 2, 4, 3, 1)]
    for limit, sent in ((2, [0, 2]), (2, [4, 1]), (None, [3]), (None, [])):
        before = len(wire.sent)
        notes = Notes(tmp_path / "notes", "own")
        planned = plan(lambda: iter(letters), notes, None, limit)
        done = requeue(lambda: iter(letters), notes, ToTopic(wire, None), limit=limit)
        offsets = [int(m.headers[0][1].split(b":")[2]) for m in wire.sent[before:]]
        assert (offsets, done.sent) == (sent, planned.sent)


def test_a_reason_that_was_left_out_is_sent_later(tmp_path: Path) -> None:
    wire, letters = Wire(), [letter_at(n, REASONS[n % 2]) for n in range(6)]
    for reason, n in (("not_json", 3), ("not_json", 0), (None, 3)):
        done = requeue(lambda: iter(letters), Notes(tmp_path / "n", "own"), ToTopic(wire, None), reason)
        assert sum(done.sent.values()) == n
    assert len({m.headers for m in wire.sent}) == len(wire.sent) == 6


def test_after_a_crash_between_sending_and_noting_a_person_decides(tmp_path: Path) -> None:
    letters = [letter_at(n) for n in range(1200)]
    wire = Wire(fail_after=1)
    with pytest.raises(UnavailableError):
        requeue(lambda: iter(letters), Notes(tmp_path / "notes", "own"), ToTopic(wire, None))
    with pytest.raises(StateError, match=r"500 letters, clicks:0:500 to clicks:0:999.*--unfinished"):
        Notes(tmp_path / "notes", "own").settle(None)
    for arrived, n in ((True, 200), (False, 700)):
        path = tmp_path / f"notes-{arrived}"
        path.write_bytes((tmp_path / "notes").read_bytes())
        notes, again = Notes(path, "own"), Wire()
        notes.settle(arrived)
        requeue(lambda: iter(letters), notes, ToTopic(again, None))
        assert len(again.sent) == n


@pytest.mark.parametrize("n", [1, 2, 3])
def test_killed_while_writing_to_a_file_each_letter_is_in_it_once(tmp_path: Path, n: int) -> None:
    letters = [letter_at(i, value=b"%d" % i) for i in range(1300)]
    out = tmp_path / "out.jsonl"
    out.write_bytes(b"mine\n")

    def run(kill_at: int = 0) -> None:
        notes, sink = Notes(tmp_path / "notes", str(out)), JsonLinesSink(out)
        target = ToFile(sink, notes)
        if kill_at:
            end, left = notes.end, [kill_at]

            def killing() -> None:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                end()

            notes.end = killing  # type: ignore[method-assign]
        requeue(lambda: iter(letters), notes, target)
        sink.close()

    child = os.fork()
    if not child:
        run(n)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    run()
    assert out.read_bytes() == b"mine\n" + b"".join(b"%d\n" % i for i in range(1300))


def test_a_value_that_would_be_two_lines_is_not_sent_to_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write(tmp_path / "bad.jsonl", [letter_at(0, value=b"a\nb"), letter_at(1)]))
    to = str(tmp_path / "out")
    verb.requeue_letters(path, KAFKA, to, None, None, dry_run=True, state=None, unfinished=None)
    assert not Path(to).exists()
    verb.requeue_letters(path, KAFKA, to, None, None, dry_run=False, state=None, unfinished=None)
    out = capsys.readouterr().out
    assert out.startswith("would send 1 letters (not_json 1)")
    assert "sent 1 letters (not_json 1)" in out
    assert Path(to).read_bytes() == b"{\n"
    assert Path(path + ".requeued").exists()


def test_notes_of_another_target_and_torn_or_strange_notes(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes", "kafka://a")
    notes.begin([letter_at(1)])
    notes.end()
    with pytest.raises(StateError, match="kafka://a, wanted kafka://b"):
        Notes(tmp_path / "notes", "kafka://b")
    with (tmp_path / "notes").open("ab") as file:
        file.write(b'{"target":"kafka')
    torn = Notes(tmp_path / "notes", "kafka://a")
    assert torn.is_done(letter_at(1))
    torn.begin([letter_at(2)])
    torn.end()
    assert Notes(tmp_path / "notes", "kafka://a").done == {("clicks", 0, 1), ("clicks", 0, 2)}
    (tmp_path / "strange").write_bytes(b"[1]\n")
    with pytest.raises(StateError, match="no notes of a requeue"):
        Notes(tmp_path / "strange", "t")


def test_summaries_are_one_line_per_reason_and_safe_to_print() -> None:
    letters = [letter_at(n, REASONS[n % 2])._replace(detail="\x1b[0m") for n in range(7)]
    assert verb.summary(iter(letters)) == [
        "bad_time: 4 more, last clicks:0:6: \\u001b[0m",
        "not_json: 3 more, last clicks:0:5: \\u001b[0m",
    ]
