"""Daemons as processes: start, kill, stop, freeze, and look at what they have done.

host = Host({...})                          warm once per test run
daemon = host.start(folder, topic, ...)     streamrec run kafka://topic
daemon.kill(); daemon.freeze(); daemon.thaw(); daemon.terminate(); daemon.ended(10) -> exit code
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[3]

TINY = {"models.enabled": ["gamma_poisson", "context_1"]}
"""A bank whose cut costs 2.5 ms."""


class Host:
    """The warm process.

    Parameters
    ----------
    log : where it says what went wrong
    program : beside this file; what it runs
    """

    def __init__(self, log: Path, program: str = "fork_host.py") -> None:
        env = {n: v for n, v in os.environ.items() if not n.startswith("STREAMREC_")}
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(program))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**env, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert self.ask({"settings": TINY}) == {"ready": True}

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """One question, one answer."""
        to, back = self._pipes()
        to.write(json.dumps(order) + "\n")
        to.flush()
        answer: dict[str, Any] = json.loads(back.readline())
        return answer

    def start(self, args: Sequence[str], folder: Path, log: str, env: Mapping[str, str]) -> "Daemon":
        """Fork the command line with these arguments."""
        order = {"do": "start", "args": list(args), "cwd": str(folder), "log": str(folder / log)}
        return Daemon(self, self.ask({**order, "env": dict(env)})["pid"], folder / log)

    def close(self) -> None:
        """End the host and what it forked."""
        self._pipes()[0].close()
        self._process.wait(timeout=30)
        self._log.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


class Daemon:
    """One process."""

    def __init__(self, host: Host, pid: int, log: Path) -> None:
        self.host, self.pid, self.log = host, pid, log

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs."""
        code: int | None = self.host.ask({"do": "wait", "pid": self.pid})["code"]
        return code

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self.ended(10)

    def terminate(self) -> None:
        """SIGTERM."""
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def ended(self, timeout_s: float) -> int:
        """Wait for its end; the exit code."""
        until = time.monotonic() + timeout_s
        while (code := self.code) is None:
            assert time.monotonic() < until, f"still runs after {timeout_s} s:\n{self.said()[-2000:]}"
            time.sleep(0.02)
        return code

    def said(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self.code is None:
            os.kill(self.pid, number)
