"""The benchmark of bad records runs with its smallest sizes."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench" / "poison.py"


def test_the_throughput_with_bad_records_stands_beside_the_clean_one() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH), "--small"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bench"] == "poison" and found["bad"] == found["events"] // 100
    for bank in ("two models", "default bank"):
        one = found[bank]
        ratio = one["with_bad_per_cpu_second"]["median"] / one["clean_per_cpu_second"]["median"]
        assert abs(one["ratio"]["median"] - ratio) < 1e-3 * ratio
        assert one["met"] == (one["ratio"]["median"] >= one["goal"])
