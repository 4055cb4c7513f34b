"""judge: what became of the forecasts that were issued, from the two logs alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from rich.console import Console
from rich.table import Table

from streamrec.errors import ConfigError
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.sinks import JsonLinesSink
from streamrec.eventlog.topics import TopicLog, connect
from streamrec.judge.court import Judge
from streamrec.judge.feeds import Feed, ForecastFile, Readable
from streamrec.judge.gauges import Gauges
from streamrec.judge.loop import Pace, judge_logs
from streamrec.judge.state import Keeper
from streamrec.places import one_clock, own_clock
from streamrec.settings import Settings, load_settings
from streamrec.stream import Log
from streamrec.verbs.opening import field_names, is_topic, source_of, topics_of
from streamrec.verbs.scoring import write_json
from streamrec.verbs.stopping import on_signals

SHOW_S = 1.0


class Asked(NamedTuple):
    """What is judged, and how.

    Parameters
    ----------
    forecasts, events : a file or kafka://TOPIC; files or topics
    state : folder of the state; None to keep nothing
    outcomes : file that takes a JSON line per answered forecast
    follow : go on at the end of the topics until a signal comes
    window_s, max_users, max_waiting : see `Judge`
    """

    forecasts: str
    events: Sequence[str]
    state: Path | None = None
    outcomes: Path | None = None
    follow: bool = False
    window_s: float = 86_400.0
    max_users: int = 200_000
    max_waiting: int = 200_000


def judge(asked: Asked, config: Path | None, flags: Mapping[str, Any], json_file: Path | None) -> None:
    """Judge, print the table, write the figures."""
    settings = load_settings(config, flags)
    _check(asked)
    with ExitStack() as stack:
        figures = _judged(asked, settings, stack)
    Console().print(table(figures))
    if json_file is not None:
        write_json(json_file, figures)


def _judged(asked: Asked, settings: Settings, stack: ExitStack) -> dict[str, Any]:
    """Read both logs as far as asked; all figures."""
    live = [is_topic(name) for name in asked.events]
    keeper = None if asked.state is None else Keeper(asked.state)
    if keeper is not None:
        stack.callback(keeper.close)
    outcomes = None if asked.outcomes is None else JsonLinesSink(asked.outcomes)
    if outcomes is not None:
        stack.callback(outcomes.close)
    source, topics = _events(asked.events, settings)
    court = Judge(
        settings,
        topics,
        asked.window_s,
        asked.max_users,
        asked.max_waiting,
        keeper,
        outcomes,
        own_clock if any(live) else one_clock,
    )
    sources = [source]  # opened already for its topics
    events: Feed[Log] = Feed(
        lambda: sources.pop() if sources else _events(asked.events, settings)[0],
        court.cutter.positions,
        court.cutter.checks,
        checked=not any(live),
    )
    stack.callback(events.close)
    forecasts = Feed(
        lambda: _forecasts(asked.forecasts, settings),
        *court.forecast_places,
        checked=not is_topic(asked.forecasts),
    )
    stack.callback(forecasts.close)
    pace = Pace(settings.checkpoint.every_events, settings.cut.poll_events, asked.follow, _rest)
    if settings.http.port is not None:
        pace.tell = _shown(court, settings, stack)
    with on_signals(pace.stop):
        whole = judge_logs(court, events, forecasts, pace)
    return court.verdict() if whole else court.report()


def _check(asked: Asked) -> None:
    topics = [is_topic(name) for name in (asked.forecasts, *asked.events)]
    if asked.follow and not all(topics):
        raise ConfigError(
            "--follow: wanted topics, got files; run again with the same --state to go on with them"
        )
    if not asked.window_s > 0 or min(asked.max_users, asked.max_waiting) < 1:
        raise ConfigError("--window-s, --max-users, --max-waiting: wanted more than 0")


def _events(inputs: Sequence[str], settings: Settings) -> tuple[Log, list[str]]:
    """The log of events up to where it ends now, and its topics."""
    topics = topics_of(inputs)
    if topics:
        return topic_log(topics, settings), topics
    source = source_of(inputs, settings.input)
    return source, [topic for topic, _ in source.topics()]


def _forecasts(name: str, settings: Settings) -> Readable:
    """The log of forecasts up to where it ends now."""
    topics = topics_of([name])
    return topic_log(topics, settings) if topics else ForecastFile([Path(name)])


def topic_log(topics: Sequence[str], settings: Settings) -> TopicLog:
    """What topics hold now."""
    reader = connect(settings.kafka).reader()
    try:
        return TopicLog(reader, topics, JsonCodec(field_names(settings.input)))
    except BaseException:
        reader.close()
        raise


def _rest(at_end: bool) -> None:
    time.sleep(0.5 if at_end else 0.02)


def _shown(court: Judge, settings: Settings, stack: ExitStack) -> Callable[[], None]:
    """Serve the figures; whoever is told renews them at most once a second."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    gauges, due = Gauges(registry), [0.0]
    try:
        server, thread = start_http_server(settings.http.port or 0, settings.http.host, registry)
    except OSError as error:
        raise ConfigError(f"http.port {settings.http.port}: {error.strerror}; choose another port") from None
    stack.callback(thread.join)
    stack.callback(server.shutdown)
    Console(stderr=True).print(f"serving http://{settings.http.host}:{server.server_port}/metrics")

    def tell() -> None:
        if time.monotonic() >= due[0]:
            gauges.show(court.report())
            due[0] = time.monotonic() + SHOW_S

    return tell


def table(figures: Mapping[str, Any]) -> Table:
    """The figures for people."""
    out = Table(title=f"{figures['forecasts']['read']:,} forecasts", show_header=False)
    parts = {"outcome": figures["outcomes"], "marks": figures["mark_issued"], "set90": figures["set90"]}
    for part, values in {**parts, "time": figures["time"], "events": figures["events"]}.items():
        for name, value in values.items():
            out.add_row(part, name, f"{value:,}" if isinstance(value, int) else f"{value:.6g}")
    return out
