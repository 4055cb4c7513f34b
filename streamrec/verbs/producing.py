"""replay and simulate: a historical log or a simulated stream to a topic, or to a file of lines."""

import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamrec.errors import ConfigError, DiskError
from streamrec.produce.faults import Faults, Stream
from streamrec.produce.logfeed import LogFeed
from streamrec.produce.pace import Pacer, SystemClock
from streamrec.produce.sending import Feed, Sending, Sent
from streamrec.produce.shipping import Position, Shipper
from streamrec.produce.streamfeed import StreamFeed, file_lines
from streamrec.settings import KafkaSettings, Settings, load_settings
from streamrec.simulate import Simulation, hour_scale_processes
from streamrec.simulate import simulate as run_process
from streamrec.verbs.making import simulate_file
from streamrec.verbs.opening import source_of
from streamrec.verbs.stopping import on_signals

JSON_ENDS = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Route:
    """Where messages go, and how fast.

    Parameters
    ----------
    to : kafka://TOPIC
    partitions : of a topic that has to be made; None: the broker's default
    id : names what is sent, so that it can be gone on with; None: made from its inputs
    speed, rate : see `Pacer`
    """

    to: str
    partitions: int | None = None
    id: str | None = None
    speed: float = 0.0
    rate: float = 0.0

    @property
    def topic(self) -> str:
        """The topic's name; ConfigError if `to` does not name one."""
        found = re.fullmatch(r"kafka://([A-Za-z0-9._-]{1,249})", self.to)
        if found is None:
            raise ConfigError(f"--to {self.to}: wanted kafka://TOPIC, of letters, digits, '.', '_' and '-'")
        return found[1]


@dataclass(frozen=True)
class Recipe:
    """What is simulated."""

    process: str
    events: int
    users: int
    marks: int
    seed: int

    def run(self) -> Simulation:
        """The simulated events; ConfigError if there is no such process."""
        processes = hour_scale_processes(self.marks, self.seed)
        if self.process not in processes:
            raise ConfigError(f"simulate {self.process}: wanted one of {', '.join(sorted(processes))}")
        return run_process(processes[self.process], self.events, self.users, self.seed, entry_s=86_400.0)


def replay(
    inputs: Sequence[str], route: Route, config: Path | None, flags: Mapping[str, Any], keep_bad: bool
) -> None:
    """Send a log to a topic, every line once, from where an earlier run of the same command ended."""
    settings = load_settings(config, flags)
    source = source_of(inputs, settings.input)
    paths = [name if name == "-" else os.path.abspath(name) for name in inputs]  # noqa: PTH100 (may be a glob)
    with closing(source):
        partitions = _topic(settings.kafka, route)
        feed = LogFeed(source, route.topic, partitions, keep_bad)
        sent = _send(settings, route, feed, _name_of("replay", route, paths), source.count())
    _conclude(sent, route)
    bad = {reason: n for reason, n in sorted(feed.counts.items()) if reason != "ok"}
    if bad:
        done = "sent as they are" if keep_bad else "left out"
        listed = ", ".join(f"{reason} {n:,}" for reason, n in bad.items())
        Console(stderr=True).print(f"lines that are no events, {done} (oversize ones never sent): {listed}")


