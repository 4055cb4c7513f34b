"""The judge's loop: two logs in turn, the join, and checkpoints between.

    events ──► cutter (order, ties, late, duplicate) ──► sets ──┐
                                                                ├──► join ──► sums, outcomes
    forecasts ──► read ─────────────────────────────────────────┘     checkpoint: all of it

A log is left unread while the join holds half of what it may hold of it, so that the other can catch up;
beyond the bounds the oldest is let go and counted. At the end of both logs `verdict` gives the figures
as if nothing more came; what is kept does not know of that, so that a log which has grown goes on.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamrec.cut import Cut, Cutter
from streamrec.errors import StateError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Place, Reject, Sink
from streamrec.failpoints import failpoint
from streamrec.judge.issued import MODEL, Key, read_forecast
from streamrec.judge.join import Answer, Happened, Join
from streamrec.judge.state import FORMAT, Head, Keeper
from streamrec.judge.sums import Windows
from streamrec.order import Order
from streamrec.places import NO_CHECK, own_clock
from streamrec.settings import Settings

LARGEST_SET = 1 << 20
"""Events of one user and time that are kept together."""
ALL = 1 << 60
"""Events of a cut: all that were read in one go."""


class Judge:
    """Joins two logs, and keeps where it stands.

    Parameters
    ----------
    settings : `order` and `input` as the program that issued the forecasts had them
    topics : topics of the events
    window_s : length of the windows, s of event time
    max_users, max_waiting : see `Join`
    keeper : keeps the state; None to keep nothing
    outcomes : takes a JSON line per answered forecast; None for none
    clock_of : topic of the events -> its clock; files share one

    Raises
    ------
    StateError
        If what is kept was made with other settings.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        window_s: float = 86_400.0,
        max_users: int = 200_000,
        max_waiting: int = 200_000,
        keeper: Keeper | None = None,
        outcomes: Sink | None = None,
        clock_of: Callable[[str], str] = own_clock,
    ) -> None:
        self.keeper, self.outcomes, self.topics = keeper, outcomes, tuple(topics)
        self.windows = Windows(window_s)
        self.join = Join(self.windows, settings.forecast.horizon_s, max_users, max_waiting, self._told)
        o = settings.order
        order = Order(o.lateness_s, LARGEST_SET, o.held_events, o.dedupe_events, o.max_skew_s)
        self.cutter = Cutter(order, self.join.last_time, ALL, ALL, clock_of)
        self.settings = _shape(settings, window_s)
        self._forecasts: dict[Place, int] = {}
        self._forecast_checks: dict[Place, int] = {}
        self._numbered = self._since = 0
        self._aliases: dict[str, str] = {}
        self._restore()

    @property
    def forecast_places(self) -> tuple[dict[Place, int], dict[Place, int]]:
        """Next offsets in the log of forecasts, and the check sums of the records before them."""
        return dict(self._forecasts), dict(self._forecast_checks)

    @property
    def n_since(self) -> int:
        """Records read since the last checkpoint."""
        return self._since

    def wants_events(self) -> bool:
        """Whether there is room for events that wait."""
        return 2 * self.join.n_waiting < self.join.max_waiting

    def wants_forecasts(self) -> bool:
        """Whether there is room for forecasts that are ahead of their events."""
        return 2 * self.join.n_ahead < self.join.max_waiting

    def read_events(self, pairs: Sequence[tuple[Record, Event | Reject]]) -> None:
        """Take decoded records of the log of events, rising per partition."""
        for cut in self.cutter.feed((record, self._number(record, read)) for record, read in pairs):
            self._apply(cut)
        if self.cutter.has_reads:
            self._apply(self.cutter.close())
        self._since += len(pairs)
        self.join.keep_bounds()

    def read_forecasts(self, records: Sequence[Record], checks: Mapping[Place, int]) -> None:
        """Take records of the log of forecasts; `checks` are the check sums of the last ones per place."""
        tally = self.join.tally
        for record in records:
            self._forecasts[record.topic, record.partition] = record.offset + 1
            read = read_forecast(record.value)
            if isinstance(read, str):
                tally.bad += 1
            elif read.model != MODEL:
                tally.foreign += 1
            else:
                self.join.issued(read._replace(key=self._known(read.key)))
        self._forecast_checks |= {place: checks[place] for place in self._forecasts if place in checks}
        self._since += len(records)
        self.join.keep_bounds()

    def checkpoint(self) -> None:
        """Keep everything read so far.

        Raises
        ------
        DiskError
            If the disk refuses; what was kept before is safe.
        """
        self._since = 0
        if self.keeper is None:
            self.join.dirty.clear()
            return
        if self.outcomes is not None:
            self.outcomes.hand_over()
            self.outcomes.sync()
        failpoint("before_transaction")
        self.keeper.keep(self._head(), self.join.users, self.join.dirty)
        failpoint("after_transaction")
        self.join.dirty.clear()

    def verdict(self) -> dict[str, Any]:
        """The figures at the end of both logs; the judge is used up."""
        self._drain(self.cutter.finish())
        self.join.finish()
        return self.report()

    def report(self) -> dict[str, Any]:
        """The figures of what is settled, ready for JSON."""
        tally, total = self.join.tally, self.windows.total.report()
        n_open = self.join.n_open()
        outcomes = {**total.pop("outcomes"), "open": n_open, "overdue": self.join.n_overdue()}
        return {
            "forecasts": {
                "read": tally.forecasts,
                "repeated": tally.repeated,
                "bad": tally.bad,
                "other_models": tally.foreign,
                "let_go": tally.let_go_forecasts,
            },
            "events": {
                **self.cutter.bins.counts._asdict(),
                "held": self.cutter.order.n_held + self.cutter.order.n_open_marks,
                "judged": self.windows.total.counts["marks"],
                "first": tally.first_marks,
                "outside": tally.outside_marks,
                "waiting": self.join.n_waiting,
                "let_go": tally.let_go_marks,
            },
            "outcomes": outcomes,
            **total,
            "windows": [{"from": start, **part.report()} for start, part in self.windows.parts()],
            "earlier": self.windows.earlier.report(),
        }

    def _apply(self, cut: Cut) -> None:
        for tie in cut.sets:
            self.join.happened(tie._replace(marks=()), [_unnumbered(text) for text in tie.marks])

    def _drain(self, cuts: Iterable[Cut]) -> None:
        for cut in cuts:
            self._apply(cut)

    def _number(self, record: Record, read: Event | Reject) -> Event | Reject:
        """An event whose mark begins with its number and place, so that its set keeps both."""
        if not isinstance(read, Event):
            return read
        self._numbered += 1
        topic = record.topic
        place = f"{self._numbered:014x}{record.offset:x}:{record.partition:x}:{len(topic):x}:{topic}"
        return read._replace(mark=place + read.mark)

    def _known(self, key: Key) -> Key:
        """A key under the name that the log of events has: a file may be named by another path."""
        topic = self._aliases.get(key.topic)
        if topic is None:
            same = [t for t in self.topics if Path(t).name == Path(key.topic).name]
            topic = key.topic if key.topic in self.topics or len(same) != 1 else same[0]
            self._aliases[key.topic] = topic
        return key if topic == key.topic else key._replace(topic=topic)

    def _told(self, answer: Answer) -> None:
        if self.outcomes is not None:
            self.outcomes.emit([_line(answer)], [answer.user])

    def _head(self) -> Head:
        checks = self._forecast_checks
        sink = self.outcomes
        return Head(
            format=FORMAT,
            settings=self.settings,
            cutter=self.cutter.dump(),
            forecasts=[(*at, n, checks.get(at, NO_CHECK)) for at, n in sorted(self._forecasts.items())],
            numbered=self._numbered,
            serial=self.join.serial,
            tally=self.join.tally,
            windows=self.windows.dump(),
            outcomes=None if sink is None else (sink.position(), sink.tail()),
        )

    def _restore(self) -> None:
        kept = None if self.keeper is None else self.keeper.load()
        if kept is None or self.keeper is None:
            self.checkpoint()  # so that there always is a length of the outcomes to go back to
            return
        head, users = kept
        if head.settings != self.settings:
            raise StateError(
                f"{self.keeper.path}: made with other settings; wanted {head.settings}, got {self.settings}; "
                "use those, or another --state"
            )
        self.cutter.load(head.cutter)
        for topic, partition, offset, check in head.forecasts:
            self._forecasts[topic, partition] = offset
            if check != NO_CHECK:
                self._forecast_checks[topic, partition] = check
        self._numbered, self.join.serial, self.join.tally = head.numbered, head.serial, head.tally
        self.windows.load(head.windows)
        self.join.load(users)
        if self.outcomes is not None and head.outcomes is not None:
            self.outcomes.cut_back(*head.outcomes)
        elif self.outcomes is not None:
            self.checkpoint()


def _unnumbered(text: str) -> Happened:
    offset, partition, length, rest = text[14:].split(":", 3)
    n = int(length, 16)
    return rest[:n], int(partition, 16), int(offset, 16), rest[n:]


def _shape(settings: Settings, window_s: float) -> str:
    """What decides how the logs are read; a state fits these only."""
    o, names = settings.order, settings.input.model_dump()
    order = {"lateness_s": o.lateness_s, "held_events": o.held_events, "dedupe_events": o.dedupe_events}
    return json.dumps({"input": names, "order": order, "window_s": window_s}, sort_keys=True)


def _line(answer: Answer) -> bytes:
    """One answered forecast as JSON; null where there is no number."""
    key = answer.key
    line = {
        "id": f"{key.topic}:{key.partition}:{key.offset}",
        "user": answer.user,
        "outcome": answer.outcome,
        "time": answer.time,
        "marks": [{"mark": m, "rank": rank, "log_p": _finite(x)} for m, rank, x in answer.marks],
        "log_density": _finite(answer.log_density),
    }
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
