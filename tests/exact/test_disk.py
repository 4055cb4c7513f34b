"""A disk that refuses, a state that is damaged or another's: one clear line, an exit code, nothing lost."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from program import SETTINGS, Kept, Warm, command, kept, run_args

pytestmark = pytest.mark.timeout(900)  # the first test of all may have to compile every kernel


def one_line(err: str) -> str:
    """The only line of ours in what a process said."""
    said = [line for line in err.splitlines() if line.startswith("streamrec: ")]
    assert len(said) == 1, err
    assert "Traceback" not in err
    return said[0]


@pytest.mark.parametrize("n", [1, 9])
def test_a_journal_that_cannot_be_written_stops_the_run_and_nothing_is_lost(
    n: int, warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    ended = warm.command(run_args(log), folder, f"before_journal:{n}:raise")
    assert ended.code == 6
    assert "journal-1.log cannot take another entry" in one_line(ended.err)
    assert warm.command(run_args(log), folder).code == 0
    assert kept(folder) == straight


@pytest.mark.parametrize(
    "place", ["before_sync:5", "before_transaction:3", "mid_transaction:3", "before_generation:2"]
)
def test_a_checkpoint_that_fails_stops_nothing(
    place: str, warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    ended = warm.command(run_args(log), folder, f"{place}:raise")
    assert ended.code == 0, ended.err
    assert kept(folder) == straight


def test_a_checkpoint_that_failed_is_made_up_for_by_the_next(
    warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    """Its rows wait, and go with the next one, after which the process is killed."""
    (folder / "settings.toml").write_text(SETTINGS.replace("every_events = 100", "every_events = 500"))
    ended = warm.command(run_args(log), folder, "mid_transaction:2:raise")
    assert ended.code == 0, ended.err
    assert kept(folder) == straight


def test_a_sink_that_cannot_be_written_stops_the_run(warm: Warm, folder: Path, log: Path) -> None:
    args = ["run", str(log), "-c", "settings.toml", "--sink", "jsonl:/dev/full"]
    for more in ([], ["--state", "state"]):
        ended = warm.command([*args, *more], folder)
        assert ended.code == 6
        assert "/dev/full: cannot be written (No space left on device)" in one_line(ended.err)


@pytest.mark.parametrize("limit", [200_000, 800_000])
def test_a_disk_that_is_full_somewhere_stops_the_run_and_with_more_room_it_goes_on(
    limit: int, warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    ended = command(run_args(log), folder, limit_bytes=limit)
    assert ended.code == 6, ended.err
    assert one_line(ended.err)
    resumed = warm.command(run_args(log), folder)
    assert resumed.code == 0, resumed.err
    assert kept(folder) == straight


def damage(path: Path) -> None:
    """Overwrite all of a file but its first page: a smaller hole may lie in pages that hold nothing."""
    data = path.read_bytes()
    path.write_bytes(data[:16_384] + b"\xa5" * (len(data) - 16_384))


@pytest.mark.parametrize("what", ["damaged", "gone", "behind"])
def test_a_damaged_file_is_replaced_by_a_generation_and_the_run_is_done_again_from_there(
    what: str, warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    assert warm.command(run_args(log), folder, "after_emit:15").code == -9
    state = folder / "state" / "lane.sqlite"
    state.with_name("lane.sqlite-wal").unlink()  # else it would mend the file
    if what == "damaged":
        damage(state)
    elif what == "gone":
        state.unlink()
    ended = warm.command(run_args(log), folder)
    assert ended.code == 0, ended.err
    assert what == "behind" or "went back to generation-" in ended.err
    assert kept(folder) == straight
    assert warm.command(["verify", "state", "--against", str(log)], folder).code == 0


def test_where_nothing_verifies_the_run_is_refused(warm: Warm, folder: Path, log: Path) -> None:
    assert warm.command(run_args(log), folder).code == 0
    for path in [*(folder / "state").glob("*.sqlite")]:
        damage(path)
    before = (folder / "out.jsonl").read_bytes()
    ended = warm.command(run_args(log), folder)
    assert ended.code == 4
    assert "no state verifies" in one_line(ended.err)
    assert (folder / "out.jsonl").read_bytes() == before


def with_head(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Rewrite the head of a state, its hash included, as another program would have written it."""
    with closing(sqlite3.connect(folder / "state" / "lane.sqlite")) as file, file:
        head = json.loads(file.execute("SELECT head FROM lane").fetchone()[0])
        change(head)
        text = json.dumps(head, sort_keys=True)
        file.execute("UPDATE lane SET head = ?, hash = ?", (text, hashlib.sha256(text.encode()).hexdigest()))


