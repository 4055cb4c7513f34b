"""Failpoints: they fire where and when they were told to, and no other name exists in the program."""

import ast
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamrec
from streamrec import failpoints
from streamrec.errors import ConfigError
from streamrec.failpoints import FAILPOINTS, failpoint

SCRIPT = """
from streamrec.failpoints import failpoint
for i in range(5):
    failpoint("after_update")
    failpoint("before_emit")
    print(i, flush=True)
"""


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    failpoints.arm("")


def run(spec: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"STREAMREC_FAILPOINT": spec}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("spec", "rounds"), [("after_update", 0), ("before_emit:1", 0), ("before_emit:4", 3)]
)
def test_the_program_is_killed_at_the_nth_hit(spec: str, rounds: int) -> None:
    done = run(spec)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [str(i) for i in range(rounds)]


@pytest.mark.parametrize("spec", ["", "after_update:6", "after_read"])
def test_nothing_happens_before_that(spec: str) -> None:
    assert run(spec).returncode == 0


@pytest.mark.parametrize(
    ("how", "code"), [("raise", errno.ENOSPC), ("EIO", errno.EIO), ("EROFS", errno.EROFS)]
)
def test_a_full_or_broken_disk_is_raised_once(how: str, code: int) -> None:
    failpoints.arm(f"mid_generation:2:{how}")
    failpoint("mid_generation")
    with pytest.raises(OSError, match="mid_generation") as caught:
        failpoint("mid_generation")
    assert caught.value.errno == code
    failpoint("mid_generation")


@pytest.mark.parametrize(
    "spec", ["after_updates", "after_update:0", "after_update:x", "after_update:1:kill", ":1"]
)
def test_a_failpoint_that_could_never_fire_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="STREAMREC_FAILPOINT: wanted name"):
        failpoints.arm(spec)
    failpoint("after_update")


def names_used(source: str) -> list[str]:
    return [
        str(node.args[0].value) if isinstance(node.args[0], ast.Constant) else "(not a literal)"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
        == "failpoint"
    ]


def test_every_failpoint_in_the_program_is_in_the_table() -> None:
    package = Path(streamrec.__file__).parent
    used = {name for path in package.rglob("*.py") for name in names_used(path.read_text("utf-8"))}
    assert {"before_journal", "after_journal", "before_sync"} <= used <= set(FAILPOINTS)


def test_the_search_for_names_finds_a_misspelt_one_and_a_computed_one() -> None:
    assert names_used('failpoint("a")\nfailpoints.failpoint("b")\nfailpoint(c)') == [
        "a",
        "b",
        "(not a literal)",
    ]
