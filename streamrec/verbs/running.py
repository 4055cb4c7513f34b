"""run and demo: a log through the whole program, with state, sinks and a live view."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from streamrec.errors import ConfigError, StateError
from streamrec.evaluate import cumulative
from streamrec.eventlog.datasets import cache_folder, get_dataset
from streamrec.eventlog.files import FileSource
from streamrec.lane import Lane
from streamrec.logs import logging_as
from streamrec.report import Display, score_table
from streamrec.settings import load_settings
from streamrec.state.writer import ThreadWriter
from streamrec.stream import NOBODY, Events, drive
from streamrec.verbs.making import simulate_file
from streamrec.verbs.opening import outputs_of, source_of
from streamrec.verbs.stopping import on_signals

if TYPE_CHECKING:
    from streamrec.telemetry import LoopState
    from streamrec.verbs.serving import Watch

DEMO = "movielens-100k"


def run(
    inputs: Sequence[str],
    config: Path | None,
    flags: Mapping[str, Any],
    state: Path | None,
    sink: str,
    dead_letters: str | None,
) -> None:
    """Stream inputs through a lane and print the table at the end."""
    console = Console(stderr=True)
    settings = load_settings(config, flags)
    source = source_of(inputs, settings.input)
    lane = Lane(settings, outputs_of(sink, dead_letters))
    with logging_as(settings.log), _watched(lane, console) as watch:
        try:
            before = _drive(lane, watch, source, state, console)
        except BaseException:
            lane.abandon()
            raise
    source.close()
    _conclude(lane, before, Console())


def _drive(
    lane: Lane, watch: "Watch | None", source: FileSource, state: Path | None, console: Console
) -> int:
    """Open, stream and close a lane; the events that it had before."""
    open_lane = partial(lane.open, make_writer=ThreadWriter) if watch is None else watch.open
    resumed = state is not None and open_lane(state)
    if lane.layout:
        raise StateError(
            f"{state}: was made from topics, and cannot go on with files; give a folder of its own"
        )
    if resumed and lane.n_events:
        console.print(f"{state}: resumed after {lane.n_events:,} events")
    events = Events(source, poll_events=lane.settings.cut.poll_events)
    before = lane.n_events
    _enter(watch, "running")
    with Display(lane, events.count(), console) as display, on_signals(events.stop):
        for result in drive(events, lane, watch or NOBODY):
            display.update(result)
    _enter(watch, "draining")
    lane.close()
    if events.stopped:
        console.print(f"stopped after {lane.n_events:,} events; run the same command again to go on")
    return before


@contextmanager
def _watched(lane: Lane, console: Console) -> Iterator["Watch | None"]:
    """Metrics and queries while the block runs, if a port is set."""
    if lane.settings.http.port is None:
        yield None
        return
    from streamrec.verbs.serving import serving  # noqa: PLC0415 (fastapi only where it is asked for)

    with serving(lane, console) as watch:
        yield watch


def _enter(watch: "Watch | None", state: "LoopState") -> None:
    if watch is not None:
        watch.enter(state)


def _conclude(lane: Lane, before: int, console: Console) -> None:
    bins = ", ".join(f"{name} {n:,}" for name, n in lane.cutter.bins.counts._asdict().items() if n)
    if lane.n_events == before:
        console.print(f"nothing is new: all records were read before ({bins})")
    else:
        console.print(f"read {lane.n_events - before:,} events ({bins} in all)")
    if lane.n_events:
        console.print(score_table(cumulative(lane.engine), f"{lane.n_events:,} events, scored as they came"))


def demo(state: Path | None) -> None:
    """Stream MovieLens-100K, or a simulated stream where it cannot be had."""
    console = Console(stderr=True)
    try:
        path = get_dataset(DEMO, console.print)
    except ConfigError as error:
        console.print(f"{error}\na simulated stream is used instead")
        path = cache_folder() / "sessions.csv"
        simulate_file("sessions", events=100_000, users=1000, marks=500, seed=0, output=path)
    run([str(path)], None, {}, state, "none", None)
