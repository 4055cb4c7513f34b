"""The real command with --metrics-port: it serves while it runs, and ends with its input."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from streamrec.event import Event
from streamrec.eventlog.memory import encode_event

LINES = b"".join(encode_event(Event(f"u{i % 7}", f"m{i % 5}", 1e6 + i)) + b"\n" for i in range(300))


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`streamrec run` of standard input with two models, ended when the block ends."""
    code = "import sys; from streamrec.cli import main; sys.argv[0] = 'streamrec'; main()"
    command = [sys.executable, "-c", code, "run", "-", *arguments]
    few = {**os.environ, "STREAMREC_MODELS__ENABLED": '["gamma_poisson", "context_1"]'}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=few, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def scraped(url: str, wanted: str) -> str:
    """The metrics, once they hold what is wanted; kernels may have to be compiled first."""
    text = ""
    for _ in range(2400):
        with urlopen(url, timeout=10) as reply:
            text = reply.read().decode()
        if re.search(wanted, text, flags=re.MULTILINE):
            return text
        time.sleep(0.1)
    raise AssertionError(f"{wanted} did not come within four minutes: {text[:2000]}")


def test_run_serves_on_a_free_port_and_ends_with_its_input(tmp_path: Path) -> None:
    with running("--metrics-port", "0", "--state", str(tmp_path / "state")) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(LINES)
        process.stdin.flush()
        said = process.stderr.readline().decode()
        found = re.match(r"serving (http://127\.0\.0\.1:\d+/metrics)$", said)
        assert found, said
        url = found[1]
        text = scraped(url, r'^streamrec_applied_events{lane="0"} (1|2)\d\d\.0$')
        assert 'streamrec_loop_state{state="running"} 1.0' in text
        assert "process_resident_memory_bytes" in text
        out, err = process.communicate(timeout=120)  # closes standard input
    assert process.returncode == 0, err.decode()
    assert "300 events" in out.decode()
    with pytest.raises(URLError):
        urlopen(url, timeout=5)


def test_a_port_that_is_out_of_range_is_refused_in_one_line() -> None:
    with running("--metrics-port", "70000") as process:
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err.decode().count("\n")) == (2, 1)
    assert "http.port" in err.decode()


def test_without_a_port_no_web_library_is_imported() -> None:
    code = "import sys, streamrec.verbs.running; print({'fastapi', 'uvicorn'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"
