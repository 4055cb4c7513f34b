"""One log, one undisturbed run of it, and one warm process for all tests of exactness."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from program import SETTINGS, Kept, Warm, kept, lines, run_args, write_log


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 1,500 events in order of time, with bad lines."""
    return write_log(tmp_path_factory.mktemp("log") / "log.csv", lines(1500))


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[Warm]:
    """A process that has run the program once."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "settings.toml").write_text(SETTINGS)
    process = Warm(folder)
    assert process.command(run_args(log), folder, warm=True).code == 0
    yield process
    process.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with the settings."""
    (tmp_path / "settings.toml").write_text(SETTINGS)
    return tmp_path


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, warm: Warm, log: Path) -> Kept:
    """What an undisturbed run of the log leaves behind."""
    folder = tmp_path_factory.mktemp("straight")
    (folder / "settings.toml").write_text(SETTINGS)
    ended = warm.command(run_args(log), folder)
    assert ended.code == 0, ended.err
    return kept(folder)
