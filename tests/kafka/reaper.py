"""Ends the brokers of a test run when nobody of the run is left, however it ended.

    every process of the run    flock(users, shared), until it exits or is killed
    the reaper                  flock(users, exclusive): granted when the last of them is gone
                                -> kill what <run>/brokers/<pid> names, forget what was shared

`python reaper.py RUN` is started by every process that needs a broker. A broker is known by its process
number and the time at which it began, because numbers are given out again.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path


def began(pid: int) -> str:
    """When a process began, as `ps` writes it; empty if there is none."""
    shown = subprocess.run(
        ["ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    words = shown.stdout.split()
    return "" if not words or words[-1].startswith("Z") else " ".join(words[:-1])


def register(run: Path, pid: int) -> None:
    """Have this process ended with the run."""
    (run / "brokers").mkdir(exist_ok=True)
    (run / "brokers" / str(pid)).write_text(began(pid), encoding="utf-8")


def forget(run: Path, pid: int) -> None:
    """It has been ended already."""
    (run / "brokers" / str(pid)).unlink(missing_ok=True)


def join(run: Path) -> None:
    """Be one of the run until this process ends; each starts a reaper, the first to wake does the work."""
    run.mkdir(parents=True, exist_ok=True)
    lock = os.open(run / "users", os.O_RDWR | os.O_CREAT)  # never closed: the kernel does it for us
    fcntl.flock(lock, fcntl.LOCK_SH)
    command = [sys.executable, str(Path(__file__).resolve()), str(run)]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def reap(run: Path) -> None:
    """Wait until nobody of the run is left, then end its brokers."""
    with (run / "users").open("r+") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        for shared in run.glob("*.json"):
            shared.unlink()
        for note in (run / "brokers").glob("*"):
            if (pid := int(note.name)) and began(pid) == note.read_text("utf-8"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            note.unlink(missing_ok=True)


if __name__ == "__main__":
    reap(Path(sys.argv[1]))