def simulate(
    recipe: Recipe,
    faults: Faults,
    output: Path | None,
    route: Route | None,
    config: Path | None,
    flags: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Write a simulated stream to a file, or send it to a topic, and say what is in it.

    Raises
    ------
    ConfigError
        If both a file and a topic are given, or faults for a CSV file.
    DiskError
        If the file cannot be written.
    """
    if route is not None:
        if output is not None:
            raise ConfigError(f"--to {route.to}, --output {output}: wanted one of them")
        _simulate_topic(recipe, faults, route, load_settings(config, flags), as_json)
    elif output is not None and output.suffix in JSON_ENDS:
        _simulate_lines(recipe, faults, output, as_json)
    elif faults.any or as_json:
        raise ConfigError("simulate: faults and --json need JSON lines (-o FILE.jsonl) or a topic (--to)")
    else:
        file = output or Path("events.csv")
        simulate_file(recipe.process, recipe.events, recipe.users, recipe.marks, recipe.seed, file)


def _simulate_topic(recipe: Recipe, faults: Faults, route: Route, settings: Settings, as_json: bool) -> None:
    simulation = recipe.run()
    stream = Stream(simulation, faults, recipe.seed)
    feed = StreamFeed(stream, route.topic, _topic(settings.kafka, route))
    name = _name_of("simulate", route, [repr(recipe), repr(faults)])
    _conclude(_send(settings, route, feed, name, len(stream)), route)
    _print_planted(stream, simulation, as_json)


def _simulate_lines(recipe: Recipe, faults: Faults, output: Path, as_json: bool) -> None:
    simulation = recipe.run()
    stream = Stream(simulation, faults, recipe.seed, in_lines=True)
    try:
        with output.open("wb") as file:
            file.writelines(file_lines(stream))
    except OSError as error:
        raise DiskError(f"{output}: cannot be written ({error.strerror}); choose another --output") from None
    _print_planted(stream, simulation, as_json)


def _topic(kafka: KafkaSettings, route: Route) -> int:
    """Partitions of the topic, which is there afterwards; says loudly what it would do to old stamps."""
    from streamrec.eventlog.topic_admin import dangers, ensure_topic  # noqa: PLC0415 (kafka only where needed)

    state = ensure_topic(kafka, route.topic, route.partitions)
    for danger in dangers(route.topic, state):
        Console(stderr=True).print(f"[bold red]warning[/] {danger}", highlight=False)
    return state.partitions


def _name_of(verb: str, route: Route, parts: Sequence[str]) -> str:
    """Name of what is sent: the transactional id, and the group that holds the position."""
    digest = zlib.crc32("\n".join(parts).encode(errors="surrogateescape"))
    return route.id or f"streamrec-{verb}-{route.topic}-{digest:08x}"


def _send(settings: Settings, route: Route, feed: Feed, name: str, total: int | None) -> Sent:
    clock = SystemClock()
    pacer = Pacer(clock, route.speed, route.rate)
    asked = Event()
    with (
        on_signals(asked.set),
        closing(_shipper(settings, route.topic, name, clock)) as shipper,
        _progress(total) as seen,
    ):
        return Sending(feed, shipper, pacer, clock, asked.is_set, seen).run()


def _shipper(settings: Settings, topic: str, name: str, clock: SystemClock) -> Shipper:
    from streamrec.eventlog.topics import connect  # noqa: PLC0415 (kafka only where needed)

    kafka = settings.kafka.model_copy(
        update={"group": name, "transactional_id": name, "group_instance_id": None, "lanes": 1}
    )
    clients = connect(kafka)
    return Shipper(clients.transactor(name), clients.member(), topic, clock)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[Position], None]]:
    """A bar on stderr, if somebody looks at it."""
    columns = (TextColumn("sent"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("sent", total=total)
        yield lambda position: progress.update(task, completed=position.lines)


def _conclude(sent: Sent, route: Route) -> None:
    console = Console(stderr=True, highlight=False)
    if sent.begun.lines:
        console.print(f"{route.topic}: {sent.begun.lines:,} lines had been sent before")
    console.print(f"{route.topic}: {sent.messages:,} messages sent; {sent.ended.lines:,} lines in all")
    if sent.stopped:
        console.print("stopped; run the same command again to go on")


def _print_planted(stream: Stream, simulation: Simulation, as_json: bool) -> None:
    summary = stream.summary() | {"open_log_survival": simulation.open_log_survival}
    if as_json:
        print(msgspec.json.encode(summary).decode())
        return
    print(f"{summary['lines']} lines of {summary['events']} events of {summary['users']} users")
    for name in ("planted", "reasons", "bins", "bins_lateness_0"):
        shown = ", ".join(f"{key} {n}" for key, n in summary[name].items())
        print(f"{name}: {shown or 'none'}")
