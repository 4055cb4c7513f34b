"""A loopback proxy in front of one broker, which does to its clients what networks and brokers do.

    client ==> proxy port ==> broker port        requests, in order, per connection
    client <== proxy port <== broker port        answers, in the same order

The broker advertises the proxy's port, so no address is rewritten and clients stay here. Rules say what
happens to requests of chosen kinds (`Api`; none named: all), for how many of them, from whom:

    delay         the answer is held back for some time, counted from its request
    swallow       the request reaches nobody, and the connection is dumb from then on (a broker that hangs)
    cut_before    the connection is closed, the broker has heard nothing
    cut_after     the broker has acted, the connection is closed instead of the answer (unknown outcome)
    refuse        the proxy answers with an error code, the broker has heard nothing
    lie           the broker has acted, its answer is given an error code
    starve        Fetch answers come without the records of one partition

and for all connections at once: `blackhole` (nothing passes, nothing is closed), `shut` and `reopen`
(connections are cut and refused), `cut`. `heal` ends all of it.

What it cannot do: see into TLS (it needs a plain listener behind it); refuse Fetch, Metadata, ListOffsets,
OffsetFetch and FindCoordinator without asking the broker (they change nothing, so `refuse` is `lie` there) or
AddPartitionsToTxn above version 3; rewrite versions above those that kafka-python knows (said in `broken`);
hold a request back before the broker (only its answer); change the order of answers (clients would not have
it); lose single packets; more than one broker. Fetch sessions (KIP-227) are switched off, so that every Fetch
names all partitions. What the broker tells itself (transaction markers) does not come through here.
"""

import contextlib
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import wire
from wire import Api

HOST = "127.0.0.1"
STARVED_PAUSE_S = (
    0.1  # a Fetch that has lost all its records is answered so much later, or clients would spin
)


class Delay(NamedTuple):
    """Hold the answer back."""

    seconds: float


class Swallow(NamedTuple):
    """Be dumb from this request on."""


class CutBefore(NamedTuple):
    """Close before the broker hears."""


class CutAfter(NamedTuple):
    """Close after the broker has acted."""


class Refuse(NamedTuple):
    """Answer in place of the broker."""

    error: int


class Lie(NamedTuple):
    """Give the broker's answer an error code."""

    error: int


class Starve(NamedTuple):
    """Take the records of a partition out of Fetch answers."""

    topic: str
    partition: int


Effect = Delay | Swallow | CutBefore | CutAfter | Refuse | Lie | Starve


@dataclass(eq=False)
class Rule:
    """An effect on the next requests that fit; `hits` counts those that it met.

    Parameters
    ----------
    effect : what happens
    apis : kinds of requests; empty for all
    times : so many of them; None for all until `cancel`
    client : part of the client id
    """

    effect: Effect
    apis: frozenset[Api]
    times: int | None
    client: str
    hits: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """No more of it; answers that it holds back are given."""
        self.over.set()

    def meets(self, api: int, client: str) -> bool:
        """Whether it applies to this request; counted if so."""
        spent = self.times is not None and self.hits >= self.times
        if spent or self.over.is_set() or (self.apis and api not in self.apis) or self.client not in client:
            return False
        self.hits += 1
        return True


@dataclass
class Exchange:
    """A request under way; `answer` is the proxy's own, given in place of the broker's."""

    head: wire.Head
    came: float
    rules: list[Rule]
    answer: bytes | None = None


def _frames(link: socket.socket) -> Iterator[bytes]:
    """Frames without their length, until the other side closes."""
    with link.makefile("rb") as stream:
        while len(length := stream.read(4)) == 4:
            size = struct.unpack(">i", length)[0]
            frame = stream.read(size)
            if len(frame) < size:
                return
            yield frame


def _send(link: socket.socket, frame: bytes) -> None:
    link.sendall(struct.pack(">i", len(frame)) + frame)


