"""Stopping: at a step boundary when the run can, by signals when it cannot, and nothing outlives it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from lab_server.errors import InvalidState
from lab_server.model.run import Run, RunState
from lab_server.processes import proc
from tests.runs.rig import Gate, Rig, becomes_true, is_gone

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.slow
async def test_a_stop_with_a_checkpoint_leaves_one_at_the_last_step(rig: Rig) -> None:
    run = await rig.start(is_endless=True)
    await rig.until(run, lambda now: now.step > 0)
    await rig.supervisor.stop(run.id, checkpoint=True)
    run = await rig.ended(run)
    assert run.state is RunState.STOPPED
    assert run.step == run.checkpoint_step
    assert (await rig.states(run))[-3:] == ["RUNNING", "STOPPING", "STOPPED"]


@pytest.mark.slow
async def test_a_stop_without_a_checkpoint_leaves_none(rig: Rig) -> None:
    run = await rig.start(is_endless=True, checkpoint_interval=10**9)
    await rig.until(run, lambda now: now.step > 0)
    await rig.supervisor.stop(run.id, checkpoint=False)
    run = await rig.ended(run)
    assert (run.state, run.checkpoint_step) == (RunState.STOPPED, None)
    assert await rig.kinds(run, "checkpoint") == []


async def test_a_run_can_be_stopped_before_it_has_begun_to_train(rig: Rig) -> None:
    run = await rig.start(is_endless=True)
    await rig.reaches(run, RunState.STARTING, RunState.RUNNING)
    await rig.supervisor.stop(run.id, checkpoint=True)
    assert (await rig.ended(run)).state is RunState.STOPPED


async def test_a_run_that_waits_is_cancelled_at_once(make_rig: Callable[..., Any]) -> None:
    rig: Rig = await make_rig(num_slots=1)
    await rig.start(is_endless=True)
    run = await rig.start()
    stopped = await rig.supervisor.stop(run.id, checkpoint=True)
    assert (stopped.state, stopped.attempt) == (RunState.STOPPED, 0)
    assert stopped.reason == "stopped on request while it was queued"
    assert rig.supervisor.queue_length() == 0
    again = await rig.supervisor.start(run.id, resume=True)
    assert again.state is RunState.QUEUED


async def test_a_created_run_is_cancelled_at_once(rig: Rig) -> None:
    run = await rig.create()
    run = await rig.supervisor.stop(run.id, checkpoint=True)
    assert run.state is RunState.STOPPED
    assert run.reason == "stopped on request before it was started"
    with pytest.raises(InvalidState, match="resume it"):
        await rig.supervisor.start(run.id)


async def test_a_deaf_trainer_is_killed_when_its_time_is_over(rig: Rig, gate: Gate) -> None:
    run = await rig.start(deaf_at=7, gate=gate.path)
    await gate.reached()
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.supervisor.stop(run.id, checkpoint=True, grace_s=0.1)
    run = await rig.ended(run)
    assert run.state is RunState.STOPPED
    assert run.reason == "stopped on request; it did not stop in time"
    assert is_gone(process.pid)
    assert ("loss", 7) in await rig.points(run)


@pytest.mark.slow
async def test_a_second_stop_may_be_less_patient(rig: Rig, gate: Gate) -> None:
    run = await rig.start(deaf_at=7, gate=gate.path)
    await gate.reached()
    await rig.supervisor.stop(run.id, checkpoint=True, grace_s=10_000)
    await rig.supervisor.stop(run.id, checkpoint=True, grace_s=0)
    assert (await rig.ended(run)).state is RunState.STOPPED


@pytest.mark.slow
async def test_a_second_stop_is_not_sent_again(rig: Rig, gate: Gate) -> None:
    run = await rig.start(deaf_at=7, gate=gate.path)
    await gate.reached()
    for _ in range(3):
        await rig.supervisor.stop(run.id, checkpoint=True, grace_s=10_000)
    assert rig.folder(run).control.read_text().count("\n") == 1
    assert (await rig.states(run)).count("STOPPING") == 1
    await rig.supervisor.stop(run.id, checkpoint=True, grace_s=0)
    await rig.ended(run)


@pytest.mark.slow
async def test_a_resume_forgets_that_the_run_was_asked_to_stop(rig: Rig) -> None:
    run = await rig.start(is_endless=True)
    await rig.until(run, lambda now: now.step > 0)
    await rig.supervisor.stop(run.id, checkpoint=True)
    assert (await rig.ended(run)).is_stop_requested
    run = await rig.supervisor.start(run.id, resume=True)
    assert not run.is_stop_requested
    run = await rig.reaches(run, RunState.RUNNING)
    await rig.supervisor.stop(run.id, checkpoint=True)
    assert (await rig.states(await rig.ended(run)))[-3:] == ["RUNNING", "STOPPING", "STOPPED"]


@pytest.mark.parametrize("kind", ["exec", "fork", "daemon"])
async def test_no_child_outlives_a_stopped_run(rig: Rig, gate: Gate, kind: str) -> None:
    run = await rig.start(children=[kind], wait_at=7, gate=gate.path)
    child = await _child(rig, run)
    gate.open()
    await rig.supervisor.stop(run.id, checkpoint=False)
    await rig.ended(run)
    assert is_gone(child)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exec", "fork", "daemon"])
async def test_no_child_outlives_a_run_that_ends(rig: Rig, gate: Gate, kind: str) -> None:
    run = await rig.start(children=[kind], wait_at=7, gate=gate.path)
    child = await _child(rig, run)
    gate.open()
    assert (await rig.ended(run)).state is RunState.COMPLETED
    assert is_gone(child)


@pytest.mark.parametrize("kind", ["exec", "fork", "daemon"])
async def test_no_child_outlives_a_trainer_that_was_killed(rig: Rig, gate: Gate, kind: str) -> None:
    run = await rig.start(children=[kind], wait_at=7, gate=gate.path)
    child = await _child(rig, run)
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    await rig.until(run, lambda now: now.attempt == 2)
    assert is_gone(child)


async def test_children_that_outlived_trainer_and_server_are_ended_by_the_next_server(
    rig: Rig, gate: Gate
) -> None:
    run = await rig.start(children=["exec", "daemon"], wait_at=7, gate=gate.path)
    child = await _child(rig, run)
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.close()
    os.kill(process.pid, signal.SIGKILL)
    await becomes_true(lambda: not proc.is_alive(process))
    assert not is_gone(child)
    await rig.open()
    await rig.until(run, lambda now: now.attempt == 2)
    assert is_gone(child)


async def _child(rig: Rig, run: Run) -> int:
    """Return the pid of a run's first child when it has told it."""
    await becomes_true(lambda: bool(_children(rig, run)))
    await rig.until(run, lambda now: now.process is not None)
    return _children(rig, run)[0]


