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


@pytest.mark.parametrize(("end", "jitter"), [("low", 0.75), ("high", 1.25)])
def test_the_delays_double_within_their_jitter(
    end: str, jitter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low if end == "low" else high)
    attempts = Attempts(True, 1000, 1000, Clock())
    delays = [attempts.delay_before_retry(errors.Unavailable("x")) / jitter for _ in range(8)]
    assert delays == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


def test_a_try_or_a_stream_may_begin_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)
    cut = errors.Unavailable("cut")
    attempts = Attempts(True, 30, 0.05, Clock())
    assert attempts.delay_before_retry(cut) == 0.05
    with pytest.raises(errors.Unavailable):
        attempts.delay_before_retry(cut)
    reconnect = Reconnect("x", Timeouts(reconnect_timeout_s=0.05), None, Clock())
    assert reconnect.delay_before_reconnect(cut) == 0.05
    with pytest.raises(errors.Unavailable):
        reconnect.delay_before_reconnect(cut)


def test_a_try_after_the_end_has_a_millisecond() -> None:
    clock = Clock()
    attempts = Attempts(True, 30, 5, clock)
    clock.now_s = 31
    assert attempts.timeout_s() == 0.001


def test_a_stream_that_has_some_time_left_uses_it_and_one_past_its_end_has_none() -> None:
    clock = Clock()
    reconnect = Reconnect("waiting", Timeouts(), 10, clock)
    clock.now_s = 9.5
    assert reconnect.call_timeout_s() == 0.5
    clock.now_s = 10.5
    assert reconnect.delay_before_reconnect(None) == 0
    with pytest.raises(errors.DeadlineExceeded):
        reconnect.call_timeout_s()


def test_a_stream_that_the_server_ends_early_says_so_when_given_up() -> None:
    clock = Clock()
    reconnect = Reconnect("x", Timeouts(reconnect_timeout_s=60), None, clock)
    clock.now_s = 60
    with pytest.raises(errors.Unavailable, match="ended the stream too early"):
        reconnect.delay_before_reconnect(None)


def test_a_client_waits_as_long_as_is_documented_unless_told_otherwise() -> None:
    assert Timeouts() == Timeouts(
        timeout_s=30,
        retry_timeout_s=5,
        reconnect_timeout_s=120,
        idle_timeout_s=60,
        stream_s=3600,
    )
