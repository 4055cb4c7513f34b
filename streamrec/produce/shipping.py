"""Lines to a topic exactly once: each batch and the position after it become visible in one transaction.

    recover ──► committed? ──► pass over what was sent ──► [begin, send, commit position] ... ──► end

The position is an offset of a consumer group of our own at (topic, 0): the number of lines of the log that
are dealt with; beside it stand the check sum of these lines, by which the same log is known again, and the
last stamp. `recover` shuts out an earlier process of the same name, so that nothing of it can arrive later,
and ends or aborts what it left open; after that the broker's answer is final. So a kill at any moment loses
no line and sends none twice, as readers with isolation read_committed see it, and each partition holds its
lines in the order of the log.

Offsets of a topic go when the topic is deleted; a topic that was made anew under its name is told by its id.
Nothing is kept on our disk. Source: consume-transform-produce as in KIP-98, with a log of ours for the input.
"""

import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from streamrec.errors import BrokerError, DeliveryError, StateError, UnavailableError
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Commit, Member, Message, Transactor
from streamrec.produce.pace import Clock

PATIENCE_S = 300.0
"""Time that an unreachable broker is asked again."""

PAUSE_S = 0.5


class Position(NamedTuple):
    """How far a log was dealt with.

    Parameters
    ----------
    lines : of the log, from its start, sent or passed over on purpose
    check : crc32 of their bytes
    stamp_ms : of the last message, by which a line without a time of its own is stamped
    """

    lines: int = 0
    check: int = 0
    stamp_ms: int = 1

    def after(self, raw: bytes, stamp_ms: int) -> "Position":
        """The position after one more line."""
        return Position(self.lines + 1, zlib.crc32(raw, self.check), stamp_ms)


class _Beside(msgspec.Struct):
    """What is written beside the offset."""

    check: int
    stamp_ms: int
    topic_id: str
    v: int = 1


class Shipper:
    """Ships batches of one log to one topic.

    Parameters
    ----------
    transactor : with a transactional id that stands for this log and topic
    member : of a group that stands for them too; it is never joined
    topic : where messages go
    clock : by which an unreachable broker is asked again
    patience_s : how long
    """

    def __init__(
        self, transactor: Transactor, member: Member, topic: str, clock: Clock, patience_s: float = PATIENCE_S
    ) -> None:
        self._transactor = transactor
        self._member = member
        self._place: Place = (topic, 0)
        self._clock = clock
        self._patience_s = patience_s
        self._topic_id = ""

    def open(self) -> Position:
        """Shut out whoever shipped this before; how far it came.

        Raises
        ------
        UnavailableError
            If the broker was not to be reached for `patience_s`.
        StateError
            If what stands beside the offset was not written by this program.
        """
        until = self._clock.now() + self._patience_s
        while True:
            try:
                self._transactor.recover()
                self._topic_id = self._member.topic_ids([self._place[0]])[self._place[0]]
                return self._committed()
            except UnavailableError:
                if self._clock.now() >= until:
                    raise
                self._clock.sleep(PAUSE_S)

    def ship(self, messages: Sequence[Message], position: Position) -> None:
        """Make messages and the position after them visible together; returns when they are.

        Raises
        ------
        DeliveryError
            If the broker refuses one of them for good; then none is visible.
        FencedError
            If another process ships under the same name.
        UnavailableError
            See `open`.
        """
        while True:
            try:
                self._transactor.begin()
                self._transactor.send(messages)
                self._transactor.commit({self._place: self._commit(position)}, self._member)
                return
            except UnavailableError:
                if self.open() == position:  # it had ended, only the answer was lost
                    return
            except DeliveryError:
                self._drop()
                raise

    def close(self) -> None:
        """Give the connections back; may be called twice."""
        self._transactor.close()
        self._member.close()

    def _commit(self, position: Position) -> Commit:
        beside = _Beside(position.check, position.stamp_ms, self._topic_id)
        return Commit(position.lines, msgspec.json.encode(beside).decode())

    def _committed(self) -> Position:
        commit = self._member.committed([self._place]).get(self._place)
        if commit is None:
            return Position()
        try:
            beside = msgspec.json.decode(commit.metadata, type=_Beside)
        except msgspec.DecodeError:
            raise StateError(
                f"{self._place[0]}: the group's metadata at offset {commit.offset} is not a position of a "
                f"producer ({commit.metadata[:60]!r}); choose another --id"
            ) from None
        if beside.topic_id != self._topic_id:  # made anew: what was sent is gone with the old one
            return Position()
        return Position(commit.offset, beside.check, beside.stamp_ms)

    def _drop(self) -> None:
        with suppress(BrokerError):  # then the next `open` drops it, or the broker's time-out
            self._transactor.abort()
