"""Probes, metrics and queries over HTTP, beside the loop and never in its way.

    server thread   /livez /readyz /startupz /statusz /metrics   read what the loop last showed
                    /forecast/{user}, /statusz?digest            ask, and wait for the loop's answer
    loop            tick, enter, show, answer                    between two cuts; it never waits here

Only the loop touches the lanes. What it shows is replaced whole, so that a reader needs no lock. Bound to
127.0.0.1 by default: there is no login.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import Annotated, Any

import msgspec
import uvicorn
from fastapi import FastAPI, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST

from streamrec import __version__
from streamrec.errors import ConfigError
from streamrec.settings import HttpSettings
from streamrec.status import Lanes, NoAnswerError, UnknownUserError, digests_of, forecast_of

MAX_WAITING = 256
"""Questions that may wait for the loop; one more is refused at once."""

ANSWERS_PER_CUT = 32
"""Questions that the loop answers between two cuts; the rest waits for the next."""

Clock = Callable[[], float]
Question = Callable[[Lanes], bytes]
At = Annotated[float | None, Query(description="Time of asking, s since the epoch.", allow_inf_nan=False)]


class Desk:
    """Questions of other threads, answered by the loop between two cuts.

    Parameters
    ----------
    most : questions that may wait

    Examples
    --------
    >>> desk = Desk()
    >>> answer = desk.ask(lambda lanes: str(len(lanes)).encode())
    >>> desk.answer({}); answer.result()
    b'0'
    """

    def __init__(self, most: int = MAX_WAITING) -> None:
        self._waiting: Queue[tuple[Question, Future[bytes]]] = Queue(most)
        self._closed = threading.Event()

    def ask(self, question: Question) -> "Future[bytes]":
        """Put a question; any thread.

        Raises
        ------
        NoAnswerError
            If too many wait already, or the loop has ended.
        """
        answer: Future[bytes] = Future()
        if self._closed.is_set():
            raise NoAnswerError("the loop has ended; start streamrec again")
        try:
            self._waiting.put_nowait((question, answer))
        except Full:
            raise NoAnswerError(f"{self._waiting.maxsize} questions wait already; ask again later") from None
        return answer

    def answer(self, lanes: Lanes, most: int = ANSWERS_PER_CUT) -> None:
        """Answer what waits; the loop only, between two cuts. What goes wrong goes to who asked."""
        for _ in range(most):
            try:
                question, answer = self._waiting.get_nowait()
            except Empty:
                return
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(question(lanes))
            except Exception as error:  # a bug in an answer must not stop the loop
                answer.set_exception(error)

    def close(self) -> None:
        """The loop has ended: all who wait are told so."""
        self._closed.set()
        while True:
            try:
                _, answer = self._waiting.get_nowait()
            except Empty:
                return
            if answer.set_running_or_notify_cancel():
                answer.set_exception(NoAnswerError("the loop has ended; start streamrec again"))


@dataclass
class Shown:
    """What the loop last showed; written by the loop alone, and every field is replaced whole.

    Parameters
    ----------
    ticked : s, when the loop last gave a sign
    state : starting, restoring, running, degraded or draining
    reason : why forecasts are not to be asked for here; empty if they are
    started : they once were
    metrics : text of `/metrics`
    status : answer of `/statusz`
    """

    ticked: float
    state: str = "starting"
    reason: str = "starting"
    started: bool = False
    metrics: bytes = b""
    status: Mapping[str, Any] = field(default_factory=dict)


class Server:
    """The HTTP server in a thread of its own, and the loop's side of it.

    Parameters
    ----------
    http : address, and how long to wait
    clock : s, monotonic

    Examples
    --------
    >>> from urllib.request import urlopen
    >>> with Server(HttpSettings(port=0)) as server:
    ...     server.start().startswith("http://127.0.0.1:"), urlopen(server.url + "/livez").status
    (True, 200)
    """

    def __init__(self, http: HttpSettings, clock: Clock = time.monotonic) -> None:
        self.http, self.clock = http, clock
        self.desk = Desk()
        self.shown = Shown(clock())
        self.url = ""
        self._uvicorn: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Listen, and serve in a thread; the address that was taken.

        Raises
        ------
        ConfigError
            If the address cannot be had.
        """
        listening = _listen(self.http)
        host, port = listening.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        config = uvicorn.Config(
            app_of(self), lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([listening],), name="http", daemon=True
        )
        self._thread.start()
        return self.url

    def tick(self) -> None:
        """The loop gives a sign."""
        self.shown.ticked = self.clock()

    def enter(self, state: str, reason: str = "") -> None:
        """The loop is in a state, and is not ready for the reason given, if there is one."""
        self.shown.state, self.shown.reason = state, reason
        self.shown.started = self.shown.started or not reason
        self.tick()

    def show(self, metrics: bytes, status: Mapping[str, Any]) -> None:
        """The loop shows how things stand."""
        self.shown.metrics, self.shown.status = metrics, status

    def answer(self, lanes: Lanes) -> None:
        """The loop answers queries, between two cuts."""
        self.desk.answer(lanes)

    def close(self) -> None:
        """Tell those who wait, stop serving, and end the thread."""
        self.desk.close()
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=5)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listen(http: HttpSettings) -> socket.socket:
    """A socket that listens already, so that the port is known and nobody is turned away."""
    try:
        family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((http.host, http.port or 0))
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"http: cannot listen on {http.host}:{http.port} ({error.strerror or error}); "
            "choose another http.port or --metrics-port, 0 for a free one"
        ) from None
    return listening


