"""The part of docs/benchmarks.md that tells of topics, out of the figures of `topic.py`."""

from collections.abc import Iterator, Mapping
from typing import Any

from base import Base, spread_of
from page import table

Figures = Mapping[str, Any]
SHARES = {"kafka-python": 0.5, "confluent": 0.7}
"""Of the file's rate, by client."""


def topic_bases(figures: Figures) -> Iterator[Base]:
    """Bases of the default bank; none if it was not measured."""
    for client, least in SHARES.items():
        if "default" in figures:
            for clock, key in (("processor time", "share_cpu"), ("wall", "share_wall")):
                share = figures["default"][client][key]["median"]
                what = f"topic to forecasts with {client}, share of file to none, by {clock}"
                yield Base.least(what, least, share, "x")
    if "lanes" in figures:
        yield Base.least(
            "two lanes in two processes against one, by wall", 1.6, figures["lanes"]["gain"]["median"], "x"
        )


def topic_section(figures: Figures) -> str:
    """Rates and shares, where the time goes, two lanes."""
    if "skipped" in figures:
        return f"Not measured: {figures['skipped']}."
    parts = [_about(figures), _rates(figures), _null(figures), _stages(figures["stages"])]
    return "\n\n".join([*parts, *([_lanes(figures["lanes"])] if "lanes" in figures else [])])


def _about(figures: Figures) -> str:
    load = ", ".join(f"{x:g}" for x in figures["load"])
    return (
        f"{figures['events']:,} events of {figures['source']} after the warm-up, {figures['rounds']} rounds "
        "that all sides take in turn, cuts of 128. `file` reads JSON lines, and keeps and writes nothing; "
        "the others are the daemon, beside one node of Apache Kafka on this machine: journal, checkpoints, "
        "forecasts to a topic, everything acknowledged. A share is of the file's rate in the same round; "
        "processor time is that of all threads of the process, without the broker's. "
        f"Load averages of the machine at the end: {load}."
    )


def _rates(figures: Figures) -> str:
    head = [
        "bank",
        "side",
        "events per wall second",
        "per processor second",
        "share, wall",
        "share, processor",
    ]
    rows = []
    for bank in ("default", "tiny"):
        for side, one in figures.get(bank, {}).items():
            keys = ("per_wall_second", "per_cpu_second", "share_wall", "share_cpu")
            rows.append([bank, side, *(spread_of(one[key]) if key in one else "" for key in keys)])
    return table(head, rows)


def _null(figures: Figures) -> str:
    rows = [
        [client, spread_of(one["per_wall_second"]), spread_of(one["per_cpu_second"])]
        for client, one in figures["null"].items()
    ]
    text = "Without a lane: poll, decode, order, cut, and 1.5 kB sent for every set."
    return text + "\n\n" + table(["client", "events per wall second", "per processor second"], rows)


def _stages(stages: Figures) -> str:
    names = dict.fromkeys(name for one in stages.values() for name in one)
    rows = [[name, *(f"{one[name]:,g}" if name in one else "" for one in stages.values())] for name in names]
    text = (
        "Where the time goes, µs per event: processor time of the loop's thread by stage (without those "
        "inside of it), then what all other threads spend (the client's own, the writer of checkpoints)."
    )
    return text + "\n\n" + table(["", *stages], rows)


def _lanes(lanes: Figures) -> str:
    text = "The same topic, four partitions, as one lane in one process and as two in two (kafka-python)."
    rows = [[spread_of(lanes[key]) for key in ("one", "two", "gain")]]
    return text + "\n\n" + table(["one, events per wall second", "two", "gain"], rows)
