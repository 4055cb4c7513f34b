"""What cannot be used as given ends in one clear line and its exit code."""

from pathlib import Path

import pytest
from program import Warm, run_args, write_log

pytestmark = pytest.mark.timeout(900)  # the first test of all may have to compile every kernel


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["run", "absent.csv"], 2, "absent.csv: no such file"),
        (["run", "*.nothing"], 2, "*.nothing: no file matches"),
        (["run", "."], 2, ".: is a directory"),
        (["run", "kafka://clicks"], 2, "kafka://clicks: "),
        (["run", "log.csv", "--user-field", "who"], 2, "who"),
        (["run", "strange.csv"], 2, "strange.csv: "),
        (["run", "log.csv", "-c", "absent.toml"], 2, "absent.toml: cannot be read"),
        (["run", "log.csv", "-c", "broken.toml"], 2, "broken.toml: not a TOML file"),
        (
            ["run", "log.csv", "-c", "misspelt.toml"],
            2,
            "cut.cut_event: there is no such setting; do you mean cut.",
        ),
        (["run", "log.csv", "-c", "unknown.toml"], 2, "psychic"),
        (
            ["run", "log.csv", "--sink", "carrier:pigeon"],
            2,
            "--sink carrier:pigeon: wanted jsonl:FILE or none",
        ),
        (["run", "log.csv", "--sink", "jsonl:no/such/out"], 6, "no/such/out: cannot be written"),
        (["run", "log.csv", "--state", "log.csv"], 6, "log.csv"),
        (["inspect", "absent"], 4, "absent: holds no state"),
        (["verify", "absent", "--against", "log.csv"], 4, "absent: holds no state"),
        (["forecast", "--state", "absent", "--user", "u"], 4, "absent: holds no state"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(
    args: list[str], code: int, said: str, warm: Warm, folder: Path
) -> None:
    write_log(folder / "log.csv", ["u,m,1", "u,m,2"])
    (folder / "strange.csv").write_text("a,b,c\n1,2,3\n")
    (folder / "broken.toml").write_text("[cut\n")
    (folder / "misspelt.toml").write_text("[cut]\ncut_event = 5\n")
    (folder / "unknown.toml").write_text('[models]\nenabled = ["psychic"]\n')
    ended = warm.command(args, folder)
    assert (ended.code, ended.out) == (code, ""), ended.err
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("streamrec: ")
    assert said in line


def test_nothing_is_known_of_a_stranger(warm: Warm, folder: Path, log: Path) -> None:
    assert warm.command(run_args(log), folder).code == 0
    ended = warm.command(["forecast", "--state", "state", "--user", "nobody"], folder)
    assert (ended.code, ended.out) == (2, "")
    assert "user 'nobody': never seen" in ended.err
