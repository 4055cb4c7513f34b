"""Runs the command line in processes, and looks at what it leaves behind."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from streamrec.verbs.opening import kept_lane

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """\
[models]
enabled = ["context_1", "context_repeat", "gamma_poisson", "log_normal", "hawkes_1h"]
[cut]
cut_events = 64
[checkpoint]
every_events = 100
generation_every = 1
"""
"""A bank without torch, and a checkpoint after every second cut."""


class Ended(NamedTuple):
    """A process that ended: its exit code (-9: killed) and what it said."""

    code: int
    out: str
    err: str


class Kept(NamedTuple):
    """What a run leaves behind."""

    learned: str
    position: str
    n_events: int
    forecasts: bytes
    letters: bytes


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without settings and failpoints, with this checkout in front."""
    plain = {n: v for n, v in os.environ.items() if not n.startswith("STREAMREC_")}
    return {**plain, "PYTHONPATH": str(ROOT), **(more or {})}


def command(
    args: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    limit_bytes: int | None = None,
) -> Ended:
    """Run `streamrec ARGS` in a fresh interpreter; no file may grow beyond `limit_bytes`."""
    code = "from streamrec.cli import main; main()"
    if limit_bytes is not None:
        code = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes})); {code}"
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=folder,
        env=environment(env),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=600,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


class Warm:
    """A process that is warm, whose forks run the command line (see `host.py`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("host.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        self.torch = False

    def command(self, args: Sequence[str], folder: Path, failpoint: str = "", warm: bool = False) -> Ended:
        """Run `streamrec ARGS` in a fork."""
        order = {"args": list(args), "cwd": str(folder), "failpoint": failpoint, "out": str(self.folder)}
        to, back = _pipes(self._process)
        to.write(json.dumps({**order, "warm": warm}) + "\n")
        to.flush()
        answer = json.loads(back.readline())
        self.torch = self.torch or answer["torch"]
        said = [(self.folder / name).read_text() if not warm else "" for name in ("stdout", "stderr")]
        return Ended(answer["code"], *said)

    def close(self) -> None:
        """End the process."""
        to, _ = _pipes(self._process)
        to.close()
        self._process.wait(timeout=60)


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def lines(n: int, seed: int = 1, users: int = 40) -> list[str]:
    """Data lines of a log in order of time: users in bursts, many ties, now and then a line that is none."""
    draw = random.Random(seed)
    out, now = [], 1_700_000_000.0
    for i in range(n):
        now += draw.choice([0.0, 0.0, 1.0, 30.0, 400.0])
        user = draw.randrange(users) ** 2 // users
        out.append(f"u{user},m{(user + draw.randrange(4)) % 17},{now}")
        if i % 97 == 50:
            out.append(draw.choice(["u1,m2,", "u1,m2,never", ",m1,5", "u1"]))
    return out


def write_log(path: Path, data: Sequence[str]) -> Path:
    """A CSV file with a header and these lines."""
    path.write_text("\n".join(["user,mark,time", *data, ""]))
    return path


def run_args(*inputs: str | Path, settings: str = "settings.toml") -> list[str]:
    """The command of a run that keeps everything in the folder it is started in."""
    outputs = ["--sink", "jsonl:out.jsonl", "--dead-letters", "bad.jsonl"]
    return ["run", *map(str, inputs), "-c", settings, "--state", "state", *outputs]


def kept(folder: Path) -> Kept:
    """What a run left in a folder."""
    lane = kept_lane(folder / "state")
    files = [(folder / name).read_bytes() for name in ("out.jsonl", "bad.jsonl")]
    return Kept(lane.learned(), lane.position(), lane.n_events, *files)
