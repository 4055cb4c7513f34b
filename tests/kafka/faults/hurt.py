"""What tests of outages look at: a daemon's probes and metrics, its journal, and what its own journal gives.

address(daemon)                     of its server
probe(daemon, "/readyz")            code and text
metric(daemon, "paused", reason="backpressure")
entries_of(folder)                  what counts of a lane's journal, in order
replayed(folder, topic, logs)        the lane that its journal makes of events that the topic may have lost
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec
from daemons import Daemon

from streamrec.entries import Entry
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.memory import encode_event
from streamrec.journal import Position, read
from streamrec.lane import JOURNAL, Lane
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.replay import replay_cuts
from streamrec.settings import Settings, load_settings
from streamrec.state.reading import read_lane
from streamrec.verbs.opening import field_names

SERVED = {"http.port": 0}


def until(holds: Callable[[], object], timeout_s: float, what: Callable[[], object]) -> float:
    """Wait until `holds()`; how long that took, s. `what` says more if it does not."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s:g} s: {what()}"
        time.sleep(0.05)
    return time.monotonic() - began


def address(daemon: Daemon) -> str:
    """Where a daemon with `SERVED` answers."""
    found: list[str] = []

    def listens() -> bool:
        found[:] = re.findall(r"serving (\S+)/metrics", daemon.said())
        return bool(found)

    until(listens, 60, daemon.said)
    return found[0]


def probe(daemon: Daemon, path: str) -> tuple[int, str]:
    """Code and text of an answer."""
    try:
        with urlopen(address(daemon) + path, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def metric(daemon: Daemon, name: str, **labels: object) -> float:
    """Sum of the samples of a metric that have these labels; nan if there is none."""
    text = probe(daemon, "/metrics")[1]
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    found = re.findall(rf"^streamrec_{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    values = [float(value) for told, value in found if wanted <= set(told.split(","))]
    return sum(values) if values else float("nan")


def is_ready(daemon: Daemon) -> bool:
    """Whether its /readyz is 200."""
    return probe(daemon, "/readyz")[0] == 200


def last_line(daemon: Daemon) -> str:
    """Why it ended; nothing of it may be a traceback."""
    assert "Traceback" not in daemon.said(), daemon.said()[-4000:]
    lines = [line for line in daemon.said().splitlines() if line.startswith("streamrec: ")]
    assert len(lines) == 1, daemon.said()[-4000:]
    return lines[0]


def entries_of(folder: Path) -> list[tuple[Position, Entry]]:
    """What counts of the journal of a lane."""
    _, loaded = read_lane(folder)
    accepted = msgspec.json.decode(loaded.blobs[JOURNAL], type=dict[int, int])
    return [found for found in read(folder, accepted) if found[0].epoch in accepted]


class Remembered:
    """Finds events that the test remembers; a partition whose offsets fall back goes on in its next log."""

    def __init__(self, topic: str, logs: Mapping[int, Sequence[Sequence[Event | None]]]) -> None:
        self._topic, self._codec = topic, JsonCodec(field_names(Settings().input))
        self._logs = {partition: list(held) for partition, held in logs.items()}
        self._at: dict[int, int] = {}

    def pairs(self, reads: Iterable[tuple[str, int, int, int]]) -> Iterator[tuple[Record, Event | Reject]]:
        """Decoded records of ranges."""
        for topic, partition, first, last in reads:
            if first < self._at.get(partition, 0):
                del self._logs[partition][0]
            for offset in range(first, last):
                event = self._logs[partition][0][offset]
                value = None if event is None else encode_event(event)
                record = Record(topic, partition, offset, value)
                self._at[partition] = offset + 1
                yield record, self._codec.decode_many([record])[0]


def replayed(folder: Path, topic: str, logs: Mapping[int, Sequence[Sequence[Event | None]]]) -> Lane:
    """A lane made by the journal in `folder` from remembered logs, one after another per partition."""
    head, _ = read_lane(folder)
    lane = Lane(load_settings(None, head["settings"], {}), Outputs(), 1, own_clock, 0)
    replay_cuts(lane, Remembered(topic, logs), entries_of(folder))
    return lane


def stands(daemon: Daemon) -> Any:
    """Its /statusz."""
    return json.loads(probe(daemon, "/statusz")[1])
