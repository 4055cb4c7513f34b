"""Sending dead letters back where they came from, none of them twice.

    letters ──► not sent yet? reason wanted? ──► in order of topic, partition, offset ──► topic or file
                     ▲                                                                      │
                     └────────── notes: which records were sent, one line a batch ◄─────────┘

Notes name records by their own place, so that a letter that was written twice is sent once. Before a batch
goes to a topic the notes say so, and after the broker has acknowledged it that it is done; a crash between
the two leaves it open whether the batch has arrived, and only a person can say. A file is cut back to the
length in the notes instead, so that each letter is in it exactly once.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from streamrec.errors import DiskError, StateError
from streamrec.eventlog.clients import Message, Outlet
from streamrec.eventlog.letters import Letter
from streamrec.eventlog.sinks import JsonLinesSink

BATCH = 500
ROUND = 20_000
"""Letters held in memory at once."""

FLUSH_S = 60.0
Place3 = tuple[str, int, int]
"""Topic, partition and offset."""


class _Note(msgspec.Struct, omit_defaults=True):
    """A line of the notes: a batch begins, with the target file's length before it; or it is done."""

    target: str = ""
    places: list[Place3] = []
    length: int = 0
    tail: int = 0
    done: bool = False


class Notes:
    """Which letters were sent: a file that is only added to.

    Parameters
    ----------
    path : of the file
    target : where letters go; notes of one target are not those of another

    Raises
    ------
    StateError
        If the file cannot be read, or is about another target.
    """

    def __init__(self, path: Path, target: str) -> None:
        self.path, self.target = path, target
        self.done: set[Place3] = set()
        self.open: list[Place3] = []
        self.begun: tuple[int, int] | None = None  # length and tail of the target before the last batch
        self._whole = 0
        for note in self._read():
            self._take(note)

    def is_done(self, letter: Letter) -> bool:
        """Whether a letter was sent."""
        return letter.place in self.done

    def begin(self, letters: Iterable[Letter], length: int = 0, tail: int = 0) -> None:
        """These are about to be sent, to a file that has this length now."""
        self._add(_Note(self.target, [letter.place for letter in letters], length, tail))

    def end(self) -> None:
        """What was about to be sent is sent."""
        self._add(_Note(self.target, done=True))

    def settle(self, arrived: bool | None) -> None:
        """Say whether the batch that a crash left open has arrived.

        Raises
        ------
        StateError
            If there is one, and nobody says it.
        """
        if self.open and arrived is None:
            first, last = (":".join(map(str, place)) for place in (self.open[0], self.open[-1]))
            raise StateError(
                f"{self.path}: a crash has left it open whether the last batch has arrived ({len(self.open)} "
                f"letters, {first} to {last}); look for its last letter at the end of {self.target}, and say "
                "--unfinished sent or --unfinished resend"
            )
        if self.open and arrived:
            self.end()
        self.open = []

    def _take(self, note: _Note) -> None:
        if note.target != self.target:
            raise StateError(
                f"{self.path}: is about letters sent to {note.target}, wanted {self.target}; name "
                "another --state"
            )
        if note.done:
            self.done.update(self.open)
            self.open = []
        else:
            self.open, self.begun = note.places, (note.length, note.tail)

    def _read(self) -> Iterator[_Note]:
        """The lines; a last one without its end was torn by a crash, and does not count."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(
                f"{self.path}: cannot be read ({error.strerror}); name another --state"
            ) from None
        self._whole = data.rfind(b"\n") + 1
        try:
            yield from (msgspec.json.decode(line, type=_Note) for line in data[: self._whole].splitlines())
        except msgspec.DecodeError as error:
            raise StateError(f"{self.path}: no notes of a requeue ({error}); name another --state") from None

    def _add(self, note: _Note) -> None:
        line = msgspec.json.encode(note) + b"\n"
        try:
            with self.path.open("ab") as file:
                file.truncate(self._whole)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DiskError(
                f"{self.path}: cannot be written ({error.strerror}); name another --state"
            ) from None
        self._whole += len(line)
        self._take(note)


class Target(Protocol):
    """Takes letters back."""

    def length(self) -> tuple[int, int]:
        """Length and tail of what was taken, if it can be cut back to it; else zeros."""
        ...

    def take(self, letters: Sequence[Letter]) -> None:
        """They are there for good when this returns."""
        ...


class ToTopic:
    """Sends letters to a topic, or each to its own.

    Parameters
    ----------
    outlet : sends
    topic : to which; None for the letter's own, then into its own partition
    """

    def __init__(self, outlet: Outlet, topic: str | None) -> None:
        self.outlet, self.topic = outlet, topic

    def length(self) -> tuple[int, int]:
        """A topic is not cut back."""
        return 0, 0

    def take(self, letters: Sequence[Letter]) -> None:
        """Send, and wait for the broker."""
        self.outlet.send([self._message(letter) for letter in letters])
        self.outlet.flush(FLUSH_S)

    def _message(self, letter: Letter) -> Message:
        topic, partition, offset = letter.place
        came_from = ("requeued-from", f"{topic}:{partition}:{offset}".encode())
        stamp = letter.timestamp_ms if letter.timestamp_ms >= 0 else None
        own = self.topic is None
        return Message(
            self.topic or topic, letter.value, letter.key, (came_from,), stamp, partition if own else None
        )


class ToFile:
    """Appends the letters' bytes to a file, a line each; first cuts off a batch that a crash has left open.

    Parameters
    ----------
    sink : the file
    notes : say how long it was before that batch
    """

    def __init__(self, sink: JsonLinesSink, notes: Notes) -> None:
        self.sink = sink
        if notes.open and notes.begun is not None:
            sink.cut_back(*notes.begun)
        notes.settle(arrived=False)

    def length(self) -> tuple[int, int]:
        """Length of the file and check sum of its end."""
        return self.sink.position(), self.sink.tail()

    def take(self, letters: Sequence[Letter]) -> None:
        """Write, and wait for the disk."""
        self.sink.emit([letter.value or b"" for letter in letters])
        self.sink.flush()


class Requeued(NamedTuple):
    """What a requeue did.

    Parameters
    ----------
    sent : letters sent, by reason
    before : letters passed over that were sent before
    cut : letters passed over because their bytes were cut when they were written
    """

    sent: dict[str, int]
    before: int
    cut: int


def requeue(
    read: Callable[[], Iterator[Letter]],
    notes: Notes,
    target: Target,
    reason: str | None = None,
    limit: int | None = None,
) -> Requeued:
    """Send letters that were not sent before, in order of their places.

    Parameters
    ----------
    read : gives all letters, as often as it is called
    reason : only letters of this reason
    limit : at most so many
    """
    sent: dict[str, int] = {}
    first: Wanted | None = None
    left = limit
    while left is None or left > 0:
        room = ROUND if left is None else min(ROUND, left)
        wanted = _wanted(read(), notes, reason, room)
        first = first or wanted
        for batch in _batches(wanted.letters):
            notes.begin(batch, *target.length())
            target.take(batch)
            notes.end()
            count(sent, (letter.reason for letter in batch))
        left = None if left is None else left - len(wanted.letters)
        if len(wanted.letters) < room:
            break
    return Requeued(sent, first.before if first else 0, first.cut if first else 0)


def plan(
    read: Callable[[], Iterator[Letter]], notes: Notes, reason: str | None, limit: int | None
) -> Requeued:
    """What `requeue` would do."""
    before, cut, reasons = 0, 0, dict[Place3, str]()
    for letter in read():
        before += notes.is_done(letter)
        if not notes.is_done(letter) and reason in (None, letter.reason):
            cut += not letter.whole
            reasons |= {letter.place: letter.reason} if letter.whole else {}
    sent: dict[str, int] = {}
    count(sent, (reasons[place] for place in sorted(reasons)[:limit]))
    return Requeued(sent, before, cut)


def count(counts: dict[str, int], names: Iterable[str]) -> None:
    """Count names."""
    for name in names:
        counts[name] = counts.get(name, 0) + 1


class Wanted(NamedTuple):
    """Letters to send next, each once, in order of their places; and how many were passed over."""

    letters: list[Letter]
    before: int
    cut: int


def _wanted(letters: Iterable[Letter], notes: Notes, reason: str | None, n: int) -> Wanted:
    before = cut = 0
    fresh: dict[Place3, Letter] = {}
    for letter in letters:
        if notes.is_done(letter):
            before += 1
        elif not letter.whole:
            cut += reason in (None, letter.reason)
        elif reason in (None, letter.reason):
            fresh[letter.place] = letter
            if len(fresh) >= 2 * n:
                fresh = {place: fresh[place] for place in nsmallest(n, fresh)}
    return Wanted([fresh[place] for place in nsmallest(n, fresh)], before, cut)


def _batches(letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
    for at in range(0, len(letters), BATCH):
        yield letters[at : at + BATCH]
