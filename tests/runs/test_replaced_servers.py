"""A server dies, here a supervisor that is replaced by the next one: that one goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import Any

import pytest

from lab_server.model.run import RunOptions, RunState
from tests.runs.rig import Gate, Rig, becomes_true
from tests.runs.twins import Undisturbed, assert_same, resumes

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_next_server_takes_over_a_trainer_that_lives(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    await rig.restart()
    gate.open()
    run = await rig.ended(run)
    assert run.attempt == 1
    await assert_same(rig, run, undisturbed)


async def test_the_next_server_reads_what_was_written_while_there_was_none(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.close()
    gate.open()
    await rig.executor.wait(process)
    await rig.open()
    run = await rig.ended(run)
    assert run.attempt == 1
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_the_next_server_tries_again_what_died_while_there_was_none(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.close()
    await rig.executor.kill(process, grace_s=0)
    gate.open()
    await rig.open()
    run = await rig.ended(run)
    assert (run.attempt, run.num_retries) == (2, 1)
    assert await resumes(rig, run) == [30]
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_reused_pid_is_not_taken_for_the_trainer(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.close()
    await rig.executor.kill(process, grace_s=0)
    gate.open()
    # as if this very process had got the pid
    pid_file = rig.folder(run).pid_file(1)
    content = json.loads(pid_file.read_text())
    pid_file.write_text(json.dumps({**content, "pid": os.getpid()}))
    await rig.open()
    run = await rig.ended(run)
    assert run.attempt == 2
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_power_loss_is_survived(rig: Rig, undisturbed: Undisturbed, gate: Gate) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    await rig.until(run, lambda now: now.step == 34)
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.close()
    await rig.executor.kill(process, grace_s=0)
    gate.open()
    # the spool had not reached the disk, and pids begin anew
    rig.folder(run).spool(1).unlink()
    pid_file = rig.folder(run).pid_file(1)
    pid_file.write_text(json.dumps({**json.loads(pid_file.read_text()), "boot_id": "another"}))
    await rig.open()
    run = await rig.ended(run)
    assert run.attempt == 2
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_server_on_a_copy_leaves_the_originals_trainer_alone(
    rig: Rig, undisturbed: Undisturbed, gate: Gate, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    await rig.until(run, lambda now: now.step == 34)
    copy = tmp_path_factory.mktemp("restored") / "home"
    shutil.copytree(rig.home, copy)
    gate.open()
    restored = Rig(copy, rig.executor)
    await restored.open()
    try:
        again = await restored.ended(run)
        assert again.attempt == 2
        await assert_same(restored, again, undisturbed)
    finally:
        await restored.end()
    run = await rig.ended(run)
    assert run.attempt == 1
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_many_servers_one_after_the_other_lose_nothing(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    run = await rig.start()
    for seq in range(5, 30, 5):
        await rig.reaches_seq(run, seq)
        await rig.restart()
    run = await rig.ended(run)
    assert run.attempt == 1
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_server_that_dies_before_its_trainer_starts_is_replaced(
    rig: Rig, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rig.executor.launch

    async def never(spec: object) -> None:
        await asyncio.Event().wait()

    rig.executor.launch = never
    run = await rig.start()
    await rig.reaches(run, RunState.STARTING)
    await rig.close()
    rig.executor.launch = real
    await rig.open()
    run = await rig.ended(run)
    assert run.attempt == 1
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_server_that_dies_right_after_the_launch_adopts_that_trainer(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    real = rig.executor.launch
    launched = []

    async def launch_and_die(spec: Any) -> None:
        launched.append(await real(spec))
        await asyncio.Event().wait()

    rig.executor.launch = launch_and_die
    run = await rig.start()
    await becomes_true(lambda: bool(launched))
    await rig.close()
    rig.executor.launch = real
    await rig.open()
    assert (await rig.supervisor.get(run.id)).attempt == 1
    run = await rig.ended(run)
    assert run.attempt == 1
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_waiting_runs_keep_their_order(rig: Rig) -> None:
    busy = [await rig.start(is_endless=True) for _ in range(2)]
    waiting = [
        await rig.start(options=RunOptions(priority=priority)) for priority in (0, 5, 0, -1, 5)
    ]
    before = [rig.supervisor.queue_position(run.id) for run in waiting]
    assert before == [3, 1, 4, 5, 2]
    await rig.restart()
    assert [rig.supervisor.queue_position(run.id) for run in waiting] == before
    for run in busy:
        await rig.supervisor.stop(run.id, checkpoint=False)
    ended = [await rig.ended(run) for run in waiting]
    starts = sorted(ended, key=lambda run: run.start_time_ns)
    assert {run.id for run in starts[:2]} == {waiting[1].id, waiting[4].id}
    assert starts[-1].id == waiting[3].id
