"""Where the time goes: stages that tell their own time apart from that of the stages inside of them.

    stages = Stages()
    stages.watch(member, "poll", "poll")      every call of member.poll counts as stage "poll"

Time is that of the processor, spent by the thread that made the watch; what other threads of the process
spend is told as a whole.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any


class Stages:
    """Own processor time by stage, s.

    Examples
    --------
    >>> stages = Stages(clock=iter([0.0, 1.0, 2.0, 4.0, 8.0]).__next__)
    >>> with stages.stage("outer"):
    ...     with stages.stage("inner"):
    ...         pass
    >>> stages.seconds()
    {'rest': 1.0, 'outer': 5.0, 'inner': 2.0}
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._open = ["rest"]
        self._since = clock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens in the block belongs to this stage, unless it belongs to one inside of it."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Let every call of a method be a stage."""
        inner = getattr(owner, method)

        @wraps(inner)
        def outer(*args: Any, **more: Any) -> Any:
            with self.stage(name):
                return inner(*args, **more)

        setattr(owner, method, outer)

    def seconds(self) -> dict[str, float]:
        """Own time of every stage so far; `rest` is what belongs to none."""
        return dict(self._spent)

    def reset(self) -> None:
        """Begin anew."""
        self._turn()
        self._spent.clear()

    def _turn(self) -> None:
        now = self._clock()
        self._spent[self._open[-1]] += now - self._since
        self._since = now
