"""Runs every benchmark, each in a process of its own, and prints one JSON: `make bench`.

`--small` takes the smallest sizes; `--page` also writes docs/benchmarks.md from the figures. With
`--folder F` the figures of each benchmark are kept in F, and those that are there are not measured again.
What the page says of the bases of speed is computed in `bases.py`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bases import page
from machine import ROOT, commit, machine, small_wanted, today

MODULES = ("models", "neural", "checkpoint", "latency", "bank", "flat", "topic")
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    """Run all; the exit code says whether each of them ran."""
    flags = ["--small"] if small_wanted() else []
    found = {name: _kept(name, flags) for name in MODULES}
    figures = {"date": today(), "commit": commit(), "machine": machine(), "small": bool(flags), **found}
    print(json.dumps(figures, indent=1))
    failed = [name for name, one in found.items() if "error" in one]
    if "--page" in sys.argv[1:] and not failed:
        PAGE.write_text(page(figures), encoding="utf-8")
    return len(failed)


def _kept(name: str, flags: list[str]) -> dict[str, Any]:
    if "--folder" not in sys.argv:
        return _run(name, flags)
    path = Path(sys.argv[sys.argv.index("--folder") + 1]) / f"{name}.json"
    if not path.exists():
        figures = _run(name, flags)
        if "error" in figures:
            return figures
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in kept.items() if key not in ("bench", "machine")}


def _run(name: str, flags: list[str]) -> dict[str, Any]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return {"error": f"exit code {done.returncode}"}
    figures: dict[str, Any] = json.loads(done.stdout)
    return {key: value for key, value in figures.items() if key not in ("bench", "machine")}


if __name__ == "__main__":
    sys.exit(main())
