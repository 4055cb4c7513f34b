"""Compiles every kernel into the cache, by running a small simulated stream through the whole program."""

from streamrec.evaluate import evaluate
from streamrec.event import Event
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.settings import Settings, StateSettings
from streamrec.simulate import Sessions, simulate
from streamrec.stream import Coded, Events

CAPS = StateSettings(max_users=16, user_floor=4, max_marks=16, mark_floor=4)
"""So small that users and marks are evicted."""


def main() -> None:
    """Run 600 events of 20 users, and 300 of as many with caps; ask for a forecast."""
    drive(Settings(), events=600, marks=8)
    drive(Settings(state=CAPS), events=300, marks=40)


def drive(settings: Settings, events: int, marks: int) -> None:
    """Learn a simulated stream, and answer a query."""
    process = Sessions(short_s=60.0, long_s=3600.0, stay=0.8, marks=marks, seed=0)
    outcome = simulate(process, events=events, users=20, seed=0, entry_s=600.0)
    columns = (outcome.user.tolist(), outcome.mark.tolist(), outcome.time.tolist())
    made = [Event(f"u{u}", f"m{m}", t) for u, m, t in zip(*columns, strict=True)]
    lane = Lane(settings, Outputs())
    evaluate(Events(Coded(MemorySource.of_events(made), JsonCodec(FieldNames()), len(made))), lane)
    lane.forecast(made[-1].user)


if __name__ == "__main__":
    main()
