"""simulate, validate and data: everything that makes or checks input."""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from streamrec.errors import ConfigError, DiskError
from streamrec.event import Event
from streamrec.eventlog.datasets import get_dataset, list_datasets
from streamrec.settings import load_settings
from streamrec.simulate import Simulation, hour_scale_processes, simulate
from streamrec.stream import read_all
from streamrec.verbs.opening import log_of

CHECKED = 100_000
COLUMNS = ("user", "mark", "time", "oracle_log_density", "oracle_log_p_mark", "oracle_cumulative_hazard")


def simulate_file(process: str, events: int, users: int, marks: int, seed: int, output: Path) -> None:
    """Write a simulated stream as CSV; the last line printed is the oracle's score of the open intervals."""
    processes = hour_scale_processes(marks, seed)
    if process not in processes:
        raise ConfigError(f"simulate {process}: wanted one of {', '.join(sorted(processes))}")
    outcome = simulate(processes[process], events, users, seed, entry_s=86_400.0)
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_rows(outcome))
    except OSError as error:
        raise DiskError(f"{output}: cannot be written ({error.strerror}); choose another --output") from None
    print(f"{output}: {events} events of {users} users")
    print(f"oracle log-survival of the intervals still open at the end: {outcome.open_log_survival:.6f}")


def _rows(outcome: Simulation) -> Iterator[tuple[str, ...]]:
    figures = (outcome.log_density, outcome.log_p_mark, outcome.cumulative_hazard)
    columns = (c.tolist() for c in (outcome.user, outcome.mark, outcome.time, *figures))
    for user, mark, time, *rest in zip(*columns, strict=True):
        known = ("" if math.isnan(x) else f"{x:.9g}" for x in rest)
        yield f"u{user}", f"m{mark}", f"{time:.6f}", *known


def validate(
    inputs: Sequence[str], config: Path | None, flags: Mapping[str, Any], print_config: bool
) -> None:
    """Check settings; read the head of the inputs and say how their records fare."""
    settings = load_settings(config, flags)
    if print_config:
        print(settings.model_dump_json(indent=2))
    else:
        print("settings: ok")
    if not inputs:
        return
    source, _ = log_of(inputs, settings)
    reasons: Counter[str] = Counter()
    first: Event | None = None
    for records in read_all(source, CHECKED):
        for read in source.decode_many(records):
            reasons["ok" if isinstance(read, Event) else read.reason] += 1
            first = first or (read if isinstance(read, Event) else None)
    source.close()
    total = sum(reasons.values())
    shown = ", ".join(
        f"{name} {n}" for name, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    )
    print(f"records looked at: {total} ({shown})")
    if first is not None:
        print(f"first event: user {first.user!r}, mark {first.mark!r}, time {first.time!r}")
    if not reasons["ok"]:
        raise ConfigError(f"{inputs[0]}: none of {total} records is an event; see the reasons above")


def list_data() -> None:
    """Print the registry."""
    table = Table("name", "home", "licence")
    for dataset in list_datasets():
        table.add_row(dataset.name, str(dataset.places[0]), dataset.licence)
    Console().print(table)


def get_data(name: str) -> None:
    """Fetch a data set; the path is the last line."""
    print(get_dataset(name, print))
