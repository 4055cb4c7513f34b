"""streamrec judge on files: figures, outcomes, gauges, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from judged import lines, toy_forecasts
from prometheus_client import CollectorRegistry, generate_latest

from streamrec.cli import app
from streamrec.errors import ConfigError
from streamrec.judge.gauges import PREFIX, TABLE, Gauges
from streamrec.verbs.judging import Asked, judge

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rooms" / "judge.md"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A file of events in order of time, and one of forecasts that names it by another path."""
    log = {("elsewhere/log.jsonl", 0): list(dict.fromkeys(lines(200, late=0.0)["log", 0]))}
    events, forecasts = tmp_path / "log.jsonl", tmp_path / "out.jsonl"
    events.write_bytes(b"".join(line + b"\n" for line in log["elsewhere/log.jsonl", 0]))
    forecasts.write_bytes(b"".join(line + b"\n" for line in toy_forecasts(log, 90)) + b"nonsense\n")
    return str(events), str(forecasts)


def judged(files: Sequence[str], tmp_path: Path, **more: Any) -> dict[str, Any]:
    json_file = tmp_path / "figures.json"
    judge(Asked(files[1], [files[0]], **more), None, {}, json_file)
    figures: dict[str, Any] = json.loads(json_file.read_text())
    return figures


def test_files_are_judged_and_every_answer_is_a_line(files: tuple[str, str], tmp_path: Path) -> None:
    figures = judged(files, tmp_path, outcomes=tmp_path / "outcomes.jsonl", window_s=3600.0)
    assert figures["forecasts"]["bad"] == 1
    assert figures["events"]["judged"] > 50
    assert figures["events"]["outside"] == figures["events"]["waiting"] == 0
    answers = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_bytes().splitlines()]
    for outcome in ("hit", "miss", "expired", "superseded"):
        n = figures["outcomes"][outcome]
        assert sum(answer["outcome"] == outcome for answer in answers) == n
        assert sum(window["outcomes"][outcome] for window in figures["windows"]) == n
    ranks = [mark["rank"] for answer in answers for mark in answer["marks"]]
    assert figures["mark_issued"]["hit@1"] == pytest.approx(sum(r <= 1 for r in ranks) / len(ranks))


def test_every_gauge_is_set_and_stands_in_the_manual(files: tuple[str, str], tmp_path: Path) -> None:
    registry = CollectorRegistry()
    Gauges(registry).show(judged(files, tmp_path))
    text, page = generate_latest(registry).decode(), PAGE.read_text(encoding="utf-8")
    assert [name for name in TABLE if f"\n{PREFIX}{name}{{" not in text] == []
    assert [
        name
        for name in TABLE
        if f"| `{PREFIX}{name}` | {', '.join(TABLE[name][1])} | {TABLE[name][0]} |" not in page
    ] == []


def test_files_cannot_be_followed_and_what_is_not_there_is_said(
    files: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="wanted topics, got files"):
        judged(files, tmp_path, follow=True)
    with pytest.raises(ConfigError, match=r"no such file; give a file of forecasts or kafka://TOPIC"):
        judged((files[0], "absent.jsonl"), tmp_path)
    with pytest.raises(ConfigError, match="wanted more than 0"):
        judged(files, tmp_path, max_waiting=0)


def test_the_verbs_are_on_the_command_line() -> None:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {group.name for group in app.registered_groups}
    assert "judge" in names
    assert "dlq" in groups
