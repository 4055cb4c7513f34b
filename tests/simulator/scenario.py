"""What kind of world a seed has: settings, topics, members, and which faults are planned."""

import random
from typing import Any, NamedTuple, Self

from streamrec.settings import Settings

STRIKES = {
    "killed": 4,
    "frozen": 3,
    "slow": 1,
    "joined": 4,
    "left": 3,
    "broker down": 2,
    "retention": 2,
    "topic made anew": 1,
    "partition added": 1,
}


class Scenario(NamedTuple):
    """The frame of a seed."""

    settings: Settings
    topics: tuple[str, ...]
    partitions: int
    instances: tuple[str | None, ...]
    n_events: int
    n_faults: int
    n_strikes: int
    steps: int

    @classmethod
    def drawn(cls, draw: random.Random) -> Self:
        """A scenario by chance."""
        topics = draw.choice([("a",), ("a",), ("a", "b")])
        partitions = draw.choice([2, 3]) if len(topics) == 1 else 2
        static = draw.random() < 0.25
        members = draw.choice([1, 2, 2, 3])
        settings = Settings.model_validate(_tree(draw))
        instances = tuple(f"static-{i}" if static else None for i in range(members))
        return cls(settings, topics, partitions, instances, 300, draw.randint(1, 5), draw.randint(1, 4), 60)

    def strikes(self, draw: random.Random) -> list[tuple[int, str]]:
        """When something strikes between two turns, and what; always something that can."""
        kafka = self.settings.kafka
        weights = dict(STRIKES)
        if kafka.lanes > 1 or self.settings.cut.mode == "fixed":
            del weights["partition added"]
        if self.settings.cut.mode == "fixed" and draw.random() < 0.7:
            del weights["retention"], weights["topic made anew"]
        kinds = draw.choices(list(weights), list(weights.values()), k=self.n_strikes)
        return sorted([(30, "killed"), *((draw.randint(5, 110), kind) for kind in kinds)])


def _tree(draw: random.Random) -> dict[str, Any]:
    fixed, transactions = draw.random() < 0.35, draw.random() < 0.4
    return {
        "cut": {
            "mode": "fixed" if fixed else "live",
            "cut_events": draw.choice([32, 48]),
            "live_min_events": 32,
            "live_max_events": 64,
            "linger_s": draw.choice([0.1, 1.0]),
            "idle_tick_s": draw.choice([0.5, 3.0]),
        },
        "models": {"enabled": ["gamma_poisson", "context_1"]},
        "forecast": {"hazard": False, "within_s": [3600.0]},
        "checkpoint": {
            "every_events": draw.choice([40, 100]),
            "every_s": draw.choice([0.5, 2.0]),
            "generation_every": 8,
        },
        "kafka": {
            "lanes": draw.choice([1, 1, 2]),
            "rebalance": draw.choice(["cooperative", "cooperative", "eager"]),
            "on_gap": "skip",
            "session_timeout_s": 3.0,
            "heartbeat_s": 1.0,
            "max_poll_interval_s": 8.0,
            "revoke_s": 2.0,
            "max_pending": draw.choice([40, 20_000]),
            "transactions": transactions,
            "transaction_timeout_s": 6.0,
        },
    }
