"""The default bank, torch and all, and a real log: killed, resumed, replayed, to the bit."""

import gzip
from pathlib import Path

import pytest
from program import SETTINGS, Warm, command, kept, run_args

pytestmark = pytest.mark.timeout(900)  # the first test of all may have to compile every kernel

BANK = SETTINGS[SETTINGS.index("[cut]") :].replace("cut_events = 64", "cut_events = 128")


@pytest.fixture
def helpdesk(data: Path, tmp_path: Path) -> Path:
    """The first 1,500 events of a real log, with recorded ties."""
    with gzip.open(data / "helpdesk.csv.gz", "rt") as file:
        lines = [next(file).rstrip("\n") for _ in range(1501)]
    path = tmp_path / "helpdesk.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_whole_bank_killed_before_and_after_its_update_is_the_undisturbed_run(
    helpdesk: Path, tmp_path: Path, warm: Warm
) -> None:
    folders = [tmp_path / "straight", tmp_path / "disturbed"]
    for folder in folders:
        folder.mkdir()
        (folder / "settings.toml").write_text(BANK)
    args = run_args(helpdesk)
    straight = command(args, folders[0])
    assert straight.code == 0, straight.err
    for place, threads in (("before_update:4", "1"), ("after_update:3", "2")):
        env = {"STREAMREC_FAILPOINT": place, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        assert command(args, folders[1], env).code == -9
    assert command(args, folders[1], {"OMP_NUM_THREADS": "2"}).code == 0
    said = [warm.command(["inspect", "state"], folder).out.splitlines()[:5] for folder in folders]
    assert said[0] == said[1]
    assert [line.split()[0] for line in said[0]] == ["digest", "position", "events", "users", "marks"]
    for name in ("out.jsonl", "bad.jsonl"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    verified = command(["verify", "state", "--against", str(helpdesk)], folders[1])
    assert verified.code == 0, verified.err


def test_a_real_log_with_a_small_bank(helpdesk: Path, tmp_path: Path, warm: Warm) -> None:
    folders = [tmp_path / "straight", tmp_path / "disturbed"]
    for folder in folders:
        folder.mkdir()
        (folder / "settings.toml").write_text(SETTINGS)
    args = run_args(helpdesk)
    assert warm.command(args, folders[0]).code == 0
    for place in ("mid_cut:5", "after_transaction:2", "in_restore:3", "after_update:4"):
        assert warm.command(args, folders[1], place).code == -9
    assert warm.command(args, folders[1]).code == 0
    assert kept(folders[0]) == kept(folders[1])
