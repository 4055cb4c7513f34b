"""dlq: what could not be read as events, why, and sending it back."""

import json
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console
from rich.table import Table

from streamrec.errors import ConfigError
from streamrec.eventlog.letters import Letter, LetterFile, LetterTopic, open_letters
from streamrec.eventlog.sinks import JsonLinesSink
from streamrec.eventlog.topics import connect
from streamrec.settings import KafkaSettings
from streamrec.verbs.opening import is_topic, topics_of
from streamrec.verbs.requeue import Notes, Requeued, Target, ToFile, ToTopic, plan, requeue
from streamrec.verbs.stopping import on_signals

SHOWN_BYTES = 2000
OWN = "their own topics"


def list_letters(name: str, kafka: KafkaSettings, as_json: bool) -> None:
    """Count letters by reason and topic."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    with closing(open_letters(name, kafka)) as box:
        for letter in box.read():
            new = {"letters": 0, "first": _place(letter), "first_time": _time(letter)}
            row = rows.setdefault((letter.reason, letter.topic), new)
            row |= {"letters": row["letters"] + 1, "last": _place(letter), "last_time": _time(letter)}
    found = [{"reason": r, "topic": t, **row} for (r, t), row in sorted(rows.items())]
    if as_json:
        print(json.dumps({"letters": found, "strange": box.strange}, indent=1))
        return
    table = Table("reason", "topic", "letters", "first", "last", title=f"{name}")
    for row in sorted(found, key=lambda row: -row["letters"]):
        table.add_row(*(str(row[key]) for key in ("reason", "topic", "letters", "first", "last")))
    Console().print(table)
    if box.strange:
        print(f"{box.strange:,} that are no dead letters")


def show_letter(name: str, which: str, kafka: KafkaSettings) -> None:
    """Print one letter in full: the n-th (from 1), or the one of topic:partition:offset."""
    with closing(open_letters(name, kafka)) as box:
        letter = _chosen(box.read(), which)
    if letter is None:
        raise ConfigError(f"{name}: there is no letter {which}; `streamrec dlq list` shows what there is")
    print(json.dumps(shown(letter), indent=1))


def shown(letter: Letter) -> dict[str, Any]:
    r"""A letter for people: text as text, anything else in base64; nothing reaches a terminal raw.

    Examples
    --------
    >>> letter = Letter("clicks", 3, 7, "not_json", "cut off", 1700000000000, b"u1", b"\xff{")
    >>> shown(letter)["value"], shown(letter)["key"], shown(letter)["time"]
    ({'base64': '/3s=', 'bytes': 2}, {'text': 'u1', 'bytes': 2}, '2023-11-14T22:13:20+00:00')
    """
    return {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "time": _time(letter),
        "key": _bytes(letter.key),
        "value": _bytes(letter.value),
        "whole": letter.whole,
    }


def requeue_letters(
    name: str,
    kafka: KafkaSettings,
    to: str | None,
    reason: str | None,
    limit: int | None,
    dry_run: bool,
    state: Path | None,
    unfinished: str | None,
) -> None:
    """Send letters back to their topics, or to a topic or file; none twice."""
    notes = Notes(_notes_path(name, state), to or OWN)
    with ExitStack() as stack:
        box = stack.enter_context(closing(open_letters(name, kafka)))
        read = _reader(name, box, kafka, to)
        if dry_run:
            _conclude(plan(read, notes, reason, limit), "would send")
            return
        target = _target(to, notes, unfinished, kafka, read, reason, stack)
        _conclude(requeue(read, notes, target, reason, limit), "sent")


def follow(name: str, kafka: KafkaSettings, every_s: float = 10.0, from_start: bool = False) -> None:
    """Print what is new by reason, a line each at most every `every_s` seconds, until SIGTERM or SIGINT."""
    asked = Event()
    with on_signals(asked.set, lambda _: None), closing(open_letters(name, kafka)) as box:
        if not from_start:
            box.skip()
        while not asked.is_set():
            for line in summary(box.read()):
                print(line, flush=True)
            end = time.monotonic() + every_s
            while not asked.is_set() and time.monotonic() < end:
                time.sleep(min(0.2, every_s))


def summary(letters: Iterator[Letter]) -> list[str]:
    """A line per reason: how many letters there are, and the last one.

    Examples
    --------
    >>> summary(iter([Letter("clicks", 0, n, "not_json", "cut off", -1, None, b"{") for n in (3, 4)]))
    ['not_json: 2 more, last clicks:0:4: cut off']
    """
    counts: Counter[str] = Counter()
    last: dict[str, Letter] = {}
    for letter in letters:
        counts[letter.reason] += 1
        last[letter.reason] = letter
    return [
        f"{reason}: {n:,} more, last {_place(last[reason])}: {_safe(last[reason].detail)}"
        for reason, n in sorted(counts.items())
    ]


def _chosen(letters: Iterator[Letter], which: str) -> Letter | None:
    if which.isdecimal():
        return next(islice(letters, max(int(which) - 1, 0), None), None)
    return next((letter for letter in letters if _place(letter) == which), None)


def _notes_path(name: str, state: Path | None) -> Path:
    if state is None and is_topic(name):
        raise ConfigError(f"{name}: --state FILE is needed, where it is noted what was sent")
    return state or Path(name + ".requeued")


def _reader(
    name: str, box: LetterFile | LetterTopic, kafka: KafkaSettings, to: str | None
) -> Callable[[], Iterator[Letter]]:
    """Reads all letters, from the start each time."""
    in_lines = to is not None and not is_topic(to)

    def read() -> Iterator[Letter]:
        box.rewind()
        for letter in box.read():
            fits = not in_lines or b"\n" not in (letter.value or b"")
            yield letter if fits else letter._replace(whole=False)

    return read


def _target(
    to: str | None,
    notes: Notes,
    unfinished: str | None,
    kafka: KafkaSettings,
    read: Callable[[], Iterator[Letter]],
    reason: str | None,
    stack: ExitStack,
) -> Target:
    if to is not None and not is_topic(to):
        sink = JsonLinesSink(to)
        stack.callback(sink.close)
        return ToFile(sink, notes)
    if unfinished not in (None, "sent", "resend"):
        raise ConfigError(f"--unfinished {unfinished}: wanted sent or resend")
    notes.settle(None if unfinished is None else unfinished == "sent")
    clients = connect(kafka)
    topics = topics_of([to]) if to else sorted({one.topic for one in read() if reason in (None, one.reason)})
    with closing(clients.reader()) as reader:
        reader.places(topics)  # a topic that does not exist is refused, and not made by the way
    outlet = clients.outlet()
    stack.callback(outlet.close)
    return ToTopic(outlet, topics[0] if to else None)


def _conclude(done: Requeued, what: str) -> None:
    listed = ", ".join(f"{reason} {n:,}" for reason, n in sorted(done.sent.items())) or "none"
    print(f"{what} {sum(done.sent.values()):,} letters ({listed})")
    if done.before:
        print(f"passed over {done.before:,} that were sent before")
    if done.cut:
        print(f"passed over {done.cut:,} whose bytes are not whole, or do not fit on a line")


def _place(letter: Letter) -> str:
    return ":".join(map(str, letter.place))


def _time(letter: Letter) -> str | None:
    try:
        seconds = letter.timestamp_ms / 1000 if letter.timestamp_ms >= 0 else None
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None


def _bytes(value: bytes | None) -> dict[str, Any] | None:
    if value is None:
        return None
    head = value[:SHOWN_BYTES]
    try:
        return {"text": head.decode(), "bytes": len(value)}
    except UnicodeDecodeError:
        return {"base64": b64encode(head).decode(), "bytes": len(value)}


def _safe(text: str) -> str:
    return json.dumps(text)[1:-1]
