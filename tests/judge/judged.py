"""Logs with everything in them, what the program makes of them, and judges of the two."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamrec.evaluate import evaluate
from streamrec.eventlog.sinks import JsonLinesSink
from streamrec.judge.court import Judge
from streamrec.judge.feeds import Feed, ForecastFile, Readable
from streamrec.judge.loop import Pace, judge_logs
from streamrec.judge.state import Keeper
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.places import one_clock
from streamrec.settings import Settings, load_settings
from streamrec.stream import Events, Log
from streamrec.verbs.opening import source_of

TINY = {"models.enabled": ["gamma_poisson", "context_1"], "cut.cut_events": 64}


def settings_of(more: Mapping[str, Any] | None = None) -> Settings:
    """A tiny bank, and what is set besides."""
    return load_settings(None, {**TINY, **(more or {})}, {})


def lines(n: int, seed: int = 1, late: float = 0.05, back: float = 30.0) -> list[str]:
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
    return out


def write(path: Path, data: list[str]) -> Path:
    """A file of these lines."""
    path.write_text("\n".join([*data, ""]))
    return path


def evaluated(log: Path, forecasts: Path, settings: Settings) -> dict[str, Any]:
    """The program's own figures, while it writes its forecasts."""
    sink = JsonLinesSink(forecasts)
    figures = evaluate(Events(source_of([str(log)], settings.input)), Lane(settings, Outputs(sink)))
    sink.close()
    return figures


def judge_of(settings: Settings, log: Path, keeper: Keeper | None = None, **more: Any) -> Judge:
    """A judge of a log in a file."""
    return Judge(settings, [str(log)], keeper=keeper, clock_of=one_clock, **more)


def feeds_of(
    judge: Judge, log: Path, forecasts: Path, settings: Settings
) -> tuple[Feed[Log], Feed[Readable]]:
    """Both files, read on where the judge stands."""
    cutter = judge.cutter
    events: Feed[Log] = Feed(lambda: source_of([str(log)], settings.input), cutter.positions, cutter.checks)
    return events, Feed(lambda: ForecastFile([forecasts]), *judge.forecast_places)


def verdict(log: Path, forecasts: Path, settings: Settings, poll: int = 2000, **more: Any) -> dict[str, Any]:
    """The figures of a judge that reads both logs to their ends."""
    judge = judge_of(settings, log, **more)
    assert judge_logs(judge, *feeds_of(judge, log, forecasts, settings), Pace(poll=poll))
    return judge.verdict()