@pytest.mark.parametrize("verb", ["run", "inspect", "verify", "forecast"])
def test_a_state_of_another_version_is_refused(verb: str, warm: Warm, folder: Path, log: Path) -> None:
    assert warm.command(run_args(log), folder).code == 0
    with_head(folder, lambda head: head.update(schema=99))
    args = {
        "run": run_args(log),
        "inspect": ["inspect", "state"],
        "verify": ["verify", "state", "--against", str(log)],
        "forecast": ["forecast", "--state", "state", "--user", "u1"],
    }
    ended = warm.command(args[verb], folder)
    assert ended.code == 4
    assert "state of schema 99, but this program reads and writes schema 1" in one_line(ended.err)


def test_verify_on_another_kind_of_machine_says_that_it_cannot_compare(
    warm: Warm, folder: Path, log: Path
) -> None:
    assert warm.command(run_args(log), folder).code == 0
    with_head(folder, lambda head: head["machine"].update(numpy="0.1"))  # type: ignore[attr-defined]
    ended = warm.command(["verify", "state", "--against", str(log)], folder)
    assert ended.code == 4
    assert "not comparable, made on another kind of machine (numpy differ" in one_line(ended.err)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"log_normal", ', "", "models.enabled"),
        ("[cut]", "seed = 5\n[cut]", "models.seed: stored 0, now 5"),
        ("[cut]", "[order]\nlateness_s = 3.0\n[cut]", "order.lateness_s: stored 0.0, now 3.0"),
    ],
)
def test_other_settings_that_shape_the_state_are_refused_by_name(
    old: str, new: str, named: str, warm: Warm, folder: Path, log: Path
) -> None:
    assert warm.command(run_args(log), folder).code == 0
    before = kept(folder)
    (folder / "settings.toml").write_text(SETTINGS.replace(old, new))
    ended = warm.command(run_args(log), folder)
    assert ended.code == 4
    assert named in one_line(ended.err)
    assert kept(folder) == before


def test_an_output_that_is_not_the_one_it_was_is_left_alone(warm: Warm, folder: Path, log: Path) -> None:
    assert warm.command(run_args(log), folder, "after_emit:9").code == -9
    ours = (folder / "out.jsonl").read_bytes()
    precious = b"a diary, of all things\n" * 100_000
    (folder / "out.jsonl").write_bytes(precious)
    ended = warm.command(run_args(log), folder)
    assert ended.code == 4
    assert "is not the file that the state has written" in one_line(ended.err)
    assert (folder / "out.jsonl").read_bytes() == precious
    (folder / "out.jsonl").write_bytes(ours[:100])
    ended = warm.command(run_args(log), folder)
    assert ended.code == 4
    assert "bytes are gone" in one_line(ended.err)


def test_an_output_that_comes_later_begins_where_its_file_ends(
    warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    args = run_args(log)
    at = args.index("--sink")
    without = args[:at] + args[at + 2 :]
    assert warm.command(without, folder, "after_emit:9").code == -9
    (folder / "out.jsonl").write_bytes(b"kept\n")
    assert warm.command(args, folder, "after_emit:5").code == -9
    assert warm.command(args, folder).code == 0
    after = kept(folder)
    assert (after.learned, after.letters) == (straight.learned, straight.letters)
    first, rest = after.forecasts.split(b"\n", 1)
    assert first == b"kept"
    assert straight.forecasts.endswith(rest)
    assert len(rest) > len(straight.forecasts) // 3
