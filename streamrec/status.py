"""What lanes answer when they are asked over HTTP; called by the loop, between two cuts."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from streamrec.errors import StreamrecError
from streamrec.lane import Lane

Lanes = Mapping[int, Lane]


class UnknownUserError(StreamrecError):
    """Nothing is known of the user who was asked for."""


class NoAnswerError(StreamrecError):
    """The loop cannot answer now."""


def forecast_of(lanes: Lanes, user: str, at: float | None) -> bytes:
    """A user's forecast as JSON, from the first lane that knows the user.

    Raises
    ------
    UnknownUserError
        If the user was never seen, or was evicted.
    NoAnswerError
        If no lane is open here.
    ConfigError
        If `at` is before the user's last event.
    """
    if not lanes:
        raise NoAnswerError("no lane is open here: a standby, or a restart; ask the member that has the lane")
    for _, lane in sorted(lanes.items()):
        if not math.isnan(lane.engine.last_time(user)):
            return lane.forecast(user, at).to_json()
    raise UnknownUserError(f"user {user!r}: never seen here, or evicted since; nothing is known of it")


def digests_of(lanes: Lanes) -> bytes:
    """What identifies the learned state, as JSON: of every lane, and of all of them."""
    digests = {number: lane.learned() for number, lane in sorted(lanes.items())}
    whole = hashlib.sha256("\n".join(f"{n} {digest}" for n, digest in digests.items()).encode())
    return msgspec.json.encode({"digest": whole.hexdigest(), "lanes": digests})


def status_of(number: int, lane: Lane) -> dict[str, Any]:
    """How a lane stands, ready for JSON; cheap, and without the digest."""
    writer, engine = lane.writer, lane.engine
    return {
        "lane": number,
        "events": lane.n_events,
        "bins": lane.cutter.bins.counts._asdict(),
        "positions": [
            {"topic": topic, "partition": partition, "next_offset": offset}
            for (topic, partition), offset in lane.positions.items()
        ],
        "users": engine.arena.n_users,
        "marks": engine.vocabulary.n_marks,
        "checkpoint": {
            "epoch": None if lane.store is None else lane.store.epoch,
            "last_serial": None if writer is None else writer.last_success,
            "saved": getattr(writer, "n_saved", 0),
            "skipped": getattr(writer, "n_skipped", 0),
            "failed": None if writer is None or writer.failed is None else str(writer.failed),
        },
        "models": {"experts": list(engine.experts), "naive": list(engine.naive)},
    }
