"""evaluate: one pass over a log, every forecast scored before its event is learned."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from streamrec.errors import DiskError
from streamrec.evaluate import evaluate
from streamrec.event import Event
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.report import Display, score_table
from streamrec.settings import Settings, load_settings
from streamrec.stream import Events, Log, read_all
from streamrec.verbs.opening import clock_for, log_of


def evaluate_files(
    inputs: Sequence[str],
    config: Path | None,
    flags: Mapping[str, Any],
    warmup: float,
    max_events: int | None,
    json_file: Path | None,
    state: Path | None,
) -> None:
    """Evaluate inputs, print the table, write the figures."""
    settings = load_settings(config, flags)
    figures = figures_of(inputs, settings, warmup, max_events, state, Console(stderr=True))
    console = Console()
    console.print(score_table(figures, _title(figures, settings)))
    console.print(
        f"{figures['events']:,} events in {figures['seconds']:.1f} s "
        f"({figures['events_per_second']:,.0f}/s), digest {figures['digest'][:16]}"
    )
    if json_file is not None:
        write_json(json_file, figures)


def figures_of(
    inputs: Sequence[str],
    settings: Settings,
    warmup: float,
    max_events: int | None,
    state: Path | None,
    console: Console,
) -> dict[str, Any]:
    """All figures of one evaluation."""
    source, layout = log_of(inputs, settings)
    known = settings.forecast.universe == "known"
    lane = Lane(settings, Outputs(), count_marks(source) if known else 0, clock_for(layout))
    lane.layout = layout
    events = Events(source, max_events, settings.cut.poll_events)
    with Display(lane, events.count(), console) as display:
        figures = evaluate(events, lane, warmup, state, display.update)
    lane.close()
    source.close()
    return {
        "input": list(inputs),
        "ties": settings.order.ties,
        "universe": settings.forecast.universe,
        **figures,
    }


def count_marks(source: Log) -> int:
    """Distinct marks of a whole log."""
    source.seek({})
    marks: set[str] = set()
    for records in read_all(source):
        marks.update(e.mark for e in source.decode_many(records) if isinstance(e, Event))
    return len(marks)


def write_json(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON; what is not a number becomes null."""
    try:
        path.write_text(json.dumps(_finite(figures), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{path}: cannot be written ({error.strerror}); choose another --json") from None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _title(figures: Mapping[str, Any], settings: Settings) -> str:
    title = f"{figures['scored_marks']:,} marks and {figures['scored_times']:,} waiting times scored"
    odd = [f"ties {settings.order.ties}"] if settings.order.ties != "set" else []
    odd += ["closed universe"] if settings.forecast.universe == "known" else []
    return title + (f" ({', '.join(odd)}: only to compare with published figures)" if odd else "")