class Link:
    """One client's connection and its own connection to the broker; a thread for each direction."""

    def __init__(self, proxy: "Proxy", client: socket.socket, broker: socket.socket) -> None:
        self.proxy, self.client, self.broker = proxy, client, broker
        self.waiting: deque[Exchange] = deque()
        self.lock = threading.Lock()  # over `waiting` and over what is sent to the client
        self.dumb = False
        for run in (self._up, self._down):
            threading.Thread(target=self._guarded, args=(run,), daemon=True).start()

    def close(self) -> None:
        """Both connections, at once."""
        for end in (self.client, self.broker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError) and "closed file" not in str(error):
                self.proxy.broken.append(repr(error))
        except Exception as error:
            self.proxy.broken.append(repr(error))
        finally:
            self.close()
            self.proxy.gone(self)

    def _up(self) -> None:
        for frame in _frames(self.client):
            exchange = Exchange(wire.head_of(frame), time.monotonic(), [])
            exchange.rules = self.proxy.rules_for(exchange.head)
            self.proxy.passing.wait()
            effects = {type(rule.effect): rule.effect for rule in exchange.rules}
            if CutBefore in effects:
                return
            if Swallow in effects or self.dumb:
                self.dumb = True
                continue
            refused = effects.get(Refuse)
            if isinstance(refused, Refuse) and exchange.head.api not in wire.READING:
                exchange.answer = wire.refusal(frame, refused.error)
                self._queue(exchange)
                continue
            if wire.is_answered(frame):
                self._queue(exchange)
            _send(self.broker, frame)

    def _queue(self, exchange: Exchange) -> None:
        """Answers are given in the order of their requests, also the proxy's own."""
        with self.lock:
            self.waiting.append(exchange)
            self._give_own()

    def _give_own(self) -> None:
        while self.waiting and self.waiting[0].answer is not None:
            exchange = self.waiting.popleft()
            assert exchange.answer is not None
            self._give(exchange, exchange.answer)

    def _down(self) -> None:
        for frame in _frames(self.broker):
            with self.lock:
                exchange = self.waiting[0]  # stays first until it is given, so that nothing overtakes it
            head = exchange.head
            if wire.correlation_of(frame) != head.correlation:
                raise LookupError(f"answer {wire.correlation_of(frame)} to request {head.correlation}")
            if any(isinstance(rule.effect, CutAfter) for rule in exchange.rules):
                return
            self._give(exchange, self.proxy.rewritten(exchange, frame))
            with self.lock:
                self.waiting.popleft()
                self._give_own()

    def _give(self, exchange: Exchange, frame: bytes) -> None:
        for rule in exchange.rules:
            if isinstance(rule.effect, Delay):
                rule.over.wait(max(0.0, exchange.came + rule.effect.seconds - time.monotonic()))
        self.proxy.passing.wait()
        if not self.dumb:
            _send(self.client, frame)


