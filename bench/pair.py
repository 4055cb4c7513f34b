"""Two lanes in two processes against one lane in one, on the same topic.

The members join, the warm-up is sent and applied, and then everything else is sent at once; time goes from
there until the last of them has stopped, with its checkpoint on the disk and its forecasts acknowledged.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker import Broker
from machine import spread
from running import run_daemon, settings_of

from streamrec.daemon.loop import Daemon
from streamrec.daemon.observer import Unobserved
from streamrec.verbs.consuming import warm_up

PARTITIONS = 4


def lanes_in_turn(
    where: Broker, folder: Path, lines: Sequence[bytes], keys: Sequence[bytes], warmup: int, rounds: int
) -> dict[str, Any]:
    """Events per second of the wall with one lane and with two, in turn, and their ratio."""
    one, two = [], []
    for number in range(rounds):
        one.append(_rate(where, folder / f"one-{number}", 1, lines, keys, warmup))
        two.append(_rate(where, folder / f"two-{number}", 2, lines, keys, warmup))
    gain = [b / a for a, b in zip(one, two, strict=True)]
    return {"one": spread(one), "two": spread(two), "gain": spread(gain)}


def _rate(
    where: Broker, folder: Path, lanes: int, lines: Sequence[bytes], keys: Sequence[bytes], warmup: int
) -> float:
    topic, forecasts = where.topic("pair", PARTITIONS), where.topic("forecasts", PARTITIONS)
    folder.mkdir()
    order = {"bootstrap": where.bootstrap, "topic": topic, "forecasts": forecasts, "lanes": lanes}
    members = [_Member(folder, {**order, "name": f"member-{n}"}) for n in range(lanes)]
    try:
        _wait_for(members, "lanes", lanes)
        where.fill(topic, lines[:warmup], keys[:warmup])
        _wait_for(members, "read", warmup)
        began = time.time()
        where.fill(topic, lines[warmup:], keys[warmup:])
        _wait_for(members, "read", len(lines))
        for member in members:
            member.process.terminate()
        for member in members:
            member.process.wait(60)
        return (len(lines) - warmup) / (max(float(member.said()["at"]) for member in members) - began)
    finally:
        for member in members:
            member.process.kill()
            member.process.wait()


def _wait_for(members: "Sequence[_Member]", what: str, wanted: int, timeout_s: float = 300.0) -> None:
    end = time.monotonic() + timeout_s
    while sum(member.said().get(what, 0) for member in members) < wanted:
        codes = [member.process.poll() for member in members]
        if any(code is not None for code in codes) or time.monotonic() > end:
            raise RuntimeError(
                f"waited for {wanted} {what}, got {[member.said() for member in members]}, {codes}"
            )
        time.sleep(0.01)


class _Member:
    """A daemon in a process of its own, which writes into a file what it holds and has read."""

    def __init__(self, folder: Path, order: dict[str, Any]) -> None:
        self.file = folder / f"{order['name']}.json"
        order = {**order, "state": str(folder / "state"), "file": str(self.file)}
        self.process = subprocess.Popen([sys.executable, __file__, json.dumps(order)])

    def said(self) -> dict[str, Any]:
        """What it wrote last."""
        said: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        return said


class _Telling(Unobserved):
    """Writes the lanes of a daemon and the records that they have read into a file, and when."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.daemon: Daemon | None = None
        self.last: dict[str, int] = {}

    def between(self) -> None:
        """Tell, if something is new."""
        assert self.daemon is not None
        held = self.daemon.holdings.held.values()
        now = {"lanes": len(held), "read": sum(sum(one.lane.positions.values()) for one in held)}
        if now != self.last:
            self._tell(now)

    def closed(self, number: int, kept: bool) -> None:
        """A lane was closed: that is when it ended."""
        self._tell(self.last)

    def _tell(self, now: dict[str, int]) -> None:
        self.last = now
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps({**now, "at": time.time()}))
        fresh.replace(self.file)


def _be_member(order: dict[str, Any]) -> None:
    settings = settings_of(
        Broker(order["bootstrap"]), None, "kafka-python", order["topic"], lanes=order["lanes"]
    )
    warm_up(settings)
    telling = _Telling(Path(order["file"]))

    def touch(daemon: Daemon) -> None:
        telling.daemon = daemon
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())

    run_daemon(
        settings, order["topic"], order["forecasts"], Path(order["state"]), telling, touch, until_end=False
    )


if __name__ == "__main__":
    _be_member(json.loads(sys.argv[1]))