def _children(rig: Rig, run: Run) -> list[int]:
    log = rig.folder(run).log
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("child ")]


@pytest.mark.slow
async def test_what_was_printed_last_stands_before_the_end(rig: Rig) -> None:
    run = await rig.ended(await rig.start(raise_at=50))
    log = await rig.log(run)
    assert log[-1].kind == "state"
    assert "ValueError: this toy raises" in await rig.lines(run)


@pytest.mark.slow
async def test_a_server_that_stops_its_trainers_lets_the_next_one_go_on(rig: Rig) -> None:
    run = await rig.start(is_endless=True)
    await rig.until(run, lambda now: now.step > 0)
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.supervisor.shut_down(stop_trainers=True)
    assert is_gone(process.pid)
    left = await rig.store.get(run.id)
    assert (left.state, left.num_retries) == (RunState.QUEUED, 0)
    assert left.checkpoint_step == left.step
    await rig.restart()
    now = await rig.until(run, lambda now: now.step > left.step)
    assert now.attempt == 2


async def test_a_server_that_stops_its_trainers_starts_no_other_one_meanwhile(
    rig: Rig, gate: Gate
) -> None:
    busy = await rig.start(deaf_at=7, gate=gate.path)
    await gate.reached()
    run = await rig.create(is_endless=True)
    async with rig.supervisor._live_runs.lock(run.id):  # its start waits here
        queued = dataclasses.replace(run, queue_key=1)
        queued = await rig.supervisor._live_runs.change_state(queued, RunState.QUEUED)
        rig.supervisor._runner.enqueue(queued)
        ending = asyncio.create_task(rig.supervisor.shut_down(stop_trainers=True))
        await asyncio.sleep(0)
    await ending
    left = await rig.store.get(run.id)
    assert (left.state, left.process, left.attempt) == (RunState.QUEUED, None, 0)
    assert (await rig.store.get(busy.id)).process is None


async def test_a_stop_that_its_server_did_not_outlive_still_counts(rig: Rig, gate: Gate) -> None:
    run = await rig.start(stop_at=7, gate=gate.path)
    await gate.reached()
    stop = asyncio.create_task(rig.supervisor.stop(run.id, checkpoint=True))
    await rig.reaches(run, RunState.STOPPING, RunState.STOPPED)
    await stop
    await rig.restart()
    run = await rig.ended(run)
    assert (run.state, run.step) == (RunState.STOPPED, 7)


async def test_a_stop_that_its_server_did_not_live_to_send_is_sent_by_the_next(rig: Rig) -> None:
    run = await rig.until(await rig.start(is_endless=True), lambda now: now.step > 0)
    live_runs = rig.supervisor._live_runs
    async with live_runs.lock(run.id):
        asked = dataclasses.replace(live_runs.current(run.id), is_stop_requested=True)
        await live_runs.change_state(asked, RunState.STOPPING, "stopped on request")
    await rig.restart()
    run = await rig.ended(run)
    assert (run.state, run.reason) == (RunState.STOPPED, "stopped on request")
    assert run.checkpoint_step == run.step
    assert rig.folder(run).was_sent(1, "stop")


async def test_a_stop_for_a_trainer_that_died_with_the_server_needs_no_retry(
    rig: Rig, gate: Gate
) -> None:
    run = await rig.start(deaf_at=7, gate=gate.path)
    await gate.reached()
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.supervisor.stop(run.id, checkpoint=True, grace_s=10_000)
    await rig.close()
    os.kill(process.pid, signal.SIGKILL)
    await rig.open()
    run = await rig.ended(run)
    assert (run.state, run.attempt) == (RunState.STOPPED, 1)
