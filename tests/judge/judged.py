"""Logs with everything in them, what the program makes of them, and judges of the two."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamrec.cut import Cut, Cutter
from streamrec.evaluate import evaluate
from streamrec.event import Event
from streamrec.eventlog.base import Place, Reject
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource
from streamrec.eventlog.sinks import JsonLinesSink
from streamrec.forecast import Forecast, Hazard, MarkChance, Wait
from streamrec.judge.court import Judge
from streamrec.judge.feeds import Feed, ForecastFile, Readable
from streamrec.judge.loop import Pace, judge_logs
from streamrec.judge.state import Keeper
from streamrec.lane import Lane
from streamrec.order import Order
from streamrec.outputs import Outputs
from streamrec.places import own_clock
from streamrec.settings import Settings, load_settings
from streamrec.stream import Coded, Events, Log

TINY = {"models.enabled": ["gamma_poisson", "context_1"], "cut.cut_events": 64}


def settings_of(more: Mapping[str, Any] | None = None) -> Settings:
    """A tiny bank, and what is set besides."""
    return load_settings(None, {**TINY, **(more or {})}, {})


Lines = Mapping[Place, Sequence[bytes]]
"""A log of events by place."""


def lines(n: int, seed: int = 1, late: float = 0.15, back: float = 5000.0, partitions: int = 1) -> Lines:
    """JSON lines: ties, repeated marks, late events, duplicates, and lines that are no event."""
    draw = random.Random(seed)
    out: list[str] = []
    now = 1_700_000_000.0
    for i in range(n):
        now += draw.choice([0.0, 0.0, 0.0, 1.0, 30.0, 4000.0])
        time = now - draw.choice([1.0, back]) if draw.random() < late else now
        user = draw.randrange(30) ** 2 // 30
        mark = f"m{(user + draw.randrange(4) ** 2) % 40}"
        out.append(json.dumps({"user": f"u{user}", "mark": mark, "time": time, "id": f"e{i}"}))
        if draw.random() < 0.03:
            out.append(draw.choice(out))
        if draw.random() < 0.03:
            out.append(draw.choice(["{", '{"user": "u1", "time": 5}', "nonsense", '{"user": 1, "mark": []}']))
    places: dict[Place, list[bytes]] = {("log", p): [] for p in range(partitions)}
    for line in out:
        number = line.partition('"u')[2].partition('"')[0]
        places["log", int(number) % partitions if number.isdecimal() else 0].append(line.encode())
    return places


def source_of(log: Lines) -> Coded:
    """A log in memory."""
    return Coded(MemorySource(log), JsonCodec(FieldNames()), sum(map(len, log.values())))


def decoded(log: Lines) -> list[Event | Reject]:
    """All records of a log, read."""
    source = source_of(log)
    return source.decode_many(source.poll(1_000_000))


def evaluated(log: Lines, forecasts: Path, settings: Settings) -> dict[str, Any]:
    """The program's own figures, while it writes its forecasts."""
    sink = JsonLinesSink(forecasts)
    lane = Lane(settings, Outputs(sink), clock_of=own_clock)
    figures = evaluate(Events(source_of(log)), lane)
    sink.close()
    return figures


def judge_of(settings: Settings, keeper: Keeper | None = None, **more: Any) -> Judge:
    """A judge of a log in memory."""
    return Judge(settings, **{"topics": ["log"], "keeper": keeper, **more})


def feeds_of(judge: Judge, log: Lines, forecasts: Path) -> tuple[Feed[Log], Feed[Readable]]:
    """Both logs, read on where the judge stands."""
    events: Feed[Log] = Feed(lambda: source_of(log), judge.cutter.positions, judge.cutter.checks)
    return events, Feed(lambda: ForecastFile([forecasts]), *judge.forecast_places)


def verdict(log: Lines, forecasts: Path, settings: Settings, poll: int = 2000, **more: Any) -> dict[str, Any]:
    """The figures of a judge that reads both logs to their ends."""
    judge = judge_of(settings, **more)
    assert judge_logs(judge, *feeds_of(judge, log, forecasts), Pace(poll=poll))
    return judge.verdict()


def toy_forecasts(log: Lines, flush_at: int) -> list[bytes]:
    """What a program with one list for all would issue; it ends a run after `flush_at` records."""
    last: dict[str, float] = {}
    cutter = Cutter(Order(), lambda user: last.get(user, float("nan")))
    source = source_of(log)
    records = source.poll(1_000_000)
    pairs = list(zip(records, source.decode_many(records), strict=True))
    out: list[bytes] = []

    def issue(cut: Cut) -> None:
        for tie in cut.sets:
            last[tie.user] = tie.time
            out.append(_toy(f"{tie.topic}:{tie.partition}:{tie.offset}:0:mixture", tie.user, tie.time))

    for part in (pairs[:flush_at], pairs[flush_at:]):
        for cut in cutter.feed(part):
            issue(cut)
        for cut in cutter.finish():
            issue(cut)
    return out


def _toy(id_: str, user: str, time: float) -> bytes:
    rate = 0.01 + len(user) / 300
    hazard = Hazard([0.0, 1.0, 9000.0], [rate, 0.3 * rate], 0.001)
    marks = [MarkChance(f"m{i}", round(0.4 / (i + 1), 6)) for i in range(4)]
    wait = Wait({"0.5": 60.0}, 80.0, {}, 0.01, hazard)
    names = ["m0", "m1"]
    return Forecast(id_, user, time, marks, 0.05, 0.1, 9, 1000, wait, names, [0.5, 4000.0]).to_json()
