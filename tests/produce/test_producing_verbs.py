"""simulate and replay on the command line, as far as they need no broker."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamrec.cli import app
from streamrec.errors import ConfigError, StreamrecError
from streamrec.event import Event
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import open_files
from streamrec.verbs.producing import Route

RECIPE = ["simulate", "sessions", "--events", "500", "--users", "20", "--seed", "4"]


def run(*arguments: str) -> str:
    """What a verb prints; its error, if it has one."""
    result = CliRunner().invoke(app, [*arguments])
    if result.exception and isinstance(result.exception, StreamrecError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_file_with_faults_holds_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "faults.jsonl"
    faults = ["--poison", "0.2", "--duplicates", "0.1", "--late", "0.1", "--lateness", "60", "--shuffle", "8"]
    said = json.loads(run(*RECIPE, *faults, "-o", str(path), "--json"))
    source = open_files([str(path)], FieldNames())
    bins: Counter[str] = Counter()
    ids: Counter[str | None] = Counter()
    while records := source.poll(1000):
        for read in source.decode_many(records):
            bins["event" if isinstance(read, Event) else read.reason] += 1
            ids.update([read.id] if isinstance(read, Event) else [])
    assert bins.pop("event") == said["bins"]["ok"] + said["bins"]["late"] + said["bins"]["duplicate"]
    assert dict(bins) == said["reasons"]
    assert sum(n - 1 for n in ids.values()) == said["planted"]["duplicate"] == 50
    assert sum(said["bins"].values()) == said["lines"]


def test_a_seed_fixes_a_file_of_lines(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        run(*RECIPE, "--poison", "0.1", "-o", str(tmp_path / name))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_csv_file_keeps_the_columns_of_the_oracle(tmp_path: Path) -> None:
    run(*RECIPE, "-o", str(tmp_path / "a.csv"))
    head = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert head == "user,mark,time,oracle_log_density,oracle_log_p_mark,oracle_cumulative_hazard"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--poison", "0.1", "-o", "a.csv"], "need JSON lines"),
        (["--json"], "need JSON lines"),
        (["--to", "kafka://a", "-o", "a.jsonl"], "wanted one of them"),
        (["--late", "2", "-o", "a.jsonl"], "share between 0 and 1"),
        (["--to", "clicks"], r"wanted kafka://TOPIC"),
    ],
)
def test_what_does_not_go_together_is_refused(more: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(*RECIPE, *more)


@pytest.mark.parametrize("to", ["clicks", "kafka://", "kafka://a/b", "kafka://ä", "kafka://" + "a" * 250])
def test_a_route_that_names_no_topic_is_refused(to: str) -> None:
    with pytest.raises(ConfigError, match="wanted kafka://TOPIC"):
        _ = Route(to).topic


def test_a_replay_of_a_topic_is_refused() -> None:
    with pytest.raises(ConfigError, match="give files"):
        run("replay", "kafka://clicks", "--to", "kafka://other")
