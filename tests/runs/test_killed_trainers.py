"""A trainer dies, whenever: the log has no gap, and the end is that of a run nobody disturbed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from lab_server.executors.last_rows import take_over
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader
from lab_server.model.run import RunOptions, RunState
from tests.runs.rig import Gate, Rig, becomes_true, is_gone
from tests.runs.twins import STEPS, Undisturbed, assert_same, resumes

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 9, 10, 11, 34, 59, 60])
async def test_a_trainer_killed_at_any_step_ends_as_if_it_had_not_been(
    rig: Rig, undisturbed: Undisturbed, step: int
) -> None:
    run = await rig.ended(await rig.start(kill_at=[step]))
    assert (run.attempt, run.num_retries) == (2, 1)
    assert await rig.states(run) == [
        *("CREATED", "QUEUED", "STARTING", "RUNNING"),
        *("QUEUED", "STARTING", "RUNNING", "COMPLETED"),
    ]
    assert "last words" in await rig.lines(run)
    (at,) = await resumes(rig, run)
    assert at <= step
    assert at == -1 or at % 10 == 0
    await assert_same(rig, run, undisturbed)


async def test_what_is_measured_at_a_step_after_its_checkpoint_is_in_the_log_once(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    run = await rig.ended(await rig.start(test_at=20, kill_at=[21, 22]))
    assert (run.state, run.attempt) == (RunState.COMPLETED, 3)
    # a reader that drops what truncates tell it to has each value once
    assert await rig.points(run) == undisturbed.points | {("test", 20): 0.5}
    assert rig.recorded(run) == undisturbed.points | {("test", 20): 0.5}
    assert [t.after_step for t in await rig.kinds(run, "truncate")] == [19, 19]
    assert await resumes(rig, run) == [20, 20]


@pytest.mark.slow
@pytest.mark.parametrize("kill_by", ["SIGKILL", "_exit", "segfault"])
@pytest.mark.parametrize("step", [1, 25])
@pytest.mark.parametrize("is_second_batch_late", [False, True], ids=["soon", "late"])
async def test_what_was_saved_before_a_trainer_died_is_in_the_log(
    rig: Rig, undisturbed: Undisturbed, kill_by: str, step: int, is_second_batch_late: bool
) -> None:
    run = await rig.start(
        kill_at=[step],
        kill_by=kill_by,
        is_second_batch_late=is_second_batch_late,
        checkpoint_interval=STEPS,  # before one is taken, all batches are waited for
        options=RunOptions(max_retries=0),
    )
    run = await rig.ended(run)
    assert run.state is RunState.FAILED
    assert run.step == step
    saved = {at: value for at, value in undisturbed.points.items() if at[1] <= step}
    assert await rig.points(run) == saved
    assert run.metrics == {name: saved[name, step] for name in ("loss", "noise")}
    last_state, *_ = [e.kind for e in reversed(await rig.log(run))]
    assert last_state == "state", "nothing comes after the outcome"


async def test_what_was_saved_before_a_death_is_there_once_whoever_takes_it_over(
    make_rig: Any, rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(
        wait_at=24, gate=gate.path, kill_at=[25], is_second_batch_late=True,
        checkpoint_interval=STEPS, options=RunOptions(max_retries=0),
    )  # fmt: skip
    await gate.reached()
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.close()
    gate.open()
    await becomes_true(lambda: is_gone(process.pid))
    # as a server did that died before it had committed what it took over
    folder = rig.folder(run)
    with SpoolReader(folder.spool(1)) as spool:
        while spool.read():
            pass
        assert take_over(folder, 1, spool.offset) > 0
    await rig.open()
    run = await rig.ended(run)
    saved = {at: value for at, value in undisturbed.points.items() if at[1] <= 25}
    assert await rig.points(run) == saved


@pytest.mark.slow
async def test_a_resumed_run_goes_on_from_what_its_last_attempt_had_left(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    run = await rig.ended(await rig.start(kill_at=[27, 45], is_second_batch_late=True))
    assert await resumes(rig, run) == [20, 40]
    await assert_same(rig, run, undisturbed)


async def test_a_crash_of_c_code_leaves_its_traceback_in_the_log(rig: Rig) -> None:
    run = await rig.start(kill_at=[5], kill_by="segfault", options=RunOptions(max_retries=0))
    run = await rig.ended(run)
    assert "SIGSEGV" in run.reason
    lines = "\n".join(await rig.lines(run))
    assert "Fatal Python error: Segmentation fault" in lines
    assert "in train_step" in lines


@pytest.mark.slow
async def test_a_trainer_may_die_as_often_as_it_may_be_tried_again(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    run = await rig.ended(await rig.start(kill_at=[15, 25]))
    assert run.attempt == 3
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_run_without_a_checkpoint_begins_anew(rig: Rig, undisturbed: Undisturbed) -> None:
    run = await rig.ended(await rig.start(kill_at=[33], checkpoint_interval=STEPS))
    assert await resumes(rig, run) == [-1]
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_retries_used_up_fail_the_run_with_the_reason(rig: Rig) -> None:
    run = await rig.ended(await rig.start(kill_at=[5] * 9))
    assert (run.state, run.attempt) == (RunState.FAILED, 3)
    assert "the trainer of attempt 3 died: it was killed by SIGKILL" in run.reason
    assert run.reason.endswith("gave up after 3 attempts")


async def test_a_run_says_how_often_it_may_be_tried_again(rig: Rig) -> None:
    run = await rig.ended(await rig.start(kill_at=[5], options=RunOptions(max_retries=0)))
    assert (run.state, run.attempt) == (RunState.FAILED, 1)


@pytest.mark.slow
async def test_a_failed_run_can_be_resumed_with_all_its_retries(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    run = await rig.ended(await rig.start(kill_at=[15, 25], options=RunOptions(max_retries=0)))
    assert run.state is RunState.FAILED
    await rig.supervisor.start(run.id, resume=True)
    assert (await rig.ended(run)).state is RunState.FAILED
    await rig.supervisor.start(run.id, resume=True)
    run = await rig.ended(run)
    assert run.attempt == 3
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_trainer_that_hangs_is_ended_and_tried_again(
    make_rig: Any, rig: Rig, undisturbed: Undisturbed
) -> None:
    await rig.restart(stall_timeout_s=2.5)
    run = await rig.ended(await rig.start(hang_at=[25]))
    states = await rig.kinds(run, "state")
    assert any("made no progress for 2.5 s" in state.reason for state in states)
    assert await resumes(rig, run) == [20]
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_sigterm_to_a_trainer_saves_before_it_is_tried_again(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    os.kill(process.pid, signal.SIGTERM)
    gate.open()
    run = await rig.ended(run)
    assert await resumes(rig, run) == [34]
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_the_forkserver_killed_disturbs_no_run(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    os.kill(rig.executor.forkserver_pid, signal.SIGKILL)
    next_run = await rig.start()
    gate.open()
    run, next_run = await asyncio.gather(rig.ended(run), rig.ended(next_run))
    assert run.attempt == next_run.attempt == 1
    await assert_same(rig, run, undisturbed)
    await assert_same(rig, next_run, undisturbed)


async def test_what_is_left_of_an_ended_attempt_is_removed_late_and_the_next_ones_stays(
    rig: Rig, undisturbed: Undisturbed, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = RunFolder.clear_spool
    go_on, is_cleared = threading.Event(), threading.Event()

    def clear_late(*arguments: Any) -> None:
        go_on.wait()
        clear(*arguments)
        is_cleared.set()

    monkeypatch.setattr(RunFolder, "clear_spool", clear_late)
    run = await rig.start(
        kill_at=[25], wait_at=34, gate=gate.path, options=RunOptions(max_retries=0)
    )
    assert (await rig.ended(run)).state is RunState.FAILED
    await rig.supervisor.start(run.id, resume=True)
    await gate.reached()
    old, new = rig.folder(run).spool(1), rig.folder(run).spool(2)
    assert old.exists()
    go_on.set()
    await becomes_true(is_cleared.is_set)
    assert not old.exists()
    assert new.exists()
    assert rig.folder(run).tail(2).exists()
    gate.open()
    run = await rig.ended(run)
    await assert_same(rig, run, undisturbed)
