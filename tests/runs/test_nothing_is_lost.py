"""Whatever dies, and whenever: the log has no gap, and the end is that of a run nobody disturbed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import threading
from typing import Any

import pytest
import pytest_asyncio

from lab_server.errors import StoreError
from lab_server.executors.last_rows import take_over
from lab_server.executors.local import LocalExecutor
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader
from lab_server.model.run import Run, RunOptions, RunParent, RunState
from lab_server.supervisor import attempt, live_runs
from tests.runs.rig import Gate, Points, Rig, becomes_true, is_gone

pytestmark = pytest.mark.asyncio(loop_scope="session")

STEPS = 60


class Undisturbed:
    """How a run ends that nobody disturbs."""

    points: Points
    weights: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def undisturbed(
    executor: LocalExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    """The twin of the runs that the tests disturb."""
    rig = Rig(tmp_path_factory.mktemp("twin"), executor)
    await rig.open()
    twin = Undisturbed()
    run = await rig.ended(await rig.start())
    twin.points, twin.weights = await rig.points(run), rig.weights(run, STEPS)
    await rig.end()
    return twin


async def assert_same(rig: Rig, run: Run, twin: Undisturbed) -> None:
    """Hold a run's log, its sqlite.db and its weights against those of its twin."""
    assert run.state is RunState.COMPLETED, run.reason
    assert await rig.points(run) == twin.points
    assert rig.recorded(run) == twin.points
    series = {
        name: [v for (n, _), v in twin.points.items() if n == name] for name, _ in twin.points
    }
    assert run.extremes == {name: (min(values), max(values)) for name, values in series.items()}
    assert not run.has_stale_extremes
    assert rig.weights(run, STEPS) == twin.weights


async def resumes(rig: Rig, run: Run) -> list[int]:
    """Return the steps of the checkpoints that a run went on from; -1 for one that began anew."""
    truncates = await rig.kinds(run, "truncate")
    return [t.checkpoint_step if t.HasField("checkpoint_step") else -1 for t in truncates]


# ---- the trainer dies


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


# ---- the server dies; here it is a supervisor that is replaced by the next one


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


# ---- files are damaged


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0.0, 0.1, 0.5, 0.9, 1.0])
async def test_a_spool_cut_at_any_byte_costs_nothing_in_the_end(
    rig: Rig, undisturbed: Undisturbed, gate: Gate, cut: float
) -> None:
    run = await _dead_with_unread_spool(rig, gate)
    spool = rig.folder(run).spool(1)
    os.truncate(spool, int(cut * spool.stat().st_size))
    await rig.open()
    run = await rig.ended(run)
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.05, 0.5, 0.999])
async def test_a_flipped_bit_in_the_spool_costs_nothing_in_the_end(
    rig: Rig, undisturbed: Undisturbed, gate: Gate, place: float
) -> None:
    run = await _dead_with_unread_spool(rig, gate)
    spool = rig.folder(run).spool(1)
    data = bytearray(spool.read_bytes())
    data[int(place * len(data))] ^= 4
    spool.write_bytes(data)
    await rig.open()
    run = await rig.ended(run)
    await assert_same(rig, run, undisturbed)


async def _dead_with_unread_spool(rig: Rig, gate: Gate) -> Run:
    """Return a run whose server died soon after the start, and whose trainer died later."""
    run = await rig.start(wait_at=47, gate=gate.path)
    await rig.until(run, lambda now: now.process is not None)
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.close()
    await gate.reached()
    await rig.executor.kill(process, grace_s=0)
    gate.open()
    return run


