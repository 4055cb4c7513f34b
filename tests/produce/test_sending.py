"""Each line of a feed goes to the topic exactly once, in order, when it is due."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import PLACE, TOPIC, Killed, ToyBroker, ToyClock, ToyFeed, ToyMember, ToyTransactor

from streamrec.errors import ConfigError, DeliveryError, FencedError, StateError, UnavailableError
from streamrec.eventlog.clients import Commit
from streamrec.produce.pace import Pacer
from streamrec.produce.sending import BatchLimits, Sending
from streamrec.produce.shipping import Position, Shipper


def sending(broker, feed, trouble=None, share=0.0, clock=None, speed=0.0, rate=0.0, **more):
    clock = clock or ToyClock()
    shipper = Shipper(ToyTransactor(broker, trouble, share), ToyMember(broker), TOPIC, clock, patience_s=1e9)
    return Sending(feed, shipper, Pacer(clock, speed, rate), clock, **more)


def values(broker):
    return [message.value for message in broker.log]


def test_a_feed_is_sent_once_and_a_second_run_sends_nothing():
    broker = ToyBroker()
    first = sending(broker, ToyFeed(103)).run()
    assert values(broker) == ToyFeed(103).wanted()
    assert (first.begun.lines, first.ended.lines, first.messages) == (0, 103, len(broker.log))
    second = sending(broker, ToyFeed(103)).run()
    assert (second.begun.lines, second.messages) == (103, 0)
    assert values(broker) == ToyFeed(103).wanted()


def test_a_feed_that_has_grown_is_gone_on_with():
    broker = ToyBroker()
    sending(broker, ToyFeed(40)).run()
    sending(broker, ToyFeed(90)).run()
    assert values(broker) == ToyFeed(90).wanted()


@given(seed=st.integers(0, 2**32), share=st.floats(0.01, 0.4), size=st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_kills_and_lost_answers_at_any_call_lose_and_double_nothing(seed, share, size):
    broker, trouble = ToyBroker(), random.Random(seed)
    for _ in range(10_000):
        try:
            sending(broker, ToyFeed(101), trouble, share, limits=BatchLimits(lines=size)).run()
            break
        except Killed:
            continue
    assert values(broker) == ToyFeed(101).wanted()


def test_another_log_under_the_same_name_is_refused():
    broker = ToyBroker()
    sending(broker, ToyFeed(40)).run()
    with pytest.raises(StateError, match=r"first 40 lines .* not the same log"):
        sending(broker, ToyFeed(90, "other")).run()
    assert len(broker.log) == len(ToyFeed(40).wanted())


def test_a_topic_that_was_made_anew_gets_everything_again():
    broker = ToyBroker()
    sending(broker, ToyFeed(40)).run()
    broker.topic_id, broker.log = "id-2", []
    sending(broker, ToyFeed(40)).run()
    assert values(broker) == ToyFeed(40).wanted()


def test_a_position_that_somebody_else_wrote_is_refused():
    broker = ToyBroker()
    broker.commits[PLACE] = Commit(7, "by hand")
    with pytest.raises(StateError, match="choose another --id"):
        sending(broker, ToyFeed(40)).run()


def test_a_second_process_of_the_same_name_shuts_out_the_first():
    broker = ToyBroker()
    clock = ToyClock()
    first = Shipper(ToyTransactor(broker), ToyMember(broker), TOPIC, clock)
    first.open()
    sending(broker, ToyFeed(40)).run()
    with pytest.raises(FencedError):
        first.ship([], Position(1, 2, 3))
    assert values(broker) == ToyFeed(40).wanted()


def test_a_broker_that_stays_away_is_given_up_after_the_patience():
    class Away(ToyTransactor):
        def recover(self):
            raise UnavailableError("no answer")

    clock = ToyClock()
    broker = ToyBroker()
    with pytest.raises(UnavailableError):
        Shipper(Away(broker), ToyMember(broker), TOPIC, clock, patience_s=30.0).open()
    assert 30.0 <= clock.time - 1000.0 <= 31.0


def test_a_message_that_is_refused_ends_the_run_with_nothing_of_its_batch():
    class Refusing(ToyTransactor):
        def commit(self, commits, member):
            raise DeliveryError("too large")

    broker, clock = ToyBroker(), ToyClock()
    transactor = Refusing(broker)
    shipper = Shipper(transactor, ToyMember(broker), TOPIC, clock)
    with pytest.raises(DeliveryError):
        Sending(ToyFeed(40), shipper, Pacer(clock), clock).run()
    assert transactor.open is None
    assert broker.log == []


def test_a_stop_keeps_what_is_in_hand_and_the_next_run_goes_on():
    broker, clock = ToyBroker(), ToyClock()
    done = sending(broker, ToyFeed(100), clock=clock, speed=1.0, stopped=lambda: clock.time >= 1050.0)
    outcome = done.run()
    assert outcome.stopped
    assert outcome.ended.lines == pytest.approx(51, abs=2)
    assert values(broker) == ToyFeed(100).wanted()[: len(broker.log)]
    sending(broker, ToyFeed(100)).run()
    assert values(broker) == ToyFeed(100).wanted()


@pytest.mark.parametrize("speed", [0.5, 1.0, 20.0])
def test_a_paced_run_takes_event_time_over_speed(speed):
    broker, clock = ToyBroker(), ToyClock()
    sending(broker, ToyFeed(100), clock=clock, speed=speed).run()
    assert clock.time - 1000.0 == pytest.approx(98 / speed)  # from line 0 to line 98; 99 gives no message


def test_a_rate_holds_on_average_and_a_pause_is_not_made_up_for():
    broker, clock = ToyBroker(), ToyClock()
    sending(broker, ToyFeed(1000), clock=clock, rate=50.0).run()
    assert clock.time - 1000.0 == pytest.approx(len(broker.log) / 50.0, rel=0.02)
    pacer = Pacer(clock, rate=50.0)
    pacer.sent()
    clock.time += 100.0
    sent = 0
    while not pacer.wait(None):
        pacer.sent()
        sent += 1
    assert sent <= 7  # 0.1 s of burst


def test_what_is_in_hand_goes_out_while_the_next_line_is_not_due():
    broker, clock = ToyBroker(), ToyClock()
    ages = []

    def seen(position):
        ages.append(clock.time - 1000.0 - position.lines)

    sending(broker, ToyFeed(60), clock=clock, speed=1.0, seen=seen, limits=BatchLimits(age_s=0.5)).run()
    assert max(broker.batches) <= 2
    assert max(ages[1:]) <= 1.0


def test_batches_close_at_their_number_of_lines_and_bytes():
    broker = ToyBroker()
    sending(broker, ToyFeed(200), limits=BatchLimits(lines=7)).run()
    assert max(broker.batches) == 7
    broker = ToyBroker()
    sending(broker, ToyFeed(200), limits=BatchLimits(bytes=30)).run()
    assert max(broker.batches) <= 5
    assert values(broker) == ToyFeed(200).wanted()


def test_a_live_feed_is_waited_for_and_what_came_before_is_visible():
    broker = ToyBroker()
    seen = []
    sending(broker, ToyFeed(100, live_at=30), seen=lambda position: seen.append(position.lines)).run()
    assert 30 in seen
    assert values(broker) == ToyFeed(100).wanted()


@pytest.mark.parametrize("wrong", [{"speed": -1.0}, {"rate": float("nan")}, {"speed": float("inf")}])
def test_a_speed_or_rate_that_is_no_pace_is_refused(wrong):
    with pytest.raises(ConfigError, match="speed, rate"):
        Pacer(ToyClock(), **wrong)
