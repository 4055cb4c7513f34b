"""Measures every data set and writes docs/results.md: `make results`.

    ../shared/data/*.csv.gz   beside the checkout, default settings
    MovieLens-100K            `streamrec data get`, warm-up 100; again in file order with a known universe

One process after the other, so that memory and speed are each run's own. Nothing on the page is written by
hand: whether an acceptance line holds is computed from the figures beside it.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from accept import Figures, verdicts
from machine import ROOT, commit, machine, today
from page import movielens_table, time_table, work_table

DATA = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "results.md"
CLI = [sys.executable, "-c", "from streamrec.cli import main; main()"]
MOVIELENS = "movielens-100k"
PUBLISHED_STYLE = ("--ties", "file-order", "--universe", "known")


class Run(NamedTuple):
    """One evaluation: its name on the page, its clock, and its options."""

    name: str
    path: Path
    clock: str
    options: tuple[str, ...] = ()


def main(arguments: Sequence[str]) -> None:
    """Evaluate what is there and write the page.

    `--max-events N` and `--output FILE` serve a trial. With `--folder F` the figures of every evaluation are
    kept in F, and those that are there are not measured again; `--only A,B` measures these alone.
    """
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    short = ("--max-events", options["--max-events"]) if "--max-events" in options else ()
    runs, missing = planned()
    kept = Path(options["--folder"]) if "--folder" in options else None
    only = options["--only"].split(",") if "--only" in options else [run.name for run in runs]
    subprocess.run([sys.executable, "-m", "streamrec.warm"], check=True)  # no run's time shall hold compiling
    found: dict[str, Figures] = {}
    for run in runs:
        if run.name not in only:
            missing.append(f"{run.name}: left out of this run")
            continue
        print(f"{run.name} ...", file=sys.stderr, flush=True)
        figures = kept_or_evaluated(run, short, kept)
        if isinstance(figures, str):
            missing.append(f"{run.name}: {figures}")
        else:
            found[run.name] = {**figures, "clock": run.clock}
    page = Path(options.get("--output", PAGE))
    page.write_text(page_of(found, missing, short), encoding="utf-8")
    print(page)


def planned() -> tuple[list[Run], list[str]]:
    """What can be measured here, and why the rest cannot."""
    runs, missing = [], []
    if (DATA / "manifest.json").exists():
        sets = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))
        runs += [Run(s["name"], DATA / s["file"], s["clock"]) for s in sets]
    else:
        missing.append(f"the development sets: {DATA.parent.name}/{DATA.name} is not beside the checkout")
    path = movielens()
    if path is None:
        missing.append(f"{MOVIELENS}: could not be had (`streamrec data get {MOVIELENS}` says why)")
        return runs, missing
    warm = ("--warmup", "100")
    runs.append(Run(MOVIELENS, path, "absolute", warm))
    runs.append(Run(f"{MOVIELENS} in file order", path, "absolute", (*warm, *PUBLISHED_STYLE)))
    return runs, missing


def movielens() -> Path | None:
    """The converted file, fetched if need be."""
    done = subprocess.run([*CLI, "data", "get", MOVIELENS], capture_output=True, text=True, check=False)
    lines = done.stdout.split()
    return Path(lines[-1]) if done.returncode == 0 and lines else None


def kept_or_evaluated(run: Run, short: Sequence[str], folder: Path | None) -> Figures | str:
    """Figures out of the folder, or measured and put there."""
    if folder is None:
        return evaluated(run, short)
    path = folder / f"{run.name}.json"
    if not path.exists():
        figures = evaluated(run, short)
        if isinstance(figures, str):
            return figures
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures), encoding="utf-8")
    found: Figures = json.loads(path.read_text(encoding="utf-8"))
    return found


def evaluated(run: Run, short: Sequence[str] = ()) -> Figures | str:
    """Figures of one evaluation in a process of its own, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figures.json"
        command = [*CLI, "evaluate", str(run.path), "--json", str(target), *run.options, *short]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        figures: Figures = json.loads(target.read_text(encoding="utf-8"))
        return figures


def page_of(found: Mapping[str, Figures], missing: Sequence[str], short: Sequence[str] = ()) -> str:
    """The whole page."""
    sets = {name: figures for name, figures in found.items() if not name.startswith(MOVIELENS)}
    rows = {**sets, **{name: f for name, f in found.items() if name == MOVIELENS}}
    parts = [_head(short)]
    if rows:
        parts += ["## What comes next", work_table(rows), "## When, and at what cost", time_table(rows)]
        parts += ["## Acceptance", *_verdict_lines(rows)]
    for name, figures in found.items():
        if name.startswith(MOVIELENS):
            parts += [f"## {name} beside every rule", _how(name, figures), movielens_table(figures)]
    parts += ["## Not measured", *(f"- {reason}" for reason in [*missing, *UNMEASURED])]
    return "\n\n".join(_joined(parts)) + "\n"


UNMEASURED = (
    "other machines; every figure is of one run, so there is no spread beside it (the forecasts are "
    "deterministic, the speed is not)",
    "sets of more than 400,000 events or 8,227 users; [benchmarks](benchmarks.md) has simulated ones",
)


def _head(short: Sequence[str]) -> str:
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    only = f" Only the first {short[1]} events of each set were read." if short else ""
    return (
        "# Results\n\n"
        f"Written by `make results` on {today()}, commit {commit()}; {about}.{only}\n\n"
        "Each line is `streamrec evaluate FILE` with default settings in a process of its own: one pass, "
        "every forecast scored before its event is learned, ties as sets, open universe. Natural logs per "
        "scored event; [metrics](metrics.md) defines every score. The single models are those of the "
        "mixture, the members of the popularity bank included. Events per second are per second of "
        "processor time, the start of the program left out; the machine did other work as well, the wall "
        "rate stands beside."
    )


def _how(name: str, figures: Figures) -> str:
    odd = "" if name == MOVIELENS else " Only to compare with published figures: "
    odd += "" if name == MOVIELENS else "the order within a time stamp, by item, leaks."
    return (
        f"Warm-up 100 events, ties `{figures['ties']}`, universe `{figures['universe']}`; "
        f"{figures['scored_marks']:,} marks scored. How far the mixture "
        f"is ahead is told on the events that the forecaster scored, not those that it slept through.{odd}"
    )


def _verdict_lines(rows: Mapping[str, Figures]) -> list[str]:
    lines = [
        f"| {name} | {line} | {verdict} |" for name, f in rows.items() for line, verdict in verdicts(name, f)
    ]
    return ["| set | line | verdict |", "| --- | --- | --- |", *lines]


def _joined(parts: Sequence[str]) -> list[str]:
    """Lines of one table or list belong together."""
    out: list[str] = []
    for part in parts:
        together = out and part[:2] in ("| ", "- ") and out[-1].splitlines()[-1][:2] == part[:2]
        if together:
            out[-1] += "\n" + part
        else:
            out.append(part)
    return out


if __name__ == "__main__":
    main(sys.argv[1:])
