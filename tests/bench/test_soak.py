"""The verdict of a soak follows from its samples; a short one ends a daemon, begins it anew, and stops."""

import importlib
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def soak():
    sys.path.append(str(BENCH))
    yield importlib.import_module("soak")
    sys.path.remove(str(BENCH))


def _life(soak, n=60, number=0, rss=lambda i: 500.0, files=lambda i: 30, threads=lambda i: 12):
    """A daemon looked at every 10 s, noisy by a quarter of a MiB."""
    return [
        soak.Sample(number, 10.0 * i, 10.0 * i, rss(i) + 0.25 * (-1) ** i, files(i), threads(i), 0.0)
        for i in range(n)
    ]


def test_a_daemon_that_stays_as_it_is_is_flat(soak):
    found = soak.judged(_life(soak))
    assert (found["memory"], found["files"], found["threads"]) == ("flat", "flat", "flat")


def test_memory_that_grows_by_a_tenth_in_ten_minutes_is_seen(soak):
    found = soak.judged(_life(soak, rss=lambda i: 500.0 + 50 * i / 60))
    assert found["memory"] == "grows"
    assert found["rss_mb_per_hour"] == pytest.approx(300, rel=0.02)


def test_files_and_threads_that_leak_slowly_are_seen_each_for_itself(soak):
    found = soak.judged(_life(soak, files=lambda i: 30 + i // 10))
    assert (found["memory"], found["files"], found["threads"]) == ("flat", "grows", "flat")
    assert soak.judged(_life(soak, threads=lambda i: 12 + i // 20))["threads"] == "grows"


def test_what_grows_in_the_warm_up_does_not_count(soak):
    found = soak.judged(_life(soak, rss=lambda i: 500.0 - max(0, 6 - i) * 60))
    assert found["memory"] == "flat"


def test_each_life_has_a_level_of_its_own(soak):
    lives = _life(soak) + _life(soak, number=1, rss=lambda i: 700.0)
    assert soak.judged(lives)["rss_mb_per_hour"] == pytest.approx(0, abs=1)


def test_too_little_seen_is_no_verdict(soak):
    assert soak.judged(_life(soak, n=4))["memory"] == "cannot be told"


@given(st.floats(-5, 5), st.lists(st.floats(-100, 100), min_size=1, max_size=4))
def test_the_common_slope_of_exact_lines_is_theirs(slope, levels):
    x = [0.0, 1.0, 3.0, 7.0]
    sys.path.append(str(BENCH))
    steepness = importlib.import_module("soak").steepness
    found, error = steepness([(x, [level + slope * t for t in x]) for level in levels])
    assert found == pytest.approx(slope, abs=1e-9)
    assert error == pytest.approx(0, abs=1e-9)


def test_events_come_in_order_and_are_a_function_of_the_seed(soak):
    first, again = (list(islice(soak.events(100.0, seed=3), 500)) for _ in range(2))
    assert first == again != list(islice(soak.events(100.0, seed=4), 500))
    assert [e.time for e in first] == sorted(e.time for e in first)


@pytest.mark.timeout(600)
def test_a_short_soak_ends_the_daemon_begins_it_anew_and_catches_up(tmp_path):
    command = [sys.executable, str(BENCH / "soak.py"), "--minutes", "0.4", "--rate", "100", "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    if done.returncode == 2:
        pytest.skip(found["skipped"])
    assert found["restarts"] >= 1, found
    assert found["ended_otherwise"] == []
    assert found["caught_up"] and found["events"] > 1500
    assert done.returncode == (0 if found["verdict"] == "holds" else 1)
