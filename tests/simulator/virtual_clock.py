"""Time that passes only when somebody lets it pass."""

from collections.abc import Callable


class VirtualClock:
    """Seconds since some moment; call it to read it.

    Whoever has to do with time-outs (the group, transactions) listens, and is told of every step.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.listeners: list[Callable[[float], None]] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for listener in self.listeners:
            listener(self.now)
