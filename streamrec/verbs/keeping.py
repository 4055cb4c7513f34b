"""inspect, verify and forecast: looking at a state directory without owning it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from streamrec.errors import StateError
from streamrec.journal import read
from streamrec.lane import JOURNAL, Lane
from streamrec.outputs import Outputs
from streamrec.replay import replay_cuts
from streamrec.settings import load_settings
from streamrec.state.fingerprint import machine_fingerprint
from streamrec.state.reading import inspect as summary_of
from streamrec.state.reading import read_lane
from streamrec.verbs.opening import kept_lane, source_of


def inspect(folder: Path) -> None:
    """Print what a state directory holds; `digest` is the digest of what was learned."""
    summary = summary_of(folder)
    lane = kept_lane(folder)
    print(f"digest {lane.learned()}")
    print(f"position {lane.position()}")
    print(f"events {lane.n_events}")
    print(f"users {lane.engine.arena.n_users}")
    print(f"marks {lane.engine.vocabulary.n_marks}")
    for name, value in summary.items():
        if name not in {"settings", "machine"}:
            print(f"{name} {value}")


def verify(folder: Path, against: Sequence[str], config: Path | None, flags: Mapping[str, Any]) -> None:
    """Do everything again from the journal and the log, and compare digests.

    Raises
    ------
    StateError
        If the digests differ, or the state was made on another kind of machine.
    """
    head, loaded = read_lane(folder)
    machine = machine_fingerprint()
    if head["machine"] != machine:
        names = {*machine, *head["machine"]}
        other = ", ".join(sorted(n for n in names if machine.get(n) != head["machine"].get(n)))
        raise StateError(f"{folder}: not comparable, made on another kind of machine ({other} differ)")
    kept = kept_lane(folder)
    given = {name: value for name, value in flags.items() if value is not None}
    settings = load_settings(config, {**head["settings"], **given}, {})
    replayed = Lane(settings, Outputs(), n_universe=1)
    accepted = msgspec.json.decode(loaded.blobs[JOURNAL], type=dict[int, int])
    entries = [(at, entry) for at, entry in read(folder, accepted) if at.epoch in accepted]
    source = source_of(against, settings.input)
    n = replay_cuts(replayed, source, entries)
    source.close()
    same = kept.learned() == replayed.learned() and kept.position() == replayed.position()
    print(f"journal: {n} cuts, {replayed.n_events} events")
    print(f"kept     {kept.learned()}")
    print(f"replayed {replayed.learned()}")
    if not same:
        raise StateError(f"{folder}: log and journal do not give this state; it cannot be trusted")
    print("equal")


def forecast(folder: Path, user: str, at: float | None) -> None:
    """Print a user's forecast as JSON."""
    print(kept_lane(folder).forecast(user, at).to_json().decode())