def app_of(server: Server) -> FastAPI:
    """The routes."""
    app = FastAPI(title="streamrec", version=__version__)
    shown = server.shown

    @app.get("/livez")
    async def livez() -> Response:
        """200 if the loop gave a sign lately; says nothing of brokers."""
        silent_s = server.clock() - shown.ticked
        alive = silent_s <= server.http.stall_s
        return _json({"alive": alive, "silent_s": round(silent_s, 3)}, 200 if alive else 503)

    @app.get("/readyz")
    async def readyz() -> Response:
        """200 while the loop runs, also as a standby; 503 and why while it does not."""
        if not shown.reason:
            return _json({"ready": True, "state": shown.state})
        return _json({"ready": False, "state": shown.state, "reason": shown.reason}, 503)

    @app.get("/startupz")
    async def startupz() -> Response:
        """200 once the loop has been ready; then for good."""
        return _json({"started": shown.started, "state": shown.state}, 200 if shown.started else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """All metrics, as of the last rendering between two cuts."""
        return Response(shown.metrics, media_type=CONTENT_TYPE_LATEST)

    @app.get("/statusz")
    async def statusz(digest: bool = False) -> Response:
        """How every lane stands; with `digest` also what identifies the learned state."""
        status = {"state": shown.state, **shown.status}
        if not digest:
            return _json(status)
        answer = await _answered(server, digests_of)
        return answer if isinstance(answer, Response) else _json({**status, "digests": msgspec.Raw(answer)})

    @app.get("/forecast/{user:path}")
    async def forecast(user: str, at: At = None) -> Response:
        """A user's next event, given its silence until `at`."""
        answer = await _answered(server, lambda lanes: forecast_of(lanes, user, at))
        return answer if isinstance(answer, Response) else Response(answer, media_type="application/json")

    return app


async def _answered(server: Server, question: Question) -> bytes | Response:
    """The loop's answer, or what to say instead."""
    try:
        answer = asyncio.wrap_future(server.desk.ask(question))
        return await asyncio.wait_for(answer, server.http.answer_s)
    except UnknownUserError as error:
        return _error(404, str(error))
    except ConfigError as error:
        return _error(422, str(error))
    except NoAnswerError as error:
        return _error(503, str(error))
    except TimeoutError:
        return _error(
            503, f"the loop gave no answer within {server.http.answer_s:g} s; see /livez, or ask again later"
        )


def _error(code: int, message: str) -> Response:
    return _json({"error": message}, code)


def _json(content: Mapping[str, Any], code: int = 200) -> Response:
    return Response(msgspec.json.encode(content), code, media_type="application/json")
