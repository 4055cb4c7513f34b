"""The documentation says what the program does: pages made from code, links, examples, names."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, verbs

from streamrec.evaluate import evaluate
from streamrec.event import Event
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource
from streamrec.lane import Lane
from streamrec.metrics.marks import SLICES
from streamrec.models.bank import DEFAULT_BANK, NAIVE
from streamrec.outputs import Outputs
from streamrec.settings import ModelsSettings, Settings
from streamrec.stream import Coded, Events

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROSE = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
TEXT = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PROSE}
MADE_BY_VERBS = ("input", "ties", "universe")


def blocks(language: str) -> list[tuple[str, str]]:
    """(file, code) of every fenced block of a language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(name, code) for name, text in TEXT.items() for code in fence.findall(text)]


@pytest.mark.parametrize("page", PAGES)
def test_pages_made_from_code_are_up_to_date(page: str) -> None:
    hint = "run: .venv/bin/python tests/docs/pages.py"
    assert (DOCS / page).read_text(encoding="utf-8") == PAGES[page](), hint


def test_every_setting_has_a_description_and_a_time_has_its_unit_in_its_name() -> None:
    fields = {name: field for _, section in Settings() for name, field in type(section).model_fields.items()}
    assert [name for name, field in fields.items() if not field.description] == []
    numbers = {name for name, field in fields.items() if "float" in str(field.annotation)}
    assert numbers
    assert [name for name in numbers if not name.endswith("_s")] == []


def test_every_verb_has_help_with_an_example_and_every_option_a_meaning() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for name, command in verbs():
        assert f"\n## {name}\n" in page
        assert f"streamrec {name}" in command.help, f"{name}: no example"
    assert not re.search(r"\| *\|$", page, re.MULTILINE), "an option without a meaning"


def test_every_key_of_an_evaluation_is_defined() -> None:
    page = TEXT["docs/metrics.md"]
    few = Settings(models=ModelsSettings(enabled=("context_1", "gamma_poisson")))
    events = [Event(f"u{i % 5}", f"m{i % 3}", 10.0 * i) for i in range(60)]
    log = Coded(MemorySource.of_events(events), JsonCodec(FieldNames()), len(events))
    figures = evaluate(Events(log), Lane(few, Outputs()))
    missing = {key for key in (*keys(figures), *MADE_BY_VERBS) if f"`{key}`" not in page}
    assert missing == set()


def keys(figures: Mapping[str, Any]) -> Iterator[str]:
    """Every key of a nested report but the names of forecasters."""
    for key, value in figures.items():
        yield key
        inner = value.values() if key in ("experts", "naive") else [value]
        for one in inner:
            if isinstance(one, Mapping):
                yield from keys(one)
        if key == "windows":
            yield from keys(value[0])


def test_the_slices_and_the_bins_are_defined() -> None:
    page = TEXT["docs/metrics.md"]
    assert all(f"`{name}`" in page for name in (*SLICES, "late", "duplicate", "dead_letter", "skipped"))


def test_every_model_has_a_line_in_its_room() -> None:
    page = TEXT["docs/rooms/models.md"]
    assert [name for name in (*DEFAULT_BANK, *NAIVE) if f"`{name}`" not in page] == []


def test_every_room_has_a_page_and_every_file_a_line_in_one() -> None:
    pages = "\n".join(text for name, text in TEXT.items() if name.startswith("docs/rooms/"))
    files = {p.name for p in (ROOT / "streamrec").rglob("*.py") if p.name != "__init__.py"}
    assert sorted(name for name in files if not named(name, pages)) == []


def named(name: str, pages: str) -> bool:
    """A file stands on a page by its name, or by the beginning of it and a star."""
    stars = re.findall(r"`(?:\w+/|\.\./)*(\w+)\*\.py`", pages)
    return bool(re.search(rf"[`/]{re.escape(name)}`", pages)) or any(name.startswith(s) for s in stars)


@pytest.mark.parametrize("name", TEXT)
def test_links_lead_somewhere(name: str) -> None:
    here = (ROOT / name).parent
    targets = re.findall(r"\]\(([^)#\s]+)", TEXT[name])
    local = [t for t in targets if not t.startswith(("https://", "http://"))]
    assert [t for t in local if not (here / t).exists()] == []


@pytest.mark.parametrize(("name", "code"), blocks("python"))
def test_python_examples_run(name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), {})


@pytest.mark.parametrize(("name", "code"), blocks("json"))
def test_json_examples_are_json(name: str, code: str) -> None:
    assert json.loads(code), name


def test_the_example_of_the_readme_has_eight_lines() -> None:
    ((_, code),) = [b for b in blocks("python") if b[0] == "README.md"]
    assert len([line for line in code.splitlines() if line]) <= 9


def test_tests_named_in_the_contracts_exist() -> None:
    promised = re.findall(r"`((?:\w+/)+\w+\.py)::(\w+)`", TEXT["docs/contracts.md"])
    assert len(promised) > 40
    sources = {file: (ROOT / "tests" / file).read_text(encoding="utf-8") for file, _ in promised}
    assert [f"{file}::{test}" for file, test in promised if f"def {test}(" not in sources[file]] == []


def test_every_dependency_has_a_line_with_its_reason() -> None:
    import tomllib  # noqa: PLC0415

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[>=<\[]", line)[0] for line in declared}
    listed = set(re.findall(r"^\| `([\w-]+)` \|", TEXT["docs/dependencies.md"], re.MULTILINE))
    assert names == listed


def test_the_readme_reaches_the_first_success_on_one_page() -> None:
    before = TEXT["README.md"].partition("**What it means.**")[0]
    assert before.count("\n") < 60


def tracked() -> list[Path]:
    """Files of the repository; all but hidden ones and caches where there is no git."""
    try:
        done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        return [
            p
            for p in ROOT.rglob("*")
            if p.is_file() and not any(s[0] == "." for s in p.relative_to(ROOT).parts)
        ]


def test_no_file_names_a_path_of_one_machine_or_the_host_of_a_package_registry() -> None:
    machine = [f"/{name}/" for name in ("work", "root", "home")]
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs"))]
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in (*machine, *hosts) if word in text]
    assert found == []
