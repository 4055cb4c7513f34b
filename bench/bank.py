"""Events per second of the whole program with the default bank, one thread, files in, nothing out.

    simulated    17, 100 and 10,000 marks
    real         taobao and retweet beside the checkout, MovieLens-100K where it was fetched before

The first part of each stream warms up; medians and ranges are over blocks of the rest.
"""

import json
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from machine import ROOT, Clock, machine, small_wanted, spread
from stream import chained, driven, lane_of

from streamrec.eventlog.datasets import cache_folder
from streamrec.processor import CutResult
from streamrec.settings import Settings
from streamrec.stream import Events, drive
from streamrec.verbs.opening import source_of

DATA = ROOT.parent / "shared" / "data"


def rates(results: Iterable[CutResult], warmup: int, block: int = 5_000) -> dict[str, Any]:
    """Events per second by blocks of at least `block` events after the warm-up."""
    done, first, clock = 0, 0, Clock()
    cpu, wall = [], []
    for result in results:
        done += len(result.batch.mark)
        if done - first < (block if first else max(warmup, block)):
            continue
        if first:
            cpu.append((done - first) / clock.cpu)
            wall.append((done - first) / clock.wall)
        first, clock = done, Clock()
    return {
        "events": done,
        "blocks": len(cpu),
        "per_cpu_second": spread(cpu),
        "per_wall_second": spread(wall),
    }


def main(small: bool = False) -> dict[str, Any]:
    """Rates of every stream that is there."""
    n, block = (1_500, 400) if small else (24_000, 4_000)
    found: dict[str, Any] = {}
    for marks in (17,) if small else (17, 100, 10_000):
        events = chained(n, users=max(n // 40, 5), marks=marks)
        found[f"simulated, {marks} marks"] = rates(driven(lane_of(), events), block, block)
    files = {"taobao": DATA / "taobao.csv.gz", "retweet": DATA / "retweet.csv.gz"}
    files["movielens-100k"] = cache_folder() / "movielens-100k.csv"
    absent = [name for name, path in files.items() if not path.exists()]
    for name, path in {} if small else files.items():
        if path.exists():
            found[name] = rates(_from_file(path, 40_000), 2 * block, block)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"bench": "bank", **found, "absent": absent, "peak_rss_mb": round(peak), "machine": machine()}


def _from_file(path: Path, n: int) -> Iterable[CutResult]:
    settings = Settings()
    log = Events(source_of([str(path)], settings.input), n, settings.cut.poll_events)
    return drive(log, lane_of())


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
