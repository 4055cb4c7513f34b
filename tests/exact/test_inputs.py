"""The same events give the same bits, however they come in; a log that was exchanged is refused."""

import gzip
from pathlib import Path

import pytest
from program import SETTINGS, Kept, Warm, command, kept, lines, run_args, write_log

pytestmark = pytest.mark.timeout(900)  # the first test of all may have to compile every kernel


def with_poll(folder: Path, poll_events: int) -> str:
    """Name of a settings file that asks the source for so many records at once."""
    text = SETTINGS.replace("[cut]\n", f"[cut]\npoll_events = {poll_events}\n")
    (folder / "poll.toml").write_text(text)
    return "poll.toml"


@pytest.mark.parametrize("poll_events", [1, 7, 64, 100_000])
def test_what_is_read_at_once_changes_nothing(
    poll_events: int, warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    args = run_args(log, settings=with_poll(folder, poll_events))
    assert warm.command(args, folder, "after_emit:11").code == -9
    assert warm.command(args, folder).code == 0
    assert kept(folder) == straight


def test_two_fresh_processes_threads_asked_for_or_not_give_equal_bits(
    folder: Path, log: Path, straight: Kept
) -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "2")
    assert command(run_args(log), folder, {**threads, "PYTHONHASHSEED": "5"}).code == 0
    assert kept(folder) == straight


def test_a_packed_log_and_standard_input_teach_the_same(folder: Path, log: Path, straight: Kept) -> None:
    packed = folder / "log.csv.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    for name, stdin in ((str(packed), b""), ("-", log.read_bytes())):
        (folder / "out.jsonl").unlink(missing_ok=True)
        args = [name if arg == str(log) else arg for arg in run_args(log)]
        args[args.index("state")] = f"state{len(name)}"
        ended = command(args, folder, stdin=stdin)
        assert ended.code == 0, ended.err
        inspected = command(["inspect", f"state{len(name)}"], folder)
        assert inspected.out.splitlines()[0] == f"digest {straight.learned}"
        said = (
            (folder / "out.jsonl").read_bytes().replace(f'"id":"{name}:'.encode(), f'"id":"{log}:'.encode())
        )
        assert said == straight.forecasts


def test_files_one_after_the_other_teach_what_the_joined_log_teaches(
    warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    head, *data = log.read_text().splitlines()
    assert head == "user,mark,time"
    a, b = write_log(folder / "a.csv", data[:600]), write_log(folder / "b.csv", data[600:])
    assert warm.command(run_args(a, b), folder, "after_emit:12").code == -9
    assert warm.command(run_args(a, b), folder).code == 0
    two = kept(folder)
    assert (two.learned, two.n_events) == (straight.learned, straight.n_events)
    assert two.forecasts != straight.forecasts
    ids = {line.split(b":")[1].strip(b'"') for line in two.forecasts.splitlines()}
    assert ids == {str(a).encode(), str(b).encode()}
    joined = two.forecasts
    for number in range(len(data)):  # the ids apart, every forecast is the same
        there = number < 600
        place = f'"{a if there else b}:0:{number if there else number - 600}:'
        joined = joined.replace(place.encode(), f'"{log}:0:{number}:'.encode())
    assert joined == straight.forecasts
    assert warm.command(["verify", "state", "--against", str(b), "--against", str(a)], folder).code == 0


def test_a_log_out_of_order_is_sorted_and_resumed(warm: Warm, folder: Path, tmp_path: Path) -> None:
    data = lines(900, seed=3)
    log = write_log(folder / "log.csv", data[300:600] + data[:300] + data[600:])
    assert warm.command(run_args(log), folder, "after_emit:7").code == -9
    assert warm.command(run_args(log), folder).code == 0
    resumed = kept(folder)
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "settings.toml").write_text(SETTINGS)
    assert warm.command(run_args(log), whole).code == 0
    assert kept(whole) == resumed
    assert resumed.n_events == 900
    assert warm.command(["verify", "state", "--against", str(log)], folder).code == 0


