"""Events per second from a topic to forecasts on another, beside the same bank from a file to nowhere.

    file            JSON lines in, nothing out, no state folder
    kafka-python    the daemon: topic in, journal and checkpoints on disk, forecasts to a topic
    confluent       the same with the other client
    default, tiny   with the default bank, and with one as cheap as can be (gamma_poisson, context_1)
    null            poll, decode, order, cut, and send fixed bytes for every set: no lane at all

Every round takes all sides in turn, each from an empty state; the first events of each warm up. A share is of
the rate of the file in the same round. Cuts have 128 events on every side. `stages` says where the
processor's time goes, µs per event; `lanes` is one lane in one process against two lanes in two.

This is not called `kafka.py`, for that would stand before the client library of that name.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from broker import AbsentError, Broker, broker
from machine import ROOT, Clock, digits, machine, small_wanted, spread
from pair import lanes_in_turn
from running import TINY, Meter, Rate, run_daemon, settings_of
from stages import Stages
from stream import chained

from streamrec.daemon.held import Held
from streamrec.daemon.loop import Daemon
from streamrec.daemon.observer import Unobserved
from streamrec.eventlog.clients import Message
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import encode_event
from streamrec.eventlog.topics import TopicLog, connect
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.settings import ModelsSettings, Settings
from streamrec.stream import Events, drive, read_all
from streamrec.verbs.consuming import settle_memory
from streamrec.verbs.opening import source_of

Models = tuple[str, ...] | None
Side = Callable[[], Rate]

CLIENTS = ("kafka-python", "confluent")
PARTITIONS = 4
FORECAST = b'{"' + b"x" * 1496 + b'"}'
"""As long as a forecast is."""


class Log(NamedTuple):
    """The same events as a file of lines and as records of a topic; the first `warmup` are not measured."""

    events: int
    warmup: int
    source: str
    lines: Sequence[bytes]
    keys: Sequence[bytes]
    file: Path
    topic: str


def main(small: bool = False) -> dict[str, Any]:
    """All sides; `skipped` says why, if there is no broker here."""
    found: dict[str, Any] = {}
    try:
        with broker() as where, tempfile.TemporaryDirectory() as folder:
            found = _measured(where, Path(folder), small)
    except AbsentError as why:
        found = {"skipped": str(why)}
    return {"bench": "topic", **found, "load": [digits(x) for x in os.getloadavg()], "machine": machine()}


def _measured(where: Broker, folder: Path, small: bool) -> dict[str, Any]:
    log = _log(where, folder, *((1_200, 400) if small else (11_000, 3_000)))
    settle_memory()  # as the daemon does; on every side
    rounds = 1 if small else 3
    found: dict[str, Any] = {"events": log.events - log.warmup, "rounds": rounds, "source": log.source}
    banks: Mapping[str, Models] = {"tiny": TINY} if small else {"default": None, "tiny": TINY}
    for bank, models in banks.items():
        found[bank] = _in_turn(_sides(where, log, folder, models), rounds)
    found["null"] = _in_turn({client: _null(where, log, client) for client in CLIENTS}, rounds)
    found["stages"] = {
        f"{bank}, {client}": _stages(where, log, folder, client, models)
        for bank, models in banks.items()
        for client in CLIENTS
    }
    if not small:
        found["lanes"] = lanes_in_turn(where, folder, log.lines, log.keys, log.warmup, rounds)
    return found


def _log(where: Broker, folder: Path, n: int, warmup: int) -> Log:
    """The first events of retweet, or simulated ones where that is absent."""
    path = ROOT.parent / "shared" / "data" / "retweet.csv.gz"
    if path.exists():
        source = source_of([str(path)], Settings().input)
        decoded = [event for records in read_all(source, n) for event in source.decode_many(records)]
        events, name = [event for event in decoded if not hasattr(event, "reason")], "retweet"
    else:
        events, name = chained(n, users=n // 40, marks=17), "simulated, 17 marks"
    lines, keys = [encode_event(event) for event in events], [event.user.encode() for event in events]
    file, topic = folder / "events.jsonl", where.topic("events", PARTITIONS)
    file.write_bytes(b"\n".join(lines) + b"\n")
    where.fill(topic, lines, keys)
    return Log(len(lines), warmup, name, lines, keys, file, topic)


def _in_turn(sides: Mapping[str, Side], rounds: int) -> dict[str, Any]:
    """Rates of every side, and its share of the file's in the same round."""
    rates: dict[str, list[Rate]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            rates[name].append(side())
    found = {}
    for name, mine in rates.items():
        found[name] = {
            "per_wall_second": spread([one.wall for one in mine]),
            "per_cpu_second": spread([one.cpu for one in mine]),
        }
        if "file" in rates and name != "file":
            pairs = list(zip(mine, rates["file"], strict=True))
            found[name]["share_wall"] = spread([one.wall / file.wall for one, file in pairs])
            found[name]["share_cpu"] = spread([one.cpu / file.cpu for one, file in pairs])
    return found


def _sides(where: Broker, log: Log, folder: Path, models: Models) -> dict[str, Side]:
    def daemon(client: str) -> Side:
        return lambda: _daemon(where, log, folder, client, models)

    return {"file": lambda: _file(log, models), **{client: daemon(client) for client in CLIENTS}}


def _file(log: Log, models: Models) -> Rate:
    lane, meter = Lane(Settings(models=ModelsSettings(enabled=models)), Outputs()), Meter(log.warmup)
    source = source_of([str(log.file)], Settings().input)
    for result in drive(Events(source), lane):
        meter.add(len(result.batch.mark))
    meter.end()
    source.close()
    return meter.rate


def _daemon(where: Broker, log: Log, folder: Path, client: str, models: Models) -> Rate:
    meter = Meter(log.warmup)
    _run(where, log, folder, client, models, meter)
    return meter.rate


def _run(
    where: Broker,
    log: Log,
    folder: Path,
    client: str,
    models: Models,
    meter: Meter,
    touch: Callable[[Daemon], object] = lambda _: None,
) -> None:
    """A member of a new group, from an empty state to the end of the topic."""
    forecasts, state = where.topic("forecasts", PARTITIONS), folder / "state"
    settings = settings_of(where, models, client, group=forecasts)
    run_daemon(settings, log.topic, forecasts, state, meter.on(Unobserved()), touch)
    shutil.rmtree(state)
    if not where.count(forecasts):
        raise RuntimeError(f"{client}: no forecast has reached the topic")


def _null(where: Broker, log: Log, client: str) -> Side:
    """What is left of the daemon without a lane."""

    def side() -> Rate:
        forecasts, meter = where.topic("nothing", PARTITIONS), Meter(log.warmup)
        clients = connect(where.settings(client=client))
        cutter = Lane(Settings(models=ModelsSettings(enabled=TINY)), Outputs()).cutter
        outlet = clients.outlet()
        source = TopicLog(clients.reader(), [log.topic], JsonCodec(FieldNames()))
        with closing(source), closing(outlet):
            for records in read_all(source, poll=2_000):
                pairs = zip(records, source.decode_many(records), strict=True)
                for cut in cutter.feed(pairs):
                    outlet.send([Message(forecasts, FORECAST, one.user.encode()) for one in cut.sets])
                    meter.add(sum(len(one.marks) for one in cut.sets))
            outlet.flush(60)
            meter.end()
        return meter.rate

    return side


STAGES_OF_LANE = (
    ("engine", "process", "engine"),
    ("store", "check_owner", "owner"),
    ("journal", "append", "journal"),
    ("outputs.forecasts", "emit", "send"),
    ("", "_emit", "render"),
    ("", "_send", "encode"),
    ("", "checkpoint", "checkpoint"),
)


def _stages(where: Broker, log: Log, folder: Path, client: str, models: Models) -> dict[str, float]:
    """µs of the processor per event: stages of the loop's thread, and what all other threads spend."""
    stages, clock = Stages(), Clock()

    def begin() -> None:
        nonlocal clock
        stages.reset()
        clock = Clock()

    meter = Meter(log.warmup, begin)
    _run(where, log, folder, client, models, meter, lambda daemon: _watch(stages, daemon))
    spent = stages.seconds()
    spent |= {"other threads": clock.cpu - sum(spent.values()), "all": clock.cpu, "wall": clock.wall}
    return {name: digits(1e6 * s / (meter.events - meter.first)) for name, s in spent.items()}


def _watch(stages: Stages, daemon: Daemon) -> None:
    """Let the parts of a daemon be stages; those of a lane once it has one."""
    stages.watch(daemon.member, "poll", "poll")
    stages.watch(daemon, "_look", "look, commit")
    stages.watch(daemon, "_commit", "look, commit")
    hold = daemon.holdings.workshop.hold

    def holding(*args: Any) -> Held:
        held = hold(*args)
        stages.watch(held, "decode", "decode")
        stages.watch(held, "take", "feed, order, cut")
        stages.watch(held, "work", "feed, order, cut")
        for owner, method, name in STAGES_OF_LANE:
            stages.watch(attrgetter(owner)(held.lane) if owner else held.lane, method, name)
        return held

    vars(daemon.holdings.workshop).update(hold=holding)


if __name__ == "__main__":
    print(json.dumps(main(small_wanted()), indent=1))
