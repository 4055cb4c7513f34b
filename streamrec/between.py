"""What happens to a lane between two cuts, and is in its journal because it is not in the log.

    tick, gap, rewound, assign, revoke, forget        entry ─► cutter, engine

Done live and done again by a replay it is the same call, so that both give the same bits.
"""

from collections.abc import Callable
from typing import Any

from streamrec.cut import Cutter
from streamrec.entries import Assigned, Entry, ForgetUser, GapSkip, Revoked, Rewound, Tick
from streamrec.errors import StateError
from streamrec.processor import Engine


def happen(entry: Entry, cutter: Cutter, engine: Engine) -> None:
    """Do what an entry says.

    Raises
    ------
    StateError
        If nothing between cuts is told by such an entry.
    InvariantError
        If it does not fit where the lane stands.
    """
    done = _DEEDS.get(type(entry))
    if done is None:
        raise StateError(f"a {type(entry).__name__} entry is not replayed by this version")
    done(entry, cutter, engine)


def _tick(entry: Tick, cutter: Cutter, engine: Engine) -> None:
    cutter.tick(entry.topic, entry.partition, entry.time)


def _skip(entry: GapSkip, cutter: Cutter, engine: Engine) -> None:
    cutter.skip(entry.topic, entry.partition, entry.first, entry.next, entry.cause)


def _rewind(entry: Rewound, cutter: Cutter, engine: Engine) -> None:
    cutter.rewind(entry.topic, entry.partition, entry.next, entry.to)


def _assign(entry: Assigned, cutter: Cutter, engine: Engine) -> None:
    for topic, partition, at in entry.places:
        cutter.assign(topic, partition, at)


def _revoke(entry: Revoked, cutter: Cutter, engine: Engine) -> None:
    """Nothing: a lane that is given up keeps all it has for the next owner."""


def _forget(entry: ForgetUser, cutter: Cutter, engine: Engine) -> None:
    cutter.forget(entry.user)
    engine.forget(entry.user)


_DEEDS: dict[type[Any], Callable[[Any, Cutter, Engine], None]] = {
    Tick: _tick,
    GapSkip: _skip,
    Rewound: _rewind,
    Assigned: _assign,
    Revoked: _revoke,
    ForgetUser: _forget,
}
