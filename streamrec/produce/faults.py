"""A simulated stream with faults whose number is known: what is planted is what has to be counted.

    events ──late──► held back ──shuffle──► displaced ──duplicates──► copied ──poison──► lines

Symbols: L `lateness_s`, t the time of an event.

late        an event comes after an event of its own user with t' - L > t, so that it is late for every
            partitioning of the users and both for `order.lateness_s` = L and = 0
shuffle     the others are displaced by less than N places, but none so far that it would be late for L:
            before an event at t comes every event with a time below t - L (if L is 0: every earlier one of
            its own user)
duplicates  copies of events that are not late, later in the stream, with the same id and bytes
poison      further lines of every bad kind of `eventlog.poison`, in turns; never the first line

The order of the result is a function of the seed alone (Philox). `Stream.bins_by_arrival` counts as
`lateness_s` = 0 would: also those are late then that the shuffle brought out of their user's order.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streamrec.arrays import Bools, Floats, Ints
from streamrec.errors import ConfigError
from streamrec.event import Event
from streamrec.eventlog.memory import encode_event
from streamrec.eventlog.poison import KINDS, bad_kinds, poison
from streamrec.simulate import Simulation

COPY_WITHIN: Final = 100
"""Places after which a late event or a copy has come at the latest, counted from when it may."""

SMALL_BYTES: Final = 32_768
LARGE_BYTES: Final = 1 << 24
FATES: Final = ("ok", "late", "duplicate", "poison")


@dataclass(frozen=True)
class Faults:
    """What goes wrong with a stream.

    Parameters
    ----------
    poison, duplicates, late : shares of the number of events, 0 to 1
    lateness_s : s by which a late event is behind at least
    shuffle : places by which events are displaced, less than; 0 or 1: none
    large : plant also, once each and first, the kinds of poison beyond `SMALL_BYTES`

    Raises
    ------
    ConfigError
        If a share is not between 0 and 1, or a number is negative.
    """

    poison: float = 0.0
    duplicates: float = 0.0
    late: float = 0.0
    lateness_s: float = 0.0
    shuffle: int = 0
    large: bool = False

    def __post_init__(self) -> None:
        shares = {"poison": self.poison, "duplicates": self.duplicates, "late": self.late}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"--{name}: wanted a share between 0 and 1, got {share}")
        if not 0 <= self.lateness_s < float("inf") or self.shuffle < 0:
            raise ConfigError(f"--lateness, --shuffle: wanted >= 0, got {self.lateness_s}, {self.shuffle}")

    @property
    def any(self) -> bool:
        """Whether anything goes wrong at all."""
        return self != Faults(lateness_s=self.lateness_s)


class Stream:
    """The lines of a simulated stream with its faults.

    Parameters
    ----------
    simulation : events in order of time
    faults : what goes wrong
    seed : of every draw, and part of the ids
    in_lines : only poison that can stand in a file of lines

    Attributes
    ----------
    source : (lines,) number of the event, or of the poison, that a line carries
    fate : (lines,) index into `FATES`
    """

    def __init__(self, simulation: Simulation, faults: Faults, seed: int, in_lines: bool = False) -> None:
        self._user, self._mark = simulation.user.tolist(), simulation.mark.tolist()
        self._time = [round(time, 6) for time in simulation.time.tolist()]
        self._seed = seed
        self.n_events = len(self._time)
        rng = np.random.Generator(np.random.Philox(key=[seed, 0x6661756C]))
        self._poison = _poison_names(round(faults.poison * self.n_events), faults.large, in_lines)
        user, time = simulation.user, np.array(self._time)
        late = _choose_late(user, time, faults, rng)
        on_time = _shuffled(user, time, np.flatnonzero(~late), faults, rng)
        self.source, self.fate = _woven(user, time, late, on_time, faults, len(self._poison), rng)

    def __len__(self) -> int:
        return len(self.source)

    def event(self, line: int) -> Event | None:
        """The event that a line carries; None for poison."""
        if self.fate[line] == 3:
            return None
        i = self.source[line]
        return Event(f"u{self._user[i]}", f"m{self._mark[i]}", self._time[i], f"s{self._seed}-{i}")

    def value(self, line: int) -> bytes | None:
        """The bytes of a line; None for a tombstone."""
        event = self.event(line)
        if event is not None:
            return encode_event(event)
        number = int(self.source[line])
        return poison(self._poison[number], number)

    def label(self, line: int) -> str:
        """What is planted here: ok, late, duplicate, or the name of a kind of poison."""
        fate = FATES[self.fate[line]]
        return self._poison[self.source[line]] if fate == "poison" else fate

    def bins(self) -> dict[str, int]:
        """Lines by the bin in which they end with `order.lateness_s` as planted."""
        fates = np.bincount(self.fate, minlength=4).tolist()
        return self._with_poison(dict(zip(FATES[:3], fates[:3], strict=True)))

    def bins_by_arrival(self) -> dict[str, int]:
        """Lines by the bin in which they end with `order.lateness_s` = 0."""
        last: dict[int, float] = {}
        known: set[int] = set()
        counts = Counter(dict.fromkeys(FATES[:3], 0))
        for i in self.source[self.fate != 3].tolist():
            user, time = self._user[i], self._time[i]
            late = time < last.get(user, 0.0)
            counts["duplicate" if i in known else "late" if late else "ok"] += 1
            if i not in known and not late:
                known.add(i)
                last[user] = time
        return self._with_poison(dict(counts))

    def summary(self) -> dict[str, Any]:
        """Everything that is planted, for a comparison with what is counted."""
        return {
            "lines": len(self),
            "events": self.n_events,
            "users": len(set(self._user)),
            "planted": {name: int((self.fate == code).sum()) for code, name in enumerate(FATES)},
            "poison": dict(sorted(Counter(self._poison).items())),
            "reasons": dict(sorted(Counter(KINDS[name].reason for name in self._poison).items())),
            "bins": self.bins(),
            "bins_lateness_0": self.bins_by_arrival(),
        }

    def _with_poison(self, counts: dict[str, int]) -> dict[str, int]:
        bad = Counter(KINDS[name].bin for name in self._poison)
        return counts | {"dead_letter": bad["dead_letter"], "skipped": bad["skipped"]}


def _poison_names(n: int, large: bool, in_lines: bool) -> list[str]:
    """Names of n poisons: the large kinds once if wished, then the small ones in turns."""
    small = bad_kinds(SMALL_BYTES, in_lines)
    first = [name for name in bad_kinds(LARGE_BYTES, in_lines) if name not in small] if large else []
    return [*first, *(small[i % len(small)] for i in range(max(0, n - len(first))))][:n]


def _choose_late(user: Ints, time: Floats, faults: Faults, rng: np.random.Generator) -> Bools:
    """Which events come late: only those whose user has an event that leaves them behind."""
    newest = np.zeros(int(user.max()) + 1)
    newest[user] = time  # the last one counts
    able = np.flatnonzero(newest[user] - faults.lateness_s > time)
    late = np.zeros(len(user), dtype=np.bool_)
    wanted = min(round(faults.late * len(user)), len(able))
    late[rng.choice(able, wanted, replace=False)] = True
    return late


def _shuffled(user: Ints, time: Floats, events: Ints, faults: Faults, rng: np.random.Generator) -> Ints:
    """The events on time in their order of arrival; `events` is in order of time."""
    if faults.shuffle < 2:
        return events
    keys = np.arange(len(events)) + rng.uniform(0.0, faults.shuffle, len(events))
    drawn = events[np.argsort(keys, kind="stable")].tolist()
    queue = _user_queues(user, events) if not faults.lateness_s else {0: events.tolist()[::-1]}
    times, users = time.tolist(), user.tolist()
    done: set[int] = set()
    out: list[int] = []
    for i in drawn:
        waiting = queue[0 if faults.lateness_s else users[i]]
        while waiting and (waiting[-1] in done or _must_go(waiting[-1], i, times, faults.lateness_s)):
            first = waiting.pop()
            if first not in done:
                done.add(first)
                out.append(first)
        if i not in done:
            done.add(i)
            out.append(i)
    return np.array(out, dtype=np.int64)


def _must_go(first: int, i: int, times: list[float], lateness_s: float) -> bool:
    """Whether `first` would be late if it came after i."""
    return times[first] < times[i] - lateness_s if lateness_s else first < i


def _user_queues(user: Ints, events: Ints) -> dict[int, list[int]]:
    """Events by user, the first one last."""
    out: dict[int, list[int]] = {}
    for i in events[::-1].tolist():
        out.setdefault(int(user[i]), []).append(i)
    return out


def _woven(
    user: Ints, time: Floats, late: Bools, on_time: Ints, faults: Faults, n_poison: int,
    rng: np.random.Generator,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Source and fate of every line: what is not on time put between what is, by sort keys."""
    place = np.full(len(user), -1, dtype=np.int64)
    place[on_time] = np.arange(len(on_time))
    late_ones = np.flatnonzero(late)
    passed = place[_who_passes(user, time, late, faults.lateness_s)]
    copies = rng.choice(on_time, min(round(faults.duplicates * len(user)), len(on_time)), replace=False)
    groups = [
        (on_time, np.arange(len(on_time), dtype=np.float64)),
        (late_ones, passed + rng.integers(0, COPY_WITHIN, len(late_ones)) + 0.25),
        (copies, place[copies] + rng.integers(0, COPY_WITHIN, len(copies)) + 0.5),
        (np.arange(n_poison), rng.integers(0, len(on_time), n_poison) + 0.75),
    ]
    order = np.argsort(np.concatenate([keys for _, keys in groups]), kind="stable")
    fate = np.repeat(np.arange(4), [len(source) for source, _ in groups])
    return np.concatenate([source for source, _ in groups])[order], fate[order]


def _who_passes(user: Ints, time: Floats, late: Bools, lateness_s: float) -> Ints:
    """Per late event, the first event of its user on time that leaves it behind."""
    out = []
    queues = _user_queues(user, np.flatnonzero(~late))
    for i in np.flatnonzero(late).tolist():
        waiting = queues[int(user[i])]
        while time[waiting[-1]] - lateness_s <= time[i]:  # late events come in order of time
            waiting.pop()
        out.append(waiting[-1])
    return np.array(out, dtype=np.int64)
