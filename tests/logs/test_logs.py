"""Log lines: one JSON object each, few of a kind, all of them counted, no user in plain sight."""

import errno
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec.diary import Diary, code_of
from streamrec.errors import DiskError, FencedError, UnavailableError
from streamrec.eventlog.clients import Bounds
from streamrec.logs import MAX_KINDS, Lines, current, hashed, logging_as
from streamrec.settings import LogSettings

ours = logging.getLogger("streamrec.somewhere")


class Scene:
    """Lines into a string, with the clock of the test."""

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self.stream = io.StringIO()
        self.lines = Lines(
            LogSettings(**{"format": "json", **settings}), self.stream, lambda: self.now, lambda: 1e9
        )

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def log(self, message: str, *args: object, level: int = logging.WARNING, **extra: object) -> None:
        record = ours.makeRecord(ours.name, level, "", 0, message, args, None, extra=extra)
        self.lines.handle(record)


@pytest.fixture
def clean() -> Iterator[None]:
    """The test's own handlers of pytest stay; levels are looked at."""
    root, before = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    levels = root.level, logging.getLogger("streamrec").level
    yield
    assert (root.level, logging.getLogger("streamrec").level) == levels
    assert current() is None
    root.setLevel(before)


def test_a_line_is_an_object_with_time_level_logger_event_and_what_is_known() -> None:
    scene = Scene()
    scene.log("%s records skipped", 7, lane=2, topic="clicks", partition=3, offset=99, strange="left out")
    assert scene.said == [
        {
            "ts": "2001-09-09T01:46:40.000Z",
            "level": "warning",
            "logger": "streamrec.somewhere",
            "event": "7 records skipped",
            "topic": "clicks",
            "partition": 3,
            "offset": 99,
            "lane": 2,
        }
    ]


@given(st.text(), st.sampled_from(["json", "text"]))
def test_whatever_is_said_is_one_line(message: str, form: str) -> None:
    scene = Scene(format=form)
    scene.log("%s", message, user="u")
    text = scene.stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    if form == "json":
        assert scene.said[0]["event"] == message


def test_a_user_is_hashed_unless_told_otherwise() -> None:
    scene, plain = Scene(), Scene(users="plain")
    for each in (scene, plain):
        each.log("asked", user="alice")
    assert scene.said[0]["user"] == hashed("alice")
    assert "alice" not in scene.stream.getvalue()
    assert plain.said[0]["user"] == "alice"


def test_an_exception_is_named_in_its_line() -> None:
    scene = Scene()
    try:
        raise DiskError("no room")
    except DiskError as error:
        told = (type(error), error, error.__traceback__)
        scene.lines.handle(ours.makeRecord(ours.name, logging.ERROR, "", 0, "failed", (), told))
    assert scene.said[0]["error"] == "DiskError: no room"


def test_of_one_kind_so_many_lines_come_and_then_the_number_of_the_others() -> None:
    scene = Scene(repeats=3)
    for n in range(40):
        scene.log("poll failed: %s", n, level=logging.WARNING)
    scene.log("another kind")
    assert [line["event"] for line in scene.said] == [
        "poll failed: 0",
        "poll failed: 1",
        "poll failed: 2",
        "another kind",
    ]
    scene.now += 9.99
    scene.lines.tick()
    assert len(scene.said) == 4, "the window has not passed"
    scene.now += 0.01
    scene.lines.tick()
    last = scene.said[-1]
    assert (last["event"], last["suppressed"], last["level"]) == ("poll failed: %s", 37, "warning")
    scene.log("poll failed: %s", 40)
    assert scene.said[-1]["event"] == "poll failed: 40", "a new window, a new allowance"
    assert scene.lines.counts == {"warning": 42}, "suppressed lines are counted"


def test_suppressed_lines_are_said_without_a_tick_and_at_the_end() -> None:
    scene = Scene(repeats=1)
    for _ in range(3):
        scene.log("again")
    scene.now += 10
    scene.log("again")
    assert [line.get("suppressed") for line in scene.said] == [None, 2, None]
    scene.log("again")
    scene.lines.close()
    assert [line.get("suppressed") for line in scene.said] == [None, 2, None, 1]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 12)), max_size=60), st.integers(1, 4))
def test_no_line_is_lost_without_being_counted(calls: list[tuple[int, float]], repeats: int) -> None:
    scene = Scene(repeats=repeats)
    for kind, pause in calls:
        scene.now += pause
        scene.log(f"kind {kind}")
    scene.lines.close()
    assert sum(line.get("suppressed", 1) for line in scene.said) == len(calls)
    assert scene.lines.counts.total() == len(calls)


def test_messages_without_end_share_one_allowance_once_there_are_too_many_kinds() -> None:
    scene = Scene(repeats=2)
    for n in range(MAX_KINDS + 50):
        scene.log(f"never the same {n}")
    assert len(scene.said) == MAX_KINDS + 2
    scene.lines.close()
    assert (scene.said[-1]["event"], scene.said[-1]["suppressed"]) == ("others", 48)


