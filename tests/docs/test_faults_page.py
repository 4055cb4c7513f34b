"""The page of faults names tests that exist, and every fault."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
SOURCES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))]
TESTS = {name for text in SOURCES for name in re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE)}
NAMED = re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_a_test_that_the_page_of_faults_names_exists(name: str) -> None:
    assert name in TESTS


def test_every_fault_has_a_row_with_a_test() -> None:
    rows = dict(re.findall(r"^\| \*\*(F\d+)\*\*(.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert list(rows) == [f"F{n}" for n in range(1, 24)]
    assert [fault for fault, row in rows.items() if "`test_" not in row] == []


def test_a_test_named_after_a_fault_stands_in_its_row() -> None:
    by_fault = {name: re.match(r"test_(f\d+)_", name) for name in NAMED}
    text = PAGE.read_text(encoding="utf-8").splitlines()
    fault = ""
    for line in text:
        began = re.match(r"\| \*\*(F\d+)\*\*", line)
        fault = began[1] if began else fault
        for name in re.findall(r"`(test_f\d+_\w+)`", line):
            found = by_fault[name]
            assert found is not None and found[1] == fault.lower(), f"{name} stands in the row of {fault}"
