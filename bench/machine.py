"""What a figure was measured on, and how its spread is told.

Figures of time come twice: by the processor's clock of this process, which other programs on the machine
disturb little, and by the wall.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "numpy", "numba")


def machine() -> dict[str, str]:
    """Processor, cores and versions."""
    return {
        "cpu": cpu_model(),
        "cores": str(_cores()),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def cpu_model() -> str:
    """Name of the processor as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """Short hash of the checkout's commit, with a plus if the program differs from it."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "streamrec")
    return (head or "unknown") + ("+" if changed else "")


def today() -> str:
    """Date in UTC."""
    return datetime.now(UTC).date().isoformat()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest, to four digits.

    Examples
    --------
    >>> spread([3.0, 1.0, 2.0])
    {'median': 2.0, 'min': 1.0, 'max': 3.0}
    """
    return {"median": digits(median(values)), "min": digits(min(values)), "max": digits(max(values))}


def digits(x: float) -> float:
    """Rounded to four digits."""
    return float(f"{x:.4g}")


class Clock:
    """Seconds since it was made, by the processor's clock and by the wall."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    @property
    def cpu(self) -> float:
        """Processor seconds of this process."""
        return time.process_time() - self._cpu

    @property
    def wall(self) -> float:
        """Seconds on the wall."""
        return time.perf_counter() - self._wall


def small_wanted() -> bool:
    """Whether the command line asks for the smallest sizes."""
    return "--small" in sys.argv[1:]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