@pytest.mark.slow
async def test_a_damaged_spool_of_a_trainer_that_lives_gets_it_tried_again(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=34, gate=gate.path)
    await gate.reached()
    await rig.until(run, lambda now: now.step == 34)
    with rig.folder(run).spool(1).open("ab") as file:
        file.write(b"\xff" * 100)
    gate.open()
    run = await rig.ended(run)
    assert run.attempt == 2
    reasons = [state.reason for state in await rig.kinds(run, "state")]
    assert any("its spool file is damaged" in reason for reason in reasons)
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_damaged_checkpoint_is_passed_over_and_told_of(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=47, gate=gate.path)
    await gate.reached()
    await rig.until(run, lambda now: now.checkpoint_step == 40)
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    model = rig.folder(run).checkpoints / "40" / "model.pt"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    os.kill(process.pid, signal.SIGKILL)
    gate.open()
    run = await rig.ended(run)
    assert await resumes(rig, run) == [30]
    (damaged,) = [c for c in await rig.kinds(run, "checkpoint") if c.damage]
    assert damaged.step == 40
    assert "model.pt is not as it was written" in damaged.damage
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_without_any_good_checkpoint_the_run_begins_anew(
    rig: Rig, undisturbed: Undisturbed, gate: Gate
) -> None:
    run = await rig.start(wait_at=25, gate=gate.path)
    await gate.reached()
    await rig.until(run, lambda now: now.checkpoint_step == 20)
    for manifest in rig.folder(run).checkpoints.glob("*/manifest.json"):
        manifest.write_text("{")
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    gate.open()
    run = await rig.ended(run)
    assert await resumes(rig, run) == [-1]
    assert sorted(c.step for c in await rig.kinds(run, "checkpoint") if c.damage) == [10, 20]
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_full_disk_fails_its_run_with_the_reason(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    good, bad = await rig.start(), await rig.start(disk_full_at=25)
    bad = await rig.ended(bad)
    assert (bad.state, bad.attempt) == (RunState.FAILED, 1)
    assert bad.reason == "its events could not be written: No space left on device"
    points = await rig.points(bad)
    assert points == {at: v for at, v in undisturbed.points.items() if at in points}
    await assert_same(rig, await rig.ended(good), undisturbed)
    # and when there is room again, it goes on
    await rig.supervisor.start(bad.id, resume=True)


@pytest.mark.slow
async def test_a_disk_that_is_really_full_fails_its_run_only(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    good, bad = await rig.create(), await rig.create(loop_count=1_000_000)
    folder = rig.folder(bad).path
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:  # noqa: ASYNC221
        pytest.skip("only who may mount a file system can fill one")
    try:
        await rig.supervisor.start(bad.id)
        await rig.supervisor.start(good.id)
        bad = await rig.ended(bad)
        assert (bad.state, bad.attempt) == (RunState.FAILED, 1)
        assert "No space left on device" in bad.reason
        await assert_same(rig, await rig.ended(good), undisturbed)
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: ASYNC221


@pytest.mark.slow
@pytest.mark.parametrize("first_refused", [2, 3, 4, 5, 6])
async def test_a_store_that_refuses_for_a_while_loses_nothing(
    rig: Rig, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch, first_refused: int
) -> None:
    monkeypatch.setattr(attempt, "_STORE_RETRY_S", 0.01)
    monkeypatch.setattr(live_runs, "_RETRY_S", 0.01)
    run = await rig.create()
    real = rig.store.commit
    num_calls = 0

    async def refuse_some(*arguments: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        if first_refused <= num_calls < first_refused + 5:
            raise StoreError("the disk is full")
        return await real(*arguments)

    monkeypatch.setattr(rig.store, "commit", refuse_some)
    await rig.supervisor.start(run.id)
    run = await rig.ended(run)
    assert num_calls > first_refused
    assert run.attempt == 1
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_start_that_the_store_refuses_can_be_asked_for_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.create()

    async def refuse(*arguments: Any) -> Any:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "commit", refuse)
        with pytest.raises(StoreError):
            await rig.supervisor.start(run.id)
    assert (await rig.supervisor.get(run.id)).state is RunState.CREATED
    await rig.supervisor.start(run.id)
    assert (await rig.ended(run)).state is RunState.COMPLETED


@pytest.mark.slow
async def test_files_that_cannot_grow_fail_their_run_only(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    good, bad = await rig.start(), await rig.start(file_limit=6000, loop_count=100_000)
    bad = await rig.ended(bad)
    assert (bad.state, bad.attempt) == (RunState.FAILED, 1)
    assert bad.reason
    await assert_same(rig, await rig.ended(good), undisturbed)


# ---- a run is stopped and resumed, or forked


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 20, 34, 59])
async def test_a_stopped_run_resumed_ends_as_if_it_had_not_been_stopped(
    rig: Rig, undisturbed: Undisturbed, gate: Gate, step: int
) -> None:
    run = await rig.start(stop_at=step, gate=gate.path)
    await gate.reached()
    stopping = await rig.supervisor.stop(run.id, checkpoint=True)
    assert stopping.state is RunState.STOPPING
    run = await rig.ended(run)
    assert (run.state, run.reason) == (RunState.STOPPED, "stopped on request")
    assert run.step == run.checkpoint_step == step
    await rig.supervisor.start(run.id, resume=True)
    run = await rig.ended(run)
    assert (run.attempt, run.num_retries, run.has_resumed) == (2, 0, True)
    assert await resumes(rig, run) == [step]
    await assert_same(rig, run, undisturbed)


@pytest.mark.slow
async def test_a_fork_goes_on_from_the_checkpoint_of_another_run(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    parent = await rig.ended(await rig.start())
    fork = await rig.create(parent=RunParent(parent.id, 50))
    await rig.supervisor.delete(parent.id)  # its checkpoint is the fork's own by now
    await rig.supervisor.start(fork.id)
    fork = await rig.ended(fork)
    assert fork.request.parent == RunParent(parent.id, 50)
    created = (await rig.kinds(fork, "state"))[0]
    assert created.reason == f"forked from {parent.id} at step 50"
    assert await rig.points(fork) == {
        at: value for at, value in undisturbed.points.items() if at[1] > 50
    }
    assert rig.weights(fork, STEPS) == undisturbed.weights


@pytest.mark.slow
async def test_a_fork_that_dies_goes_on_from_where_it_began(
    rig: Rig, undisturbed: Undisturbed
) -> None:
    parent = await rig.ended(await rig.start())
    fork = await rig.create(parent=RunParent(parent.id, 40), kill_at=[44], test_at=40)
    await rig.supervisor.start(fork.id)
    fork = await rig.ended(fork)
    (truncate,) = await rig.kinds(fork, "truncate")
    # nothing counts of its own: it begins anew, at its parent's checkpoint
    assert (truncate.after_step, truncate.checkpoint_step) == (-1, 40)
    assert {step for _, step in await rig.points(fork)} == set(range(40, STEPS + 1))
    assert rig.weights(fork, STEPS) == undisturbed.weights
