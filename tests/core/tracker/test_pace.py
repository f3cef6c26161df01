"""When the next write is due: at once after a pause, ever later while records come fast."""

from __future__ import annotations

from lab_core.tracker.pace import Pace


def waits(pace: Pace, num: int, step_s: float) -> list[float]:
    """Return what was waited before each of so many writes, with a record every step_s seconds."""
    now, found = 100.0, []
    for _ in range(num):
        wait_s = pace.wait_s(now)
        found.append(round(wait_s, 3))
        now += wait_s
        pace.written(now)
        now += step_s
    return found


def test_the_first_record_is_written_at_once() -> None:
    assert Pace(0.2).wait_s(0.0) == 0.0


def test_the_interval_doubles_up_to_the_longest_while_records_come_fast() -> None:
    assert waits(Pace(0.2), 8, step_s=0.0) == [0, 0.02, 0.04, 0.08, 0.16, 0.2, 0.2, 0.2]


def test_records_slower_than_the_longest_interval_never_wait() -> None:
    assert waits(Pace(0.2), 20, step_s=0.25) == [0.0] * 20


def test_records_somewhat_faster_share_a_write() -> None:
    # 20 steps a second: the writes come to a fifth of a second, not one a step
    assert waits(Pace(0.2), 20, step_s=0.05)[-1] == 0.15


def test_after_a_pause_it_begins_anew() -> None:
    pace = Pace(0.2)
    waits(pace, 10, step_s=0.0)
    assert pace.wait_s(200.0) == 0.0
    pace.written(200.0)
    assert round(pace.wait_s(200.0), 3) == 0.02


def test_the_longest_interval_may_be_shorter_than_the_first() -> None:
    assert waits(Pace(0.005), 4, step_s=0.0) == [0, 0.005, 0.005, 0.005]


def test_a_pause_is_longer_than_a_second() -> None:
    pace = Pace(5.0)
    for now, wait_s in [(0.0, 0.02), (1.0, 0.04), (2.5, 0.02)]:
        pace.written(now)
        assert round(pace.wait_s(now), 3) == wait_s
