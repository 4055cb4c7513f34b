"""What all tests share: the folder of real logs, and how hypothesis draws."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

collect_ignore_glob = ["*conftest.py", "*/conftest.py", "*/*/conftest.py"]
"""Loaded as plugins all the same; as modules with doctests their names would clash."""

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile(
    "gate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("gate")


def pytest_configure(config: pytest.Config) -> None:
    """The mark of what takes long."""
    config.addinivalue_line("markers", "torture: the long form of a fault; runs with make torture only")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real event logs; tests that need it skip, with the reason, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"real logs are absent: no folder {DATA.name} beside the checkout's parent")
    return DATA


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name every test that was left out because no broker of this machine could serve it, and why."""
    left_out = [
        (report.nodeid, report.longrepr[2].removeprefix("Skipped: "))
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and "no broker with" in report.longrepr[2]
    ]
    if left_out:
        terminalreporter.section("not run: no broker that serves them")
        for name, reason in left_out:
            terminalreporter.line(f"{name}: {reason}")
