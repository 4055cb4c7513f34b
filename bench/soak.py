"""The daemon for half an hour, ended now and then: is its memory flat, are its files and threads?

    python bench/soak.py --minutes 30 [--rate 200] [--tiny] [--seed 0]        make soak MINUTES=30

Events of a fixed set of users go to a topic at a bounded rate. In the first half the daemon is ended again
and again, by SIGKILL and SIGTERM in turn, after random times; in the second half it is left alone. Every few
seconds its resident memory, open files and threads are read from /proc, and its lag from its own /metrics.
What is seen in the first fifth of a life (at most `SETTLE_S`) is the warm-up and does not count.

    slope     of a line per life, all of one steepness, through memory over time: least squares
    flat      memory: slope - 2 standard errors <= 0, or the slope below 2 % of the memory per hour
              files, threads: the median of the last third of a life is at most 1 above that of the first
    caught up once nothing is sent any more, the lag is 0 within a minute

Exit code 0 if all holds, 1 if not, 2 if there is no broker here. Linux only.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from broker import AbsentError, Broker, broker
from machine import digits, machine
from running import TINY

from streamrec.event import Event
from streamrec.eventlog.clients import Message
from streamrec.eventlog.memory import encode_event
from streamrec.eventlog.topics import connect

USERS, MARKS, PARTITIONS = 300, 17, 4
SETTLE_S = 60.0
PATIENCE_S = 60.0
SHARE_PER_HOUR = 0.02
LAG = "streamrec_consumer_lag_records{"
KEPT = {"retention_bytes": "20000000", "segment_bytes": "5000000"}
"""Of the topics, for what was read long ago is of no use here."""


class Sample(NamedTuple):
    """What was seen of a daemon; `at` in seconds from the start of the soak, `lag` NaN before it is ready."""

    life: int
    at: float
    age: float
    rss_mb: float
    files: int
    threads: int
    lag: float


def events(rate: float, seed: int) -> Iterator[Event]:
    """Events without end, `rate` in a second of their own time; a mark follows from the user's last."""
    draw, now, last = random.Random(seed), 1.7e9, dict.fromkeys(range(USERS), 0)
    while True:
        now += draw.expovariate(rate)
        user = draw.randrange(USERS) ** 2 // USERS
        last[user] = (last[user] * 7 + draw.randrange(1, 4)) % MARKS
        yield Event(f"u{user}", f"m{last[user]}", round(now, 3))


