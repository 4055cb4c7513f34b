"""A thread beside the caller's, for calls of a library that may not come back in time or that ask back.

    caller ──start(job)──► aside ──► library          the caller waits for the outcome, at most so long,
       ▲                               │              or answers questions while the job runs
       └────────── question ───────────┘

The caller's own thread answers, so that whoever is asked may use what belongs to that thread (a database).
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from streamrec.errors import UnavailableError

T = TypeVar("T")
Ended = Callable[[], None]


class Aside:
    """Runs jobs one after another in a thread of its own.

    Parameters
    ----------
    name : of the thread

    Examples
    --------
    >>> aside = Aside("beside")
    >>> aside.within(lambda: 6 * 7, 1.0, "the answer"), aside.asking(lambda: aside.ask(lambda: 5))
    (42, 5)
    >>> aside.close()
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._questions: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, job: Callable[[], T]) -> "Future[T]":
        """Have a job done after those before it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        outcome: Future[T] = Future()
        self._jobs.put(lambda: _settle(outcome, job))
        return outcome

    def within(self, job: Callable[[], T], timeout_s: float, what: str) -> T:
        """The result of a job.

        Raises
        ------
        UnavailableError
            If it has none in time; the job goes on.
        """
        try:
            return self.start(job).result(timeout_s)
        except TimeoutError:
            raise UnavailableError(f"{what}: no answer within {timeout_s:g} s; ask again") from None

    def asking(self, job: Callable[[], T]) -> T:
        """The result of a job that may `ask` meanwhile; this thread answers."""
        outcome = self.start(job)
        outcome.add_done_callback(lambda _: self._questions.put(None))
        while (question := self._questions.get()) is not None:
            question()
        return outcome.result()

    def put(self, question: Callable[[], T]) -> "Future[T]":
        """Have the thread that waits in `asking` call this; for the job that is under way."""
        answer: Future[T] = Future()
        self._questions.put(lambda: _settle(answer, question))
        return answer

    def ask(self, question: Callable[[], T]) -> T:
        """What the thread that waits in `asking` answers."""
        return self.put(question).result()

    def close(self, timeout_s: float = 1.0) -> None:
        """End the thread after its job, waiting at most so long; may be called twice."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(timeout_s)
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _settle(outcome: "Future[Any]", job: Callable[[], Any]) -> None:
    try:
        result = job()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