def test_run_again_says_that_nothing_is_new_and_writes_nothing(
    warm: Warm, folder: Path, log: Path, straight: Kept
) -> None:
    assert warm.command(run_args(log), folder).code == 0
    before = sorted((p.name, p.stat().st_size) for p in folder.glob("*.jsonl"))
    journal = (folder / "state" / "journal-1.log").read_bytes()
    again = warm.command(run_args(log), folder)
    assert again.code == 0
    assert "nothing is new: all records were read before" in again.out
    assert kept(folder) == straight
    assert sorted((p.name, p.stat().st_size) for p in folder.glob("*.jsonl")) == before
    assert (folder / "state" / "journal-1.log").read_bytes() == journal
    entries = warm.command(["verify", "state", "--against", str(log)], folder).out
    assert entries.splitlines()[0] == "journal: 24 cuts, 1500 events"


def test_a_log_that_has_grown_goes_on(warm: Warm, folder: Path) -> None:
    data = lines(700, seed=4)
    log = write_log(folder / "log.csv", data[:400])
    assert warm.command(run_args(log), folder).code == 0
    first = kept(folder)
    write_log(log, data)
    assert warm.command(run_args(log), folder).code == 0
    grown = kept(folder)
    assert first.n_events < grown.n_events == 700
    assert grown.forecasts.startswith(first.forecasts)
    assert warm.command(["verify", "state", "--against", str(log)], folder).code == 0


def test_a_first_file_that_has_grown_since_the_second_was_read_can_still_be_verified(
    warm: Warm, folder: Path
) -> None:
    data = lines(600, seed=6)
    later = lines(700, seed=6)[len(data) :]
    a, b = write_log(folder / "a.csv", data[:300]), write_log(folder / "b.csv", data[300:])
    assert warm.command(run_args(a, b), folder).code == 0
    write_log(a, data[:300] + later)
    ended = warm.command(run_args(a, b), folder)
    assert ended.code == 0, ended.err
    assert kept(folder).n_events == 700
    assert warm.command(["verify", "state", "--against", str(a), "--against", str(b)], folder).code == 0


@pytest.mark.parametrize("what", ["other", "shorter", "inserted", "renamed"])
def test_a_log_that_is_not_the_one_that_was_read_is_refused(what: str, warm: Warm, folder: Path) -> None:
    data = lines(500, seed=5)
    log = write_log(folder / "log.csv", data)
    assert warm.command(run_args(log), folder).code == 0
    before = kept(folder)
    changed = {"other": lines(800, seed=9), "shorter": data[:300], "inserted": [data[0], *data]}
    write_log(folder / "log.csv", changed.get(what, data))
    if what == "renamed":
        log = write_log(folder / "other.csv", data)
    ended = warm.command(run_args(log), folder)
    assert ended.code == (2 if what == "renamed" else 4)
    said = [line for line in ended.err.splitlines() if "resumed after" not in line]
    assert len(said) == 1
    assert said[0].startswith("streamrec: ")
    assert "log.csv: " in said[0]
    assert kept(folder) == before


@pytest.mark.parametrize("what", ["shorter", "one mark"])
def test_verify_refuses_a_log_that_has_changed(what: str, warm: Warm, folder: Path) -> None:
    data = lines(500, seed=5)
    log = write_log(folder / "log.csv", data)
    assert warm.command(run_args(log), folder).code == 0
    changed = [line.replace(",m", ",x") if i == 300 else line for i, line in enumerate(data)]
    write_log(log, data[:300] if what == "shorter" else changed)
    ended = warm.command(["verify", "state", "--against", str(log)], folder)
    assert ended.code == 4
    wanted = "records 300 to" if what == "shorter" else "cannot be trusted"
    assert wanted in ended.err.splitlines()[-1]
