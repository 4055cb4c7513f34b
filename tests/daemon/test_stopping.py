"""Signals: the first asks, the second ends, and so does time."""

import os
import signal
import threading
import time

from streamrec.verbs.stopping import AT_ONCE, IN_TIME, ending_in_time, stopped_by_signals


class Toy:
    """Counts how often it was asked to leave."""

    asked = 0

    def stop(self) -> None:
        self.asked += 1


def send(number: signal.Signals) -> None:
    """To ourselves, and until it was handled."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)


def test_the_first_signal_asks_and_starts_the_clock_the_second_ends_at_once() -> None:
    toy, started, ends = Toy(), list[int](), list[int]()
    with stopped_by_signals(toy, lambda: started.append(1), ends.append):
        send(signal.SIGTERM)
        assert (toy.asked, started, ends) == (1, [1], [])
        send(signal.SIGINT)
        assert (toy.asked, started, ends) == (1, [1], [AT_ONCE])


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stopped_by_signals(Toy(), lambda: None):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_what_does_not_end_in_time_is_ended() -> None:
    ended, codes = threading.Event(), list[int]()
    with ending_in_time(0.05, lambda code: (codes.append(code), ended.set())) as start_clock:
        start_clock()
        assert ended.wait(10)
    assert codes == [IN_TIME]


def test_what_ends_in_time_or_was_never_asked_is_left_alone() -> None:
    codes = list[int]()
    with ending_in_time(0.05, codes.append) as start_clock:
        start_clock()
    with ending_in_time(0.0, codes.append):
        pass
    time.sleep(0.1)
    assert codes == []
