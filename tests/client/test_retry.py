"""When the client sends again and when it gives up, on a clock that the test moves."""

from __future__ import annotations

import pytest

from lab_client import errors
from lab_client.protocol.retry import Attempts, Reconnect, Timeouts


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_delays_grow_up_to_a_bound() -> None:
    attempts = Attempts(True, 1000, 1000, Clock())
    delays = [attempts.delay_before_retry(errors.Unavailable("x")) for _ in range(12)]
    assert delays[0] < 0.1
    assert 1.4 < max(delays) < 2.6


def test_a_call_is_given_up_when_its_time_for_retries_is_over() -> None:
    clock = Clock()
    attempts = Attempts(True, 30, 5, clock)
    clock.now_s = 4.99
    with pytest.raises(errors.Unavailable):
        [attempts.delay_before_retry(errors.Unavailable("x")) for _ in range(10)]
    clock.now_s = 29.0
    assert attempts.timeout_s() == pytest.approx(1.0)


def test_what_is_not_safe_is_not_repeated() -> None:
    with pytest.raises(errors.Unavailable):
        Attempts(False, 30, 5, Clock()).delay_before_retry(errors.Unavailable("x"))
    with pytest.raises(errors.QueueFull):
        Attempts(True, 30, 5, Clock()).delay_before_retry(errors.QueueFull("x"))


def test_a_stream_gives_up_by_the_time_without_progress_and_not_by_the_number_of_tries() -> None:
    clock = Clock()
    reconnect = Reconnect("watching run r", Timeouts(reconnect_timeout_s=60), None, clock)
    for _ in range(100):
        clock.now_s += 50
        reconnect.progressed()
        clock.now_s += 50
        reconnect.delay_before_reconnect(errors.Unavailable("cut"))
    clock.now_s += 10
    with pytest.raises(errors.Unavailable, match=r"watching run r: gave up after 60 s.*cut"):
        reconnect.delay_before_reconnect(errors.Unavailable("cut"))


def test_a_stream_with_infinite_patience_never_gives_up() -> None:
    clock = Clock()
    reconnect = Reconnect("x", Timeouts(reconnect_timeout_s=float("inf")), None, clock)
    clock.now_s = 1e9
    assert reconnect.delay_before_reconnect(None) < 3


def test_a_stream_with_a_bound_never_waits_past_it() -> None:
    clock = Clock()
    reconnect = Reconnect("waiting", Timeouts(), 10, clock)
    assert reconnect.call_timeout_s() == 10
    clock.now_s = 9.999
    assert reconnect.delay_before_reconnect(None) <= 0.0011
    clock.now_s = 10
    with pytest.raises(errors.DeadlineExceeded, match="waiting did not end within 10 s"):
        reconnect.call_timeout_s()


def test_after_progress_the_delays_begin_again_with_the_shortest() -> None:
    clock = Clock()
    reconnect = Reconnect("x", Timeouts(), None, clock)
    delays = [reconnect.delay_before_reconnect(errors.Unavailable("cut")) for _ in range(10)]
    assert delays[-1] > 1.4
    reconnect.progressed()
    assert reconnect.delay_before_reconnect(errors.Unavailable("cut")) < 0.1


def test_the_time_without_an_answer_counts_from_the_first_failure_and_not_from_idling() -> None:
    clock, told = Clock(), list[float]()
    reconnect = Reconnect("x", Timeouts(), None, clock, told.append)
    clock.now_s = 50  # quiet: there was nothing to say
    reconnect.delay_before_reconnect(errors.Unavailable("cut"))
    clock.now_s = 57
    reconnect.delay_before_reconnect(errors.Unavailable("cut"))
    reconnect.progressed()
    reconnect.progressed()
    clock.now_s = 100
    reconnect.delay_before_reconnect(errors.Unavailable("cut"))
    assert told == [0, 7, 0, 0]
