"""What producers write: users with ties, late and repeated events, poison, transactions.

A user writes to one partition of one topic, and times within a partition never fall but for late events, so
that a check can say of every record what has to become of it.
"""

import random

from sim_broker import Broker, Entry, Transaction

from streamrec.event import Event
from streamrec.eventlog.base import Place
from streamrec.eventlog.memory import encode_event
from streamrec.eventlog.poison import bad_kinds, poison

USERS = 7


class Workload:
    """Writes to all partitions of a broker.

    Parameters
    ----------
    broker : that is written to
    draw : random numbers
    n_events : good events to be written
    """

    def __init__(self, broker: Broker, draw: random.Random, n_events: int) -> None:
        self.broker, self.draw, self.left = broker, draw, n_events
        self.held_back: dict[str, float] = {}
        self.n_written = 0
        self._time: dict[Place, float] = {}
        self._last: dict[Place, Event] = {}
        self._open: dict[Place, Transaction] = {}
        self._seen: dict[Place, list[Event]] = {}
        self._kinds = bad_kinds(2_000, in_lines=False)

    def burst(self, now: float) -> None:
        """Some records to one partition."""
        places = [place for place in self.broker.places() if self.held_back.get(place[0], 0.0) <= now]
        if not places:
            return
        place = self.draw.choice(places)
        transaction = self._begun(place)
        for _ in range(self.draw.randint(1, 14)):
            if self.left > 0:
                self._write(place, transaction)
        if transaction is not None and self.draw.random() < 0.7:
            self._end(place, self.draw.choice(["committed", "committed", "aborted"]))

    def end_all(self) -> None:
        """End every open transaction."""
        for place in sorted(self._open):
            self._end(place, "committed")

    def forget(self, topic: str) -> None:
        """A topic was made anew."""
        for place in [place for place in self._open if place[0] == topic]:
            del self._open[place]

    def _begun(self, place: Place) -> Transaction | None:
        """The partition's open transaction, now and then a new one; one at a time per partition."""
        if place not in self._open and self.draw.random() < 0.25:
            self._open[place] = Transaction()
        return self._open.get(place)

    def _end(self, place: Place, outcome: str) -> None:
        self._open.pop(place).outcome = outcome
        self.broker.partition(place).entries.append(Entry(None, marker=True))

    def _write(self, place: Place, transaction: Transaction | None) -> None:
        if self.draw.random() < 0.06:
            value = poison(self.draw.choice(self._kinds), self.draw.randrange(5))
        else:
            value = encode_event(self._event(place))
            self.left -= 1
            self.n_written += 1
        self.broker.partition(place).entries.append(Entry(value, transaction))

    def _event(self, place: Place) -> Event:
        draw, last, seen = self.draw, self._last.get(place), self._seen.setdefault(place, [])
        what = draw.random()
        if last is not None and what < 0.03:
            return draw.choice(seen[-30:])
        if last is not None and what < 0.06:
            return Event(last.user, "late", last.time - 1e6)
        now = self._time.get(place, 1.6e9)
        user = f"{place[0]}{place[1]}-{draw.randrange(USERS)}"
        if last is not None and what < 0.36:
            user = last.user
        else:
            now += draw.choice([0.0, 1.0, 60.0, 3_600.0])
        id_ = f"i{self.n_written}" if draw.random() < 0.7 else None
        event = Event(user, f"m{draw.randrange(9)}", now, id_)
        self._time[place], self._last[place] = now, event
        if id_ is not None or not seen:
            seen.append(event)
        return event
