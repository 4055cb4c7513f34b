"""F12, F13: a disk that refuses for a while, and states that are damaged.

A limit on the length of files (`prlimit` from outside) plays a full disk for one process, whoever runs the
test; where file systems may be mounted, a small one is filled up or turned read-only.
"""

import hashlib
import json
import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from bad_streams import Page, free_port
from daemons import Daemon
from stage import Stage, events

FIXED: dict[str, Any] = {"cut.mode": "fixed", "cut.cut_events": 64}
OFTEN: dict[str, Any] = {"checkpoint.every_events": 100, "checkpoint.generation_every": 1}
LINES_PER_S = 10.0


def wait_until(holds: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@contextmanager
def no_file_beyond(pid: int, size: int) -> Iterator[None]:
    """Writes of a process behind this byte of any file fail while the block runs."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def journal_bytes(stage: Stage) -> int:
    return sum(path.stat().st_size for path in stage.state.rglob("journal-*.log"))


def started(stage: Stage) -> tuple[Daemon, Page]:
    """A daemon that has learned 800 events."""
    port = free_port()
    stage.produce(events(800))
    member = stage.daemon("a", http__port=port, kafka__group_instance_id="one")
    stage.wait_until_applied()
    page = Page(port)
    wait_until(lambda: page.get("/readyz")[0] == 200, "ready")
    return member, page


@pytest.mark.parametrize("then", ["room", "killed"])
def test_f12_while_checkpoints_fail_it_serves_and_learns_and_commits_nothing(stage: Stage, then: str) -> None:
    member, page = started(stage)
    before = stage.kept()
    with no_file_beyond(member.pid, journal_bytes(stage) + 20_000):
        stage.produce(events(1500, seed=1, start=1.75e9))
        wait_until(lambda: page.total("applied_offset", "partition") == 2300, "learns on")
        wait_until(lambda: page.total("checkpoints_total", "outcome", "error") >= 2, "checkpoints fail")
        assert page.get("/readyz")[0] == 200
        assert page.get("/forecast/u1")[0] == 200
        assert stage.kept() == before
        assert page.total("committed_offset", "partition") <= sum(before.values()) == 800
        assert member.code is None
        if then == "killed":
            member.kill()
    if then == "killed":
        stage.daemon("b", kafka__group_instance_id="one")
    stage.wait_until_applied()
    stage.end()
    stage.check()


def test_f12_while_the_journal_cannot_be_written_it_serves_and_waits(stage: Stage) -> None:
    member, page = started(stage)
    said = len(member.said().splitlines())
    with no_file_beyond(member.pid, journal_bytes(stage)):
        stage.produce(events(1000, seed=1, start=1.75e9))
        wait_until(lambda: page.get("/readyz")[0] == 503, "not ready")
        wait_until(lambda: page.total("paused", "reason", "disk") == 1, "reading is held back")
        time.sleep(3.0)
        assert member.code is None, member.said()[-3000:]
        assert page.get("/livez")[0] == 200
        assert page.get("/forecast/u1")[0] == 200
        assert b"journal" in page.get("/readyz")[1]
        assert page.total("applied_offset", "partition") <= 864  # at most the cut that waits for the journal
        assert page.total("disk_errors_total", "api") >= 1
    stage.wait_until_applied()
    wait_until(lambda: page.get("/readyz")[0] == 200, "ready again")
    wait_until(lambda: page.total("paused", "reason", "disk") == 0, "reading goes on")
    assert len(member.said().splitlines()) - said <= LINES_PER_S * 4
    assert len(stage.daemons) == 1 and member.code is None
    stage.end()
    stage.check()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_f12_a_disk_without_room_is_waited_for(stage: Stage, small_disk: Path) -> None:
    port, state, ballast = free_port(), small_disk / "state", small_disk / "ballast"
    page = Page(port)
    stage.produce(events(800))
    member = stage.daemon("a", state=state, http__port=port)
    stage.wait_until_applied(state=state)
    stage.produce(events(6000, seed=1, start=1.75e9))
    wait_until(lambda: fill(ballast) and page.get("/readyz")[0] == 503, "not ready")
    said = len(member.said().splitlines())
    time.sleep(2.0)
    assert page.get("/forecast/u1")[0] == 200
    assert len(member.said().splitlines()) - said <= LINES_PER_S * 2
    assert sum(stage.kept(state).values()) < 6800
    ballast.unlink()
    stage.wait_until_applied(state=state)
    stage.end()
    stage.check(state)


def fill(ballast: Path) -> bool:
    """Take all room there is, also what was given back since."""
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return True


ONCE = [
    *("before_journal:3:raise", "before_journal:3:EIO", "before_journal:3:EROFS"),
    *("before_sync:3:raise", "before_sync:3:EIO"),
    *("before_transaction:3:EIO", "mid_transaction:3:raise", "mid_transaction:3:EIO"),
    *("before_generation:2:raise", "mid_generation:2:EIO"),
]


@pytest.mark.parametrize("point", ONCE)
def test_f12_one_refused_write_anywhere_changes_nothing(stage: Stage, point: str) -> None:
    stage.settings |= FIXED | OFTEN
    stage.produce(events(1500))
    member = stage.daemon("a", args=["--until-end"], env={"STREAMREC_FAILPOINT": point})
    assert member.ended(60) == 0, member.said()[-3000:]
    assert "streamrec" in member.said()
    stage.check()
    assert stage.learned() == stage.undisturbed()


def flip(path: Path) -> None:
    """Another bit in the middle of every page but the first."""
    data = bytearray(path.read_bytes())
    for at in range(4096 + 2048, len(data), 4096):
        data[at] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def generations(path: Path) -> list[Path]:
    """Older copies beside a lane's file, the oldest first."""
    return sorted(path.parent.glob("generation-*.sqlite"))  # epoch and number stand there with their zeros


def grow_old(path: Path) -> None:
    """Its oldest copy stands where it stood, whole."""
    path.write_bytes(generations(path)[0].read_bytes())


def exchange(path: Path) -> None:
    """It is empty, and the two newest copies stand in each other's place."""
    empty(path)
    one, other = generations(path)[-2:]
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flip,
    "truncated": halve,
    "of length zero": empty,
    "gone": Path.unlink,
    "an older one": grow_old,
    "empty, its copies exchanged": exchange,
}