@pytest.mark.usefixtures("clean")
def test_libraries_are_heard_from_warning_on_through_the_same_lines() -> None:
    stream = io.StringIO()
    with logging_as(LogSettings(format="json"), stream) as lines:
        logging.getLogger("kafka.coordinator").info("heartbeat")
        logging.getLogger("kafka.coordinator").warning("no coordinator")
        logging.getLogger("confluent_kafka").error("down")
        ours.info("lane opened")
        ours.debug("not asked for")
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["logger"], line["level"]) for line in said] == [
        ("kafka.coordinator", "warning"),
        ("confluent_kafka", "error"),
        ("streamrec.somewhere", "info"),
    ]
    assert lines.counts == {"warning": 1, "error": 1, "info": 1}


@pytest.mark.usefixtures("clean")
def test_one_block_inside_of_another_says_nothing_twice() -> None:
    stream = io.StringIO()
    with logging_as(LogSettings(level="warning"), stream) as outer:
        with logging_as(LogSettings(format="json", level="debug")) as inner:
            assert inner is outer is current()
            ours.warning("once")
            ours.info("not asked for")
        ours.warning("twice")
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "warning streamrec.somewhere: once",
        "warning streamrec.somewhere: twice",
    ]


@pytest.mark.usefixtures("clean")
def test_the_diary_says_what_happens_to_lanes_partitions_and_errors() -> None:
    stream = io.StringIO()
    with logging_as(LogSettings(format="json", repeats=3), stream) as lines:
        diary = Diary(lines)
        diary.entered("restoring")
        diary.entered("degraded")
        diary.rebalanced("assigned", [("clicks", 1), ("clicks", 0)])
        diary.rebalanced("lost", [("clicks", 1)])
        diary.skipped(("clicks", 1), 959, "retention")
        diary.paused("disk", True)
        diary.paused("disk", False)
        diary.closed(4, kept=True)
        for _ in range(20):
            diary.failed("poll", UnavailableError("127.0.0.1: no answer"))
        diary.failed("fenced", FencedError("lane 4: another owner"))
        diary.ended(FencedError("lane 4: another owner"))
        diary.between()
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    briefly = [(line["level"], line["event"]) for line in said]
    assert briefly == [
        ("info", "loop is restoring"),
        ("warning", "loop is degraded"),
        ("info", "partitions assigned"),
        ("warning", "partitions lost"),
        ("warning", "gap skipped"),
        ("warning", "reading is held back"),
        ("info", "reading goes on"),
        ("info", "lane closed"),
        *[("warning", "poll failed: 127.0.0.1: no answer")] * 3,
        ("error", "fenced failed: lane 4: another owner"),
        ("critical", "loop ends: lane 4: another owner"),
        ("warning", "poll failed: %s"),
    ]
    assert said[-1]["suppressed"] == 17
    assert said[2]["partitions"] == "clicks[0] clicks[1]"
    assert (said[4]["n_records"], said[4]["cause"], said[4]["partition"]) == (959, "retention", 1)
    assert (said[7]["lane"], said[7]["kept"]) == (4, True)
    assert (said[8]["api"], said[8]["code"]) == ("poll", "UnavailableError")


def test_progress_is_a_line_in_ten_seconds_while_there_is_some() -> None:
    stream, now = io.StringIO(), [0.0]
    looks = [(1.0, 0, 0), (6.0, 90, 0), (11.0, 150, 50), (40.0, 150, 50), (45.0, 160, 50), (50.0, 160, 50)]
    with logging_as(LogSettings(format="json"), stream):
        diary = Diary(clock=lambda: now[0])
        bounds = {("clicks", 0): Bounds(0, 500), ("clicks", 1): Bounds(0, 300)}
        for at, first, second in looks:
            now[0] = at
            diary.looked(bounds, {("clicks", 0): first, ("clicks", 1): second}, {})
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["n_records"], line["per_s"], line["lag"]) for line in said] == [
        (200, 20, 600),
        (10, 1, 590),
    ]


def test_whoever_gets_no_partitions_is_told_so_once() -> None:
    stream, now = io.StringIO(), [0.0]
    with logging_as(LogSettings(format="json"), stream):
        diary = Diary(clock=lambda: now[0])
        now[0] = 60.0  # it took so long to load
        diary.entered("starting")
        for now[0] in (64.0, 66.0, 67.0):
            diary.between()
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert [event.partition(":")[0] for event in events] == ["loop is starting", "no partitions so far"]


def test_the_code_of_an_error_is_that_of_the_library_beneath() -> None:
    try:
        try:
            raise TimeoutError("late")
        except TimeoutError as cause:
            raise UnavailableError("no answer") from cause
    except UnavailableError as error:
        assert code_of(error) == "TimeoutError"
    assert code_of(UnavailableError("no answer")) == "UnavailableError"


def test_a_log_that_cannot_be_written_stops_nobody_and_goes_on_when_there_is_room() -> None:
    class Full(io.StringIO):
        full = True

        def flush(self) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")

    stream, now = Full(), [0.0]
    lines = Lines(LogSettings(repeats=1), stream, lambda: now[0], lambda: 0.0)
    record = logging.makeLogRecord({"name": "streamrec", "msg": "again", "levelname": "INFO"})
    for _ in range(3):
        lines.emit(record)
    now[0] = 60.0
    lines.tick()  # says what was suppressed
    stream.full = False
    lines.emit(record)
    assert stream.getvalue().splitlines()[-1].endswith("streamrec: again")
    assert lines.counts["info"] == 4
