"""Dead letters read back: from a file of `sinks.dead_letter` lines, or from a topic.

    file     {"topic", "partition", "offset", "reason", "detail", "timestamp_ms", "key", "value"}; base64
    topic    value and key as they were; headers reason, detail, topic, partition, offset, timestamp_ms, and
             bytes where the value is longer than what is there (`topics.TopicLetters`)

What cannot be read as a letter is counted and passed over.
"""

import binascii
import time
from base64 import b64decode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamrec.errors import ConfigError, UnavailableError
from streamrec.eventlog.base import Place
from streamrec.eventlog.lines import line_lists
from streamrec.settings import KafkaSettings

KAFKA = "kafka://"
POLL_S = 0.5


class Letter(NamedTuple):
    """A record that could not be read as an event, and why.

    Parameters
    ----------
    topic, partition, offset : where the record is
    reason, detail : see `base.Reject`
    timestamp_ms : of the record, -1 if it had none
    key, value : its bytes
    whole : False if the value was cut when the letter was written
    """

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    whole: bool = True

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition and offset of the record."""
        return self.topic, self.partition, self.offset


class _Line(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str = ""
    timestamp_ms: int = -1
    key: str | None = None
    value: str | None = None


_DECODER = msgspec.json.Decoder(_Line)


def letter_of_line(line: bytes) -> Letter | None:
    """The letter on a line; None if there is none.

    Examples
    --------
    >>> letter_of_line(b'{"topic":"t","partition":3,"offset":7,"reason":"not_json","value":"ew=="}').value
    b'{'
    """
    try:
        read = _DECODER.decode(line)
        key, value = (None if x is None else b64decode(x, validate=True) for x in (read.key, read.value))
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
        return None
    place = read.topic, read.partition, read.offset
    return Letter(*place, read.reason, read.detail, read.timestamp_ms, key, value)


def letter_of_message(
    value: bytes | None, key: bytes | None, headers: Iterable[tuple[str, bytes | None]]
) -> Letter | None:
    """The letter that a message is; None if its headers do not say where the record came from.

    Examples
    --------
    >>> headers = [("reason", b"not_json"), ("topic", b"clicks"), ("partition", b"3"), ("offset", b"7")]
    >>> letter_of_message(b"{", None, headers).place
    ('clicks', 3, 7)
    """
    said = {name: (text or b"").decode("utf-8", "replace") for name, text in headers}
    try:
        place = said["topic"], int(said["partition"]), int(said["offset"])
        stamp = int(said.get("timestamp_ms", "-1"))
    except (KeyError, ValueError):
        return None
    why = said.get("reason", "unknown"), said.get("detail", "")
    return Letter(*place, *why, stamp, key, value, whole="bytes" not in said)


class LetterFile:
    """The letters of a file.

    Parameters
    ----------
    path : plain, gzip or zstd; a line that is being written is left for the next time

    Raises
    ------
    ConfigError
        If there is no such file.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; give a file of dead letters or kafka://TOPIC")
        self.path, self.strange = path, 0
        self._next = 0

    def read(self) -> Iterator[Letter]:
        """Letters from where the last reading ended, up to the end."""
        for at, (line, is_last) in enumerate(self._lines()):
            letter = letter_of_line(line) if at >= self._next else None
            if at >= self._next and not (is_last and letter is None):
                self._next = at + 1
                self.strange += letter is None
            if letter is not None:
                yield letter

    def rewind(self) -> None:
        """Begin again."""
        self._next = 0
        self.strange = 0

    def skip(self) -> None:
        """Begin at the end."""
        for _ in self.read():
            pass

    def _lines(self) -> Iterator[tuple[bytes, bool]]:
        """Lines, and whether it is one without its end, which may be torn."""
        held: list[bytes] = []
        for lines in line_lists(str(self.path)):
            yield from ((line, False) for line in held)
            held = lines
        yield from ((line, True) for line in held)

    def close(self) -> None:
        """Nothing is held open."""


class LetterTopic:
    """The letters of a topic, each partition in order.

    Parameters
    ----------
    kafka : how the cluster is reached
    topic : that holds them

    Raises
    ------
    BrokerError
        If the topic does not exist, or the cluster cannot be reached.
    """

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        from streamrec.eventlog.letter_reader import LetterReader  # noqa: PLC0415 (a client only if asked for)

        self.strange = 0
        self._patience_s = kafka.request_timeout_s
        self._reader = LetterReader(kafka)
        self._topic = topic
        self._next: dict[Place, int] = {}

    def read(self) -> Iterator[Letter]:
        """Letters from where the last reading ended, up to where the topic ends now."""
        bounds = self._reader.bounds(self._reader.places([self._topic]))
        at = {place: max(self._next.get(place, 0), found.first) for place, found in bounds.items()}
        ends = {place: found.end for place, found in bounds.items()}
        self._reader.assign(at)
        heard = time.monotonic()
        while any(at[place] < end for place, end in ends.items()):
            letters = self._reader.letters(POLL_S)
            heard = time.monotonic() if letters else heard
            if time.monotonic() - heard > self._patience_s:
                silent = f"nothing within {self._patience_s:g} s, though there is more; try again"
                raise UnavailableError(f"topic {self._topic}: {silent}")
            for place, offset, letter in letters:
                if offset < ends[place]:
                    self._next[place] = offset + 1
                    self.strange += letter is None
                    if letter is not None:
                        yield letter
            at |= self._reader.positions(list(ends))

    def rewind(self) -> None:
        """Begin again."""
        self._next = {}
        self.strange = 0

    def skip(self) -> None:
        """Begin at the end."""
        bounds = self._reader.bounds(self._reader.places([self._topic]))
        self._next = {place: found.end for place, found in bounds.items()}

    def close(self) -> None:
        """Give the connections back."""
        self._reader.close()


def open_letters(name: str, kafka: KafkaSettings) -> LetterFile | LetterTopic:
    """The letters of a file or of kafka://TOPIC."""
    return LetterTopic(kafka, name.removeprefix(KAFKA)) if name.startswith(KAFKA) else LetterFile(Path(name))