def lane_file(stage: Stage) -> Path:
    return next(stage.state.rglob("lane.sqlite"))


def killed_in_the_middle(stage: Stage) -> None:
    """A state with generations behind it, of a daemon that was killed."""
    stage.settings |= FIXED | OFTEN
    stage.produce(events(2500))
    member = stage.daemon("a", kafka__group_instance_id="one")
    stage.wait_until_kept(1000)
    wait_until(lambda: len(generations(lane_file(stage))) >= 3, "three generations")
    member.kill()
    for beside in stage.state.rglob("lane.sqlite-*"):
        beside.unlink()  # a log that is beside it would mend the file


@pytest.mark.parametrize("what", DAMAGES)
def test_f13_a_damaged_state_is_left_for_an_older_one_and_the_topic_is_read_again(
    stage: Stage, what: str
) -> None:
    killed_in_the_middle(stage)
    DAMAGES[what](lane_file(stage))
    last = stage.daemon("b", args=["--until-end"], kafka__group_instance_id="one")
    assert last.ended(60) == 0, last.said()[-3000:]
    assert "went back to generation-" in last.said()
    stage.check()
    assert stage.learned() == stage.undisturbed()


def test_f13_damaged_generations_are_passed_over_too(stage: Stage) -> None:
    killed_in_the_middle(stage)
    flip(lane_file(stage))
    halve(generations(lane_file(stage))[-1])
    last = stage.daemon("b", args=["--until-end"], kafka__group_instance_id="one")
    assert last.ended(60) == 0, last.said()[-3000:]
    assert "went back to generation-" in last.said()
    stage.check()
    assert stage.learned() == stage.undisturbed()


def test_f13_where_nothing_verifies_the_daemon_says_so_and_begins_nothing_anew(stage: Stage) -> None:
    killed_in_the_middle(stage)
    for path in stage.state.rglob("*.sqlite"):
        flip(path)
    last = stage.daemon("b", args=["--until-end"], kafka__group_instance_id="one")
    assert last.ended(60) == 4, last.said()[-3000:]
    assert "no state verifies" in last.said()
    assert "Traceback" not in last.said()


def test_f13_a_state_of_another_version_or_other_settings_is_refused_and_left_alone(stage: Stage) -> None:
    killed_in_the_middle(stage)
    other = stage.daemon("b", args=["--until-end"], order__lateness_s=3.0, kafka__group_instance_id="one")
    assert other.ended(60) == 4, other.said()[-3000:]
    assert "order.lateness_s: stored 0.0, now 3.0" in other.said()
    good = lane_file(stage).read_bytes()
    of_another_version(lane_file(stage))
    later = stage.daemon("c", args=["--until-end"], kafka__group_instance_id="one")
    assert later.ended(60) == 4, later.said()[-3000:]
    assert "state of schema 99" in later.said()
    lane_file(stage).write_bytes(good)
    last = stage.daemon("d", args=["--until-end"], kafka__group_instance_id="one")
    assert last.ended(60) == 0, last.said()[-3000:]
    stage.check()


def of_another_version(path: Path) -> None:
    """As a later program would have written it, the hash included."""
    with closing(sqlite3.connect(path)) as file, file:
        head = json.loads(file.execute("SELECT head FROM lane").fetchone()[0]) | {"schema": 99}
        text = json.dumps(head, sort_keys=True)
        file.execute("UPDATE lane SET head = ?, hash = ?", (text, hashlib.sha256(text.encode()).hexdigest()))
