"""Where a lane writes: its forecasts and its dead letters.

Files keep their length and the check sum of their end in the checkpoint, and are cut back to it; a topic is
never cut back: what is sent again carries the same ids.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from streamrec.eventlog.base import Letters, Sink

FORECASTS, LETTERS = "forecasts", "dead_letters"


class Outputs(NamedTuple):
    """Where a lane writes; None for what nobody wants."""

    forecasts: Sink | None = None
    letters: Letters | None = None

    def lengths(self) -> dict[str, int]:
        """Bytes written to each."""
        return {name: sink.position() for name, sink in self._named()}

    def tails(self) -> dict[str, int]:
        """Check sum of the end of each."""
        return {name: sink.tail() for name, sink in self._named()}

    def cut_back(self, lengths: Mapping[str, int], tails: Mapping[str, int]) -> None:
        """Forget what was written after a checkpoint; an output that it does not know stays as it is."""
        for name, sink in self._named():
            if name in lengths:
                sink.cut_back(lengths[name], tails.get(name, 0))

    def hand_over(self) -> None:
        """Everything written so far is in the files."""
        for _, sink in self._named():
            sink.hand_over()

    def sync(self) -> None:
        """Everything handed over is on the disk when this returns; the writer thread calls it."""
        for _, sink in self._named():
            sink.sync()

    def close(self) -> None:
        """Close both, the second even if closing the first fails."""
        with ExitStack() as stack:
            for _, sink in self._named():
                stack.callback(sink.close)

    def _named(self) -> list[tuple[str, Sink | Letters]]:
        both: list[tuple[str, Sink | Letters | None]] = [
            (FORECASTS, self.forecasts),
            (LETTERS, self.letters),
        ]
        return [(name, sink) for name, sink in both if sink is not None]
