"""docs/benchmarks.md out of the figures of `all.py`, with what became of every base.

A base is a ratio or a time that this machine should reach; `reached` is the median of the run. Bases that
nothing here measures are named as such.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from base import Base, spread_of
from page import table
from topic_page import topic_bases, topic_section

Figures = Mapping[str, Any]


FIRST_GOALS = {
    "simulated, 17 marks": 5000,
    "simulated, 100 marks": 5000,
    "taobao": 5000,
    "retweet": 5000,
    "movielens-100k": 3000,
}
"""What the first version shall do, below the bases."""

UNMEASURED = (
    "EasyTPP's RMTPP (needs an environment of its own)",
    "micro-batch p99",
    "5M users against 10k, one hot user",
)


def bases(figures: Figures) -> Iterator[Base]:
    """Every base that is measured here."""
    ratio = {name: one["median"] for name, one in figures["neural"]["times_ours"].items()}
    river = min(value for name, value in ratio.items() if name.startswith("river"))
    yield Base.least(
        "neural expert, test-then-train, against the per-event torch loop", 100, ratio["torch_loop"], "x"
    )
    yield Base.least("the same against river's fastest classifier loop (type only)", 20, river, "x")
    latency = figures["latency"]
    alone, bank = (latency[name]["wall_us"]["p50"] for name in ("recurrent_alone", "default_bank"))
    yield Base.most("one event in, forecast out, p50: neural expert alone", 50, alone, "µs")
    yield Base.most("the same: default bank", 1000, bank, "µs")
    for name, figure in figures["bank"].items():
        if isinstance(figure, Mapping) and "per_cpu_second" in figure:
            rate = figure["per_cpu_second"]["median"]
            many = name.startswith("movielens") or "10000" in name
            if name in FIRST_GOALS:
                goal = FIRST_GOALS[name]
                yield Base.least(
                    f"first goal, default bank, events per core-second: {name}", goal, rate, "/s"
                )
            yield Base.least(
                f"default bank, events per core-second: {name}", 3000 if many else 20_000, rate, "/s"
            )
    checkpoint = figures["checkpoint"]
    yield Base.most("memory of a user, one neural expert", 400, checkpoint["bytes_per_row"], "B")
    yield Base.most("checkpoint pause p99, 1M users, 10k dirty rows", 10, checkpoint["pause_ms"]["p99"], "ms")
    yield Base.most("full restore of 1M users", 1, checkpoint["restore_s"]["wall"]["median"], "s")
    yield from topic_bases(figures["topic"])


def page(figures: Figures) -> str:
    """The page."""
    rows = [[b.what, b.base, b.reached, "met" if b.met else "not met"] for b in bases(figures)]
    about = ", ".join(f"{name} {value}" for name, value in figures["machine"].items())
    small = " **With `--small`: sizes too small to mean anything.**" if figures["small"] else ""
    parts = [
        "# Benchmarks",
        f"Written by `python bench/all.py --page` on {figures['date']}, commit {figures['commit']}; {about}. "
        "One thread. The machine did other work at the same time: costs are processor time of the process "
        f"unless wall time is named, with median [least, largest].{small}",
        "## Bases",
        table(["what", "base", "reached (median)", ""], rows),
        "Not measured here: " + "; ".join(UNMEASURED) + ".",
        "## The neural expert beside other loops",
        _neural(figures["neural"]),
        "## What each part costs",
        _models(figures["models"]),
        "## The whole program",
        _bank(figures["bank"]),
        "## Early and late",
        *(_flat(name, figures["flat"][name]) for name in ("counts", "bank")),
        "## Checkpoints and single events",
        _single(figures),
        "## From a topic to forecasts",
        topic_section(figures["topic"]),
    ]
    return "\n\n".join(parts) + "\n"


def _neural(figures: Figures) -> str:
    rows = []
    for name, cost in figures["us_per_event"].items():
        ratio = spread_of(figures["times_ours"][name]) if name in figures["times_ours"] else ""
        rows.append([name, spread_of(cost), ratio, *_reached(figures["reached"][name])])
    rows.append(["oracle", "", "", *_reached(figures["oracle"])])
    later = figures["ours_later"]
    rows.append(["ours, later", spread_of(later["us_per_event"]), "", *_reached(later["reached"])])
    rows.append(["oracle, later", "", "", *_reached(figures["oracle_later"])])
    head = ["", "µs per event", "times ours", "accuracy", "ln p(mark)", "ln f(wait)"]
    return (
        f"Hawkes stream, {figures['marks']} marks, {figures['users']:,} users who enter over time; "
        f"{figures['events']:,} events in {figures['rounds']} rounds that all sides take in turn, then "
        f"{later['events']:,} more for ours alone (scores of their second half). Scores are means over "
        "events with a past; a first event of a user costs the loops almost nothing. Ours is scored by "
        "what was issued, the torch loop at arrival with its newest weights: such a ln f(wait) may pass the "
        "oracle's, and is no evidence of a better forecast.\n\n" + table(head, rows)
    )


def _reached(scores: Mapping[str, float | None]) -> list[str]:
    return [
        "" if scores.get(key) is None else f"{scores[key]:,g}"
        for key in ("accuracy", "ln_p_mark", "ln_f_wait")
    ]


def _models(figures: Figures) -> str:
    by_marks = {marks: one for marks, one in figures.items() if isinstance(one, Mapping)}
    costs = [one["us_per_event"] for one in by_marks.values()]
    names = list(costs[0])
    rows = [[name, *(spread_of(cost[name]) for cost in costs)] for name in names]
    head = ["µs per event", *(f"{marks} marks" for marks in by_marks)]
    return "In brackets what is not a model.\n\n" + table(head, rows)


def _bank(figures: Figures) -> str:
    rows = [
        [name, f"{one['events']:,}", spread_of(one["per_cpu_second"]), spread_of(one["per_wall_second"])]
        for name, one in figures.items()
        if isinstance(one, Mapping)
    ]
    absent = f" Absent: {', '.join(figures['absent'])}." if figures["absent"] else ""
    text = (
        f"Default bank, file or memory in, nothing out; peak memory {figures['peak_rss_mb']:,} MiB.{absent}"
    )
    return text + "\n\n" + table(["stream", "events", "per processor second", "per wall second"], rows)


def _flat(name: str, figures: Figures) -> str:
    what = "Count models and mixture" if name == "counts" else "Everything"
    columns = zip(
        *(figures[k] for k in ("us_per_event_cpu", "us_per_event_wall", "resident_mb")), strict=True
    )
    rows = [[str(i), *(f"{x:,g}" for x in line)] for i, line in enumerate(columns)]
    text = (
        f"{what}: {figures['events']:,} events of {figures['users']:,} users. Stretch 0 is the first 10,000 "
        f"events, each other {figures['stretch']:,}. Late over early: {figures['late_over_early']:g}. "
        "On a machine that never ran this version stretch 0 holds the compiling of the kernels."
    )
    return text + "\n\n" + table(["stretch", "µs per event", "µs, wall", "resident, MiB"], rows)


def _single(figures: Figures) -> str:
    c, latency = figures["checkpoint"], figures["latency"]
    rows = [
        ["pause of the loop, ms", spread_of(c["pause_ms"])],
        ["pause, p99, ms", f"{c['pause_ms']['p99']:g}"],
        ["pause, processor ms", spread_of(c["pause_cpu_ms"])],
        ["until it is on disk, ms", spread_of(c["save_ms"])],
        ["restore, s", spread_of(c["restore_s"]["wall"])],
        ["restore, processor s", spread_of(c["restore_s"]["cpu"])],
    ]
    for name in ("recurrent_alone", "default_bank"):
        wall, cpu = latency[name]["wall_us"], latency[name]["cpu_us"]
        rows.append([f"one event, {name}, µs wall p50 / p99", f"{wall['p50']:,g} / {wall['p99']:,g}"])
        rows.append([f"one event, {name}, µs processor p50 / p99", f"{cpu['p50']:,g} / {cpu['p99']:,g}"])
    text = f"{c['users']:,} users of {c['bytes_per_row']} bytes, {c['dirty_rows']:,} dirty rows, "
    text += f"{c['repeats']} times."
    return text + "\n\n" + table(["what", "figure"], rows)