class Soak:
    """A producer and one daemon, which is begun anew when it was ended.

    Parameters
    ----------
    where : the broker
    folder : for settings, state and the daemon's output
    rate : events per second
    tiny : with the smallest bank
    seed : of the events and of the times at which the daemon is ended
    """

    def __init__(self, where: Broker, folder: Path, rate: float, tiny: bool, seed: int) -> None:
        self.where, self.folder, self.rate = where, folder, rate
        self.topic = where.topic("soak", PARTITIONS, **KEPT)
        forecasts = where.topic("forecasts", PARTITIONS, **KEPT)
        self.events, self.draw = events(rate, seed), random.Random(seed)
        self.outlet = connect(where.settings()).outlet()
        self.samples: list[Sample] = []
        self.codes: list[int] = []
        self.sent, self.life = 0, -1
        config = folder / "soak.toml"
        config.write_text(_config(where.bootstrap, self.topic, tiny))
        inputs = [f"kafka://{self.topic}", "-c", str(config), "--state", str(folder / "state")]
        self.command = [sys.executable, "-m", "streamrec", "run", *inputs, "--sink", f"kafka:{forecasts}"]
        self.log = (folder / "daemon.log").open("ab")
        self.began = time.monotonic()
        self._begin()

    def run(self, seconds: float) -> None:
        """Send, look, and end the daemon now and then in the first half."""
        half, every_s = self.began + seconds / 2, max(seconds / 600, 0.5)
        end_at = time.monotonic() + self._life_s(seconds)
        look_at = 0.0
        while (now := time.monotonic()) < self.began + seconds:
            self._send(now)
            if now >= look_at:
                look_at = now + every_s
                self._look()
            if end_at <= now and (now < half or not self.life) and self._is_ready():
                self._end(signal.SIGTERM if self.life % 2 else signal.SIGKILL)
                self._begin()
                end_at = time.monotonic() + self._life_s(seconds)
            time.sleep(0.05)

    def catch_up(self) -> bool:
        """Send no more, and wait until nothing is left to be applied."""
        self.outlet.flush(PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        while (lag := self._lag()) != 0 and time.monotonic() < until:
            time.sleep(0.5)
        return lag == 0

    def close(self) -> None:
        """End everything."""
        if self.process.poll() is None:
            self._end(signal.SIGTERM)
        self.outlet.close()
        self.log.close()

    def _life_s(self, seconds: float) -> float:
        return self.draw.uniform(0.04, 0.12) * seconds

    def _begin(self) -> None:
        self.life += 1
        self.silence = (
            Path(self.log.name).stat().st_size
        )  # what stands before it in the log was said by others
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        self.born, self.address = time.monotonic(), ""

    def _end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.codes.append(self.process.wait(PATIENCE_S) - (0 if how == signal.SIGTERM else -how))

    def _send(self, now: float) -> None:
        due = int((now - self.began) * self.rate) - self.sent
        fresh = [next(self.events) for _ in range(due)]
        self.outlet.send([Message(self.topic, encode_event(one), one.user.encode()) for one in fresh])
        self.sent += due

    def _is_ready(self) -> bool:
        return bool(self.samples) and self.samples[-1].life == self.life and self.samples[-1].lag >= 0

    def _look(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(
                f"the daemon ended by itself with {self.process.returncode}: {self._said()[-3000:]}"
            )
        now = time.monotonic()
        own = Path("/proc") / str(self.process.pid)
        status = dict(line.partition(":")[::2] for line in (own / "status").read_text().splitlines())
        self.samples.append(
            Sample(
                self.life,
                now - self.began,
                now - self.born,
                int(status["VmRSS"].split()[0]) / 1024,
                len(list((own / "fd").iterdir())),
                int(status["Threads"]),
                self._lag(),
            )
        )

    def _lag(self) -> float:
        """Records that are not applied yet, as the daemon's metrics say; NaN as long as they do not."""
        self.address = self.address or _address(self._said())
        try:
            with urllib.request.urlopen(f"{self.address}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except (OSError, ValueError):
            return float("nan")
        lags = [
            float(line.split()[-1]) for line in lines if line.startswith("streamrec_consumer_lag_records{")
        ]
        return sum(lags) if lags else float("nan")

    def _said(self) -> str:
        """What this daemon wrote."""
        with Path(self.log.name).open("rb") as log:
            log.seek(self.silence)
            return log.read().decode(errors="replace")


def _address(said: str) -> str:
    """Where a daemon that said this serves; empty as long as it has not said."""
    lines = [line for line in said.splitlines() if line.startswith("serving http")]
    return lines[0].split()[1].removesuffix("/metrics") if lines else ""


def _config(bootstrap: str, group: str, tiny: bool) -> str:
    lines = [
        f"kafka.bootstrap = [{json.dumps(bootstrap)}]",
        f"kafka.group = {json.dumps(group)}",
        "kafka.session_timeout_s = 6.0",
        "kafka.heartbeat_s = 1.0",
        "kafka.on_gap = 'fail'",
        "checkpoint.every_s = 2.0",
        "http.port = 0",
        f"models.enabled = {json.dumps(TINY)}" if tiny else "",
    ]
    return "\n".join(lines) + "\n"


def judged(samples: Sequence[Sample]) -> dict[str, Any]:
    """Slopes and verdicts over the samples of settled daemons, each "flat", "grows" or "cannot be told"."""
    lives = [life for life in _settled(samples) if len(life) >= 6]
    if not lives:
        return {
            "lives": 0,
            "memory": "cannot be told",
            "files": "cannot be told",
            "threads": "cannot be told",
        }
    slope, error = steepness([([s.at for s in life], [s.rss_mb for s in life]) for life in lives])
    level = median(s.rss_mb for life in lives for s in life)
    per_hour, limit = 3600 * slope, SHARE_PER_HOUR * level
    flat = per_hour <= limit or slope - 2 * error <= 0
    files, threads = (
        [_rise([getattr(s, what) for s in one]) for one in lives] for what in ("files", "threads")
    )
    return {
        "lives": len(lives),
        "rss_mb": digits(level),
        "rss_mb_per_hour": digits(per_hour),
        "rss_standard_error": digits(3600 * error),
        "rss_of_last_life": [digits(lives[-1][0].rss_mb), digits(lives[-1][-1].rss_mb)],
        "memory": "flat" if flat else "grows",
        "files_rise": max(files),
        "files": "flat" if max(files) <= 1 else "grows",
        "threads_rise": max(threads),
        "threads": "flat" if max(threads) <= 1 else "grows",
    }


def steepness(lines: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[float, float]:
    """Slope that lines through several sets of points have in common, and its standard error.

    Examples
    --------
    >>> steepness([([0, 1, 2], [5, 7, 9]), ([0, 2, 4], [0, 4, 8])])
    (2.0, 0.0)
    """
    x = np.concatenate([np.subtract(x, np.mean(x)) for x, _ in lines])
    y = np.concatenate([np.subtract(y, np.mean(y)) for _, y in lines])
    slope = float(x @ y / (x @ x))
    freedom = len(x) - len(lines) - 1
    return slope, float(np.sqrt(np.sum((y - slope * x) ** 2) / max(freedom, 1) / (x @ x)))


def _settled(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """The samples of each life after its warm-up, which ends when the daemon has answered for a while."""
    for number in sorted({s.life for s in samples}):
        ready = [s for s in samples if s.life == number and s.lag >= 0]
        length = ready[-1].at - ready[0].at if ready else 0.0
        yield [s for s in ready if s.at - ready[0].at >= min(SETTLE_S, length / 5)]


def _rise(values: Sequence[float]) -> float:
    """Median of the last third over that of the first."""
    third = max(len(values) // 3, 1)
    return median(values[-third:]) - median(values[:third])


def main(words: Sequence[str] | None = None) -> int:
    """Soak, print one JSON, and say by the exit code whether all holds."""
    parser = argparse.ArgumentParser(description="The daemon for half an hour, ended now and then.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="events per second")
    parser.add_argument("--tiny", action="store_true", help="with the smallest bank")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    about = {"bench": "soak", **vars(given), "machine": machine()}
    try:
        with broker() as where, tempfile.TemporaryDirectory() as folder:
            found = _soaked(where, Path(folder), given)
    except AbsentError as why:
        print(json.dumps(about | {"skipped": str(why)}, indent=1))
        return 2
    print(json.dumps(about | found, indent=1))
    return 0 if found["verdict"] == "holds" else 1


def _soaked(where: Broker, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    soak = Soak(where, folder, given.rate, given.tiny, given.seed)
    try:
        soak.run(60 * given.minutes)
        caught_up = soak.catch_up()
    finally:
        soak.close()
    found = judged(soak.samples)
    lags = [s.lag for life in _settled(soak.samples) for s in life]
    found |= {
        "events": soak.sent,
        "restarts": soak.life,
        "ended_otherwise": [code for code in soak.codes if code],
        "lag": {"median": median(lags), "max": max(lags)} if lags else None,
        "caught_up": caught_up,
        "load": [digits(x) for x in os.getloadavg()],
    }
    good = caught_up and not found["ended_otherwise"]
    good = good and all(found[what] == "flat" for what in ("memory", "files", "threads"))
    return found | {"verdict": "holds" if good else "does not hold"}


if __name__ == "__main__":
    sys.exit(main())
