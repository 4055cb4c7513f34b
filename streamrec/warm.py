"""Compiles every kernel into the cache, by running a small simulated stream through the whole program."""

from streamrec.evaluate import evaluate
from streamrec.event import Event
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.settings import Settings
from streamrec.simulate import Sessions, simulate
from streamrec.stream import Coded, Events


def main() -> None:
    """Run 600 events of 20 users."""
    process = Sessions(short_s=60.0, long_s=3600.0, stay=0.8, marks=8, seed=0)
    outcome = simulate(process, events=600, users=20, seed=0, entry_s=600.0)
    columns = (outcome.user.tolist(), outcome.mark.tolist(), outcome.time.tolist())
    events = [Event(f"u{u}", f"m{m}", t) for u, m, t in zip(*columns, strict=True)]
    log = Coded(MemorySource.of_events(events), JsonCodec(FieldNames()), len(events))
    evaluate(Events(log), Lane(Settings(), Outputs()))


if __name__ == "__main__":
    main()
