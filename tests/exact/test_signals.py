"""Stopping in an orderly way: the cut is finished, the state kept, and going on equals never stopping."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamrec.event import Event
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource, encode_event
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.settings import load_settings
from streamrec.state.writer import InlineWriter
from streamrec.stream import Coded, Events, drive

SMALL = {"models.enabled": ["context_1", "gamma_poisson"], "cut.cut_events": 32}
EVENTS = [Event(f"u{i % 7}", f"m{i * i % 5}", 1000.0 + 3.0 * i) for i in range(400)]


def log(live: bool = False) -> Events:
    source = MemorySource.of_events(EVENTS)
    return Events(Coded(source, JsonCodec(FieldNames()), None if live else len(EVENTS)), poll_events=50)


def lane_at(folder: Path) -> Lane:
    lane = Lane(load_settings(None, SMALL, {}), Outputs())
    lane.open(folder, InlineWriter)
    return lane


def run_and_stop(events: Events, folder: Path, after_cuts: int) -> Lane:
    lane = lane_at(folder)
    for n, _ in enumerate(drive(events, lane), 1):
        if n == after_cuts:
            events.stop()
    lane.close()
    return lane


@pytest.mark.parametrize("after_cuts", [1, 3, 9])
def test_a_stopped_run_that_goes_on_equals_one_that_never_stopped(tmp_path, after_cuts):
    straight = run_and_stop(log(), tmp_path / "straight", after_cuts=10**6)
    stopped = run_and_stop(log(), tmp_path / "stopped", after_cuts)
    assert 0 < stopped.n_events < len(EVENTS)
    resumed = run_and_stop(log(), tmp_path / "stopped", after_cuts=10**6)
    assert resumed.n_events == len(EVENTS)
    assert resumed.learned() == straight.learned()


def test_a_live_log_is_stopped_with_what_was_read(tmp_path):
    events = log(live=True)
    lane = lane_at(tmp_path)
    for _ in drive(events, lane):
        events.stop()
    lane.close()
    assert lane.n_events == 32


def test_sigterm_keeps_the_state_and_exits_with_zero(tmp_path):
    command = [sys.executable, "-m", "streamrec", "run", "-", "--state", "state"]
    environ = {**os.environ, "STREAMREC_MODELS__ENABLED": '["context_1", "gamma_poisson"]'}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=False
    )
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(b"\n".join(encode_event(e) for e in EVENTS) + b"\n")
    process.stdin.flush()
    journal = tmp_path / "state" / "journal-1.log"
    until = time.monotonic() + 120
    while not (journal.exists() and journal.stat().st_size > 100) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.stderr.read().decode()
    assert process.wait(60) == 0, said
    assert "run the same command again to go on" in said
    lines = b"\n".join(encode_event(e) for e in EVENTS)
    again = subprocess.run(command, cwd=tmp_path, env=environ, input=lines, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr.decode()
    shown = subprocess.run(
        [sys.executable, "-m", "streamrec", "inspect", "state"], cwd=tmp_path, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert f"events {len(EVENTS)}\n" in shown.stdout
