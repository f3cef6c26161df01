"""The speed of a run, as its trainer tells it."""

from __future__ import annotations

import os
import signal

import pytest

from lab_server.supervisor import attempt
from lab_server.trainer.speed import Speed
from tests.runs.rig import Rig


def test_the_speed_is_that_of_the_last_readings() -> None:
    speed = Speed(0.0, 0)
    assert [speed.read(now, 10 * now) for now in range(1, 4)] == [10.0, 10.0, 10.0]
    slower = [speed.read(3 + seconds, 30 + seconds) for seconds in range(1, 7)]
    assert slower == sorted(slower, reverse=True)
    assert slower[-1] == 1.0


def test_steps_before_the_start_are_not_counted() -> None:
    speed = Speed(100.0, 5000)
    assert speed.read(101.0, 5024) == 24.0


def test_the_time_until_the_first_step_is_not_counted() -> None:
    speed = Speed(0.0, 5000)
    assert speed.read(30.0, 5000) == 0.0
    assert speed.read(31.0, 5024) == 24.0


def test_a_run_that_goes_on_at_once_has_a_speed_with_its_first_reading() -> None:
    assert Speed(0.0, 0).read(0.5, 10) == 20.0
    assert Speed(0.0, 0).read(0.0, 10) == 0.0


def test_a_run_that_hangs_has_no_speed_after_some_seconds() -> None:
    speed = Speed(0.0, 0)
    assert [speed.read(now, 10 * now) for now in range(1, 4)] == [10.0, 10.0, 10.0]
    assert [speed.read(now, 30) for now in range(9, 12)] == [0.0, 0.0, 0.0]


def test_a_run_of_slow_steps_keeps_its_speed_between_them() -> None:
    speed = Speed(0.0, 0)
    readings = [speed.read(now, now // 60) for now in range(1, 300)]
    assert min(readings[120:]) > 1 / 130
    assert max(readings[120:]) <= 1 / 59
    assert speed.read(60 * 10, 4) == 0.0


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
async def test_a_trainer_that_hangs_as_a_whole_has_no_speed_until_it_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_SILENCE_S", 0.1)
    monkeypatch.setattr(attempt, "_SILENT_STEPS", 0.0)
    run = await rig.until(await rig.start(is_endless=True), lambda now: now.process is not None)
    assert run.process is not None
    await rig.until(run, lambda now: now.steps_per_second > 0)
    os.kill(run.process.pid, signal.SIGSTOP)
    await rig.until(run, lambda now: now.steps_per_second == 0)
    os.kill(run.process.pid, signal.SIGCONT)
    await rig.until(run, lambda now: now.steps_per_second > 0)
    await rig.supervisor.stop(run.id, checkpoint=False)
    await rig.ended(run)
    assert [p for p in await rig.kinds(run, "progress") if p.steps_per_second == 0]
