"""Reads both logs in turn until they end, or until it is told to stop."""

from collections.abc import Callable

from streamrec.judge.court import Judge
from streamrec.judge.feeds import Feed, Readable
from streamrec.stream import Log

POLL = 2000


class Pace:
    """When to stop, to rest and to tell; all of it is passed in, and none of it changes a figure.

    Parameters
    ----------
    every : records between two checkpoints
    poll : records asked for at once
    follow : go on at the end of the logs, opening them again
    rest : called with True when both logs have ended, with False when a live one is silent
    tell : called after every round
    """

    def __init__(
        self,
        every: int = 20_000,
        poll: int = POLL,
        follow: bool = False,
        rest: Callable[[bool], None] = lambda _: None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.every, self.poll, self.follow, self.rest, self.tell = every, poll, follow, rest, tell
        self.stopped = False

    def stop(self) -> None:
        """End after the round that is under way; may be called from a signal handler."""
        self.stopped = True


def judge_logs(judge: Judge, events: Feed[Log], forecasts: Feed[Readable], pace: Pace) -> bool:
    """Judge what both logs hold; what was read is kept at the end.

    Returns
    -------
    bool
        Whether both logs were read to their ends: then `judge.verdict()` is the verdict on all of it.
    """
    while not pace.stopped:
        read = _read_events(judge, events, forecasts, pace) + _read_forecasts(judge, events, forecasts, pace)
        at_end = events.ended and forecasts.ended
        if judge.n_since >= pace.every or (at_end and judge.n_since):
            judge.checkpoint()
        pace.tell()
        if at_end and not pace.follow:
            return True
        if not read:
            pace.rest(at_end)
        if at_end and not pace.stopped:
            events.again()
            forecasts.again()
    if judge.n_since:
        judge.checkpoint()
    return False


def _read_events(judge: Judge, events: Feed[Log], forecasts: Feed[Readable], pace: Pace) -> int:
    """A round of events, unless there are enough that wait and forecasts can still come."""
    if events.ended or not (judge.wants_events() or forecasts.ended or not judge.wants_forecasts()):
        return 0
    records = events.read(pace.poll)
    judge.read_events(list(zip(records, events.log.decode_many(records), strict=True)) if records else [])
    return len(records)


def _read_forecasts(judge: Judge, events: Feed[Log], forecasts: Feed[Readable], pace: Pace) -> int:
    """A round of forecasts, unless there are enough that wait and events can still come."""
    if forecasts.ended or not (judge.wants_forecasts() or events.ended or not judge.wants_events()):
        return 0
    records = forecasts.read(pace.poll)
    judge.read_forecasts(records, forecasts.checks)
    return len(records)