class Proxy:
    """Listens on a port of 127.0.0.1 and passes everything on to `upstream`, unless rules say otherwise.

    Parameters
    ----------
    upstream : port of the broker, which advertises `port`
    port : where to listen; 0 for any

    Examples
    --------
    >>> proxy = Proxy(upstream=9092)
    >>> late = proxy.delay(0.4, Api.PRODUCE)
    >>> late.hits
    0
    >>> proxy.close()
    """

    def __init__(self, upstream: int, port: int = 0) -> None:
        self.upstream = upstream
        self.rules: list[Rule] = []
        self.links: set[Link] = set()
        self.topic_ids: dict[str, object] = {}
        self.seen: Counter[int] = Counter()  # requests by kind
        self.broken: list[str] = []  # what went wrong in here; a test should find it empty
        self.passing = threading.Event()
        self.passing.set()
        self.lock = threading.Lock()
        self.port = port
        self.listener = self._listen()

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.port}"

    def delay(self, seconds: float, *apis: Api, times: int | None = None, client: str = "") -> Rule:
        """Give answers so much later than their requests came."""
        return self._rule(Delay(seconds), apis, times, client)

    def swallow(self, *apis: Api, times: int | None = None, client: str = "") -> Rule:
        """Connections on which such a request comes hang from then on, until somebody closes them."""
        return self._rule(Swallow(), apis, times, client)

    def cut_before(self, *apis: Api, times: int | None = None, client: str = "") -> Rule:
        """Close the connection when such a request comes."""
        return self._rule(CutBefore(), apis, times, client)

    def cut_after(self, *apis: Api, times: int | None = None, client: str = "") -> Rule:
        """Close the connection when the broker has answered such a request; the answer is lost."""
        return self._rule(CutAfter(), apis, times, client)

    def refuse(self, error: int, api: Api, *apis: Api, times: int | None = None, client: str = "") -> Rule:
        """Answer with an error code of Kafka; a broker that changes something does not hear of it."""
        return self._rule(Refuse(error), (api, *apis), times, client)

    def lie(self, error: int, api: Api, *apis: Api, times: int | None = None, client: str = "") -> Rule:
        """Let the broker act, and give its answer an error code."""
        return self._rule(Lie(error), (api, *apis), times, client)

    def starve(self, topic: str, partition: int, client: str = "") -> Rule:
        """Give no records of this partition; its offsets are told as they are."""
        return self._rule(Starve(topic, partition), (Api.FETCH,), None, client)

    def blackhole(self) -> None:
        """Nothing passes until `heal`; then what came meanwhile does."""
        self.passing.clear()

    def cut(self) -> None:
        """Close all connections."""
        with self.lock:
            links = list(self.links)
        for link in links:
            link.close()

    def shut(self) -> None:
        """Close all connections and refuse new ones until `reopen`."""
        self._close_listener()
        self.cut()

    def reopen(self) -> None:
        """Take connections again."""
        self.listener = self._listen()

    def heal(self) -> None:
        """All rules are over, and everything passes."""
        for rule in self.rules:
            rule.cancel()
        self.rules = []
        self.passing.set()

    def close(self) -> None:
        """The end of it."""
        self.heal()
        self.shut()

    def rules_for(self, head: wire.Head) -> list[Rule]:
        """The rules that this request meets; counted."""
        with self.lock:
            self.seen[head.api] += 1
            return [rule for rule in self.rules if rule.meets(head.api, head.client)]

    def rewritten(self, exchange: Exchange, frame: bytes) -> bytes:
        """The broker's answer, as the rules have it."""
        head = exchange.head
        if head.api == Api.FETCH:
            frame = wire.without_session(head.version, frame)
        elif head.api == Api.METADATA and head.version >= 10:
            topics = wire.answer_of(Api.METADATA, head.version, frame).topics
            self.topic_ids.update({topic.name: topic.topic_id for topic in topics})
        for rule in exchange.rules:
            if isinstance(rule.effect, Refuse | Lie):
                answer = wire.answer_of(Api(head.api), head.version, frame)
                wire.blame(Api(head.api), answer, rule.effect.error)
                frame = wire.written(answer)
            elif isinstance(rule.effect, Starve):
                frame = self._starved(rule.effect, head.version, frame)
        return frame

    def gone(self, link: Link) -> None:
        """A link has ended."""
        with self.lock:
            self.links.discard(link)

    def _starved(self, effect: Starve, version: int, frame: bytes) -> bytes:
        answer = wire.answer_of(Api.FETCH, version, frame)
        topic = self.topic_ids.get(effect.topic) if version >= 13 else effect.topic
        taken, left = wire.take_records(answer, topic, effect.partition)
        if taken and not left:
            time.sleep(STARVED_PAUSE_S)
        return wire.written(answer) if taken else frame

    def _rule(self, effect: Effect, apis: tuple[Api, ...], times: int | None, client: str) -> Rule:
        rule = Rule(effect, frozenset(apis), times, client)
        with self.lock:
            self.rules = [*self.rules, rule]
        return rule

    def _listen(self) -> socket.socket:
        listener = socket.create_server((HOST, self.port))
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _close_listener(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self.listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection((HOST, self.upstream), 5.0)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            for end in (client, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(self, client, broker)
            with self.lock:
                self.links.add(link)
