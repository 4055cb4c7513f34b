"""What a person sees who misspells something: one line that says what to do, and an exit code."""

from pathlib import Path

import pytest

from streamrec import __version__
from streamrec.cli import main

MISUSED = {
    "run --grup g kafka://clicks": "No such option: --grup (Possible options: --group); see",
    "rum events.csv": "No such command 'rum'. Did you mean 'run'? See",
    "run": "Missing argument 'inputs'; see",
    "forecast --user u1": "Missing option '--state'; see",
    "simulate hawkes --events many": "Invalid value for '--events'",
    "run kafka://clicks": "kafka://clicks: a live topic needs --state FOLDER",
    "run kafka:clicks --state state": "kafka:clicks: wanted kafka://clicks",
    "run kafka://clicks events.csv --state state": "topics and files cannot be read in one run",
    "run kafka://clicks --state state --sink kafak:out": "--sink kafak:out: wanted kafka:TOPIC",
    "run kafka://clicks --state state --on-gap maybe": "kafka.on_gap: Input should be 'fail' or 'skip'",
    "replay absent.csv --to kafka://clicks": "absent.csv: no such file",
    "dlq requeue kafka://letters": "kafka://letters: --state FILE is needed",
    "judge --forecasts f.jsonl --events e.jsonl --follow": "--follow: wanted topics, got files",
}
SETTINGS = {
    "STREAMREC_KAFKA__BOOTSTRP": (
        "a:1",
        "kafka.bootstrp: there is no such setting; do you mean kafka.bootstrap?",
    ),
    "STREAMREC_KAFKA__CLIENT": ("librdkafka", "kafka.client: Input should be 'kafka-python' or 'confluent'"),
}


def ended(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and the one line on stderr."""
    with pytest.raises(SystemExit) as exit:
        main(words)
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said.startswith("streamrec: ")
    return int(exit.value.code or 0), said


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", MISUSED)
def test_a_call_that_cannot_be_ends_in_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(words.split(), capsys)
    assert (code, MISUSED[words] in said) == (2, True), said


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_cannot_be_ends_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value, expected = SETTINGS[name]
    monkeypatch.setenv(name, value)
    code, said = ended(["run", "kafka://clicks", "--state", "state"], capsys)
    assert (code, expected in said) == (2, True), said


@pytest.mark.parametrize(
    "verb", ["inspect state", "verify state --against e.csv", "forecast --state state --user u"]
)
def test_a_folder_without_a_state_is_named(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(verb.split(), capsys)
    assert (code, "state: holds no state" in said) == (4, True), said


@pytest.mark.parametrize("verb", ["run kafka://clicks --state state", "dlq list kafka://clicks"])
def test_a_broker_that_is_not_there_is_exit_code_3(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMREC_KAFKA__REQUEST_TIMEOUT_S", "0.5")
    code, said = ended([*verb.split(), "--bootstrap", "127.0.0.1:1"], capsys)
    assert (code, said.startswith("streamrec: 127.0.0.1:1: no answer")) == (3, True), said


def test_without_a_verb_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main([])
    assert exit.value.code == 2
    assert "requeue" not in (listed := capsys.readouterr().out)
    assert all(verb in listed for verb in ("run", "judge", "replay", "dlq", "state"))


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert (exit.value.code, capsys.readouterr().out) == (0, f"streamrec {__version__}\n")
