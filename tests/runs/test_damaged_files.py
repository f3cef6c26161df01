"""Files are damaged, disks full and stores away: the log has no gap, and only what must fail does, with the reason."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest

from lab_server.errors import StoreError
from lab_server.model.run import Run, RunState
from lab_server.supervisor import attempt, live_runs
from tests.runs.rig import Gate, Rig
from tests.runs.twins import Undisturbed, assert_same, resumes

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
