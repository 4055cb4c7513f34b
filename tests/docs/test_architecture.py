"""What the layout promises and import-linter does not say (its contracts are in pyproject.toml)."""

import ast
import statistics
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from pages import verbs

import streamrec

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "streamrec"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
SCRIPTS = sorted(p for folder in ("producers", "consumers") for p in (ROOT / folder).glob("*.py"))
VERBS = sorted({name.partition(" ")[0] for name, _ in verbs()})

HELP = """
import sys
for heavy in ("torch", "numba", "pandas", "numpy", "duckdb", "river", "fastapi"):
    sys.modules[heavy] = None  # importing it raises ImportError
from typer.testing import CliRunner
from streamrec.cli import app
for words in ([], *([verb] for verb in sys.argv[1:])):
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, (words, done.output, done.exception)
    group = not words or words[0] in ("data", "dlq", "state")
    assert group or "Example: streamrec" in done.output, (words, done.output)
"""


def name_of(path: Path) -> str:
    """Path inside the package, with slashes."""
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def importers(*packages: str) -> set[str]:
    """Files that import one of the packages."""
    roots = tuple(packages)
    return {
        name_of(p)
        for p in FILES
        if any(m in roots or m.startswith(tuple(r + "." for r in roots)) for m in imports(p))
    }


def test_the_key_of_the_kernel_cache_covers_kernels_and_what_they_import() -> None:
    covered = tuple(streamrec._KERNEL_ROOMS)
    kernels = {path for path in FILES if {"numba", "streamrec.jit"} & set(imports(path))}
    assert len(kernels) > 20
    for path in kernels:
        ours = [m for m in imports(path) if m.startswith("streamrec.")]
        for module in (f"streamrec.{name_of(path).removesuffix('.py').replace('/', '.')}", *ours):
            assert module.split(".")[1] in covered, (path, module)


def test_help_answers_in_a_process_that_has_no_torch_numba_or_numpy() -> None:
    subprocess.run([sys.executable, "-c", HELP, *VERBS], check=True, capture_output=True, text=True)


def test_torch_is_imported_by_the_neural_files_only() -> None:
    files = importers("torch")
    assert files
    assert {f for f in files if not f.startswith(("nn/", "models/recurrent", "continual/"))} == set()


def test_kafka_clients_are_imported_in_the_event_log_only() -> None:
    assert {f for f in importers("kafka", "confluent_kafka") if not f.startswith("eventlog/")} == set()


def test_pandas_is_imported_nowhere() -> None:
    assert importers("pandas") == set()


def test_nothing_that_executes_code_on_load_is_imported_or_called() -> None:
    assert importers("pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle") == set()
    calls = {
        (name_of(path), ast.unparse(node.func))
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "np.load", "eval", "exec"}
    }
    assert calls == set()


def test_only_the_processor_sees_models_and_mixture_together_and_telemetry_their_counters() -> None:
    models = {f for f in importers("streamrec.models") if not f.startswith(("models/", "mixture/"))}
    mixture = {f for f in importers("streamrec.mixture") if not f.startswith("mixture/")}
    assert models & mixture <= {"processor.py", "lane_figures.py"}
    assert "processor.py" in models & mixture


def test_the_mixture_knows_of_models_what_they_answer_and_the_shared_backgrounds() -> None:
    used = {m for p in FILES if name_of(p).startswith("mixture/") for m in imports(p)}
    allowed = {"streamrec.models.base", "streamrec.models.popularity"}
    assert {m for m in used if m.startswith("streamrec.models")} <= allowed


@pytest.mark.parametrize("folder", ["streamrec", "tests", "bench"])
def test_files_are_below_400_lines(folder: str) -> None:
    lengths = {
        p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in (ROOT / folder).rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n >= 400} == {}


def test_functions_are_short() -> None:
    lengths = [body_length(node) for tree in TREES.values() for node in ast.walk(tree) if is_function(node)]
    assert statistics.median(lengths) < 10


def test_public_classes_and_functions_say_what_they_are() -> None:
    bare = [
        f"{name_of(path)}: {name}"
        for path, tree in TREES.items()
        for name, node in public(tree)
        if ast.get_docstring(node) is None
    ]
    assert bare == []


def test_every_file_begins_with_what_it_is_for() -> None:
    assert [name_of(p) for p, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_the_wheel_holds_streamrec_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    copytree(PACKAGE, source / "streamrec", ignore=ignore_patterns("__pycache__"))
    for other in ("tests", "bench", "producers", "consumers"):
        (source / other).mkdir()
        (source / other / "__init__.py").write_text("")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", tmp_path, source], check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("streamrec-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.partition("/")[0] for n in names if ".dist-info/" not in n} == {"streamrec"}
    assert "streamrec/py.typed" in names
    assert {f"streamrec/{name_of(p)}" for p in FILES} <= set(names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_a_verb_by_another_name(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert f"python {path.relative_to(ROOT).as_posix()} " in (ast.get_docstring(tree) or "")
    assert [ast.unparse(node) for node in tree.body[1:3]] == ["import sys", "from streamrec.cli import main"]
    assert len(tree.body) == 4
    done = subprocess.run([sys.executable, path, "--help"], check=True, capture_output=True, text=True)
    assert "Example: streamrec" in done.stdout


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = {
        d.partition(">")[0].partition("=")[0].replace("-", "_") for d in settings["project"]["dependencies"]
    }
    roots = {m.partition(".")[0] for p in FILES for m in imports(p)}
    foreign = roots - set(sys.stdlib_module_names) - {"streamrec"}
    builds_on = {"pydantic_core": "pydantic", "starlette": "fastapi", "kafka": "kafka_python"}
    optional, beneath = {"confluent_kafka"}, {"crc32c"}  # crc32c is imported by kafka-python, if it is there
    assert {builds_on.get(m, m) for m in foreign - optional} == declared - beneath


def is_function(node: ast.AST) -> bool:
    """A function or method."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def body_length(node: ast.AST) -> int:
    """Lines of a function without signature and docstring."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def public(tree: ast.Module) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef]]:
    """Public classes and functions of a file, and the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef) and not any("Protocol" in ast.unparse(b) for b in node.bases):
                yield from (
                    (f"{node.name}.{m.name}", m)
                    for m in node.body
                    if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")
                )
