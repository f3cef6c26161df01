"""A run that is paused at a step and resumed is the run that nobody paused."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from lab_server.errors import AlreadyExists, InvalidState
from lab_server.model.run import RunState
from tests.runs.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.slow
async def test_a_run_ends_exactly_at_the_step_with_a_checkpoint(rig: Rig) -> None:
    run = await rig.create()
    run = await rig.ended(await rig.supervisor.start(run.id, until_step=23))
    assert run.state is RunState.STOPPED
    assert (run.step, run.checkpoint_step, run.total_steps) == (23, 23, 60)
    assert run.reason == "paused at step 23, as asked"
    assert run.is_paused
    assert max(step for _, step in await rig.points(run)) == 23


@pytest.mark.slow
async def test_a_run_paused_at_many_steps_is_the_run_that_nobody_paused(rig: Rig) -> None:
    twin = await rig.start()
    run = await rig.create()
    for until_step in (1, 10, 23, 24, 59):
        resume = until_step > 1
        run = await rig.supervisor.start(run.id, resume=resume, until_step=until_step)
        run = await rig.ended(run)
        assert (run.step, run.is_paused) == (until_step, True)
    run = await rig.ended(await rig.supervisor.start(run.id, resume=True))
    twin = await rig.ended(twin)
    assert run.state is RunState.COMPLETED
    assert not run.is_paused
    assert await rig.points(run) == await rig.points(twin)
    assert rig.recorded(run) == rig.recorded(twin)
    assert rig.weights(run, 60) == rig.weights(twin, 60)


@pytest.mark.slow
async def test_a_run_that_ends_at_the_step_or_before_completes(rig: Rig) -> None:
    runs = [await rig.create() for _ in range(2)]
    for run, until_step in zip(runs, (60, 1000), strict=True):
        await rig.supervisor.start(run.id, until_step=until_step)
    ended = await asyncio.gather(*map(rig.ended, runs))
    assert [run.state for run in ended] == [RunState.COMPLETED] * 2
    assert not any(run.is_paused for run in ended)


@pytest.mark.slow
async def test_a_trainer_that_dies_on_the_way_is_retried_up_to_the_same_step(rig: Rig) -> None:
    run = await rig.create(kill_at=[15])
    run = await rig.ended(await rig.supervisor.start(run.id, until_step=23))
    assert (run.step, run.attempt, run.is_paused) == (23, 2, True)


async def test_a_stop_on_the_way_is_no_pause(rig: Rig) -> None:
    run = await rig.create(is_endless=True, loop_count=10**6)
    run = await rig.supervisor.start(run.id, until_step=10**5)
    await rig.until(run, lambda now: now.step > 0)
    await rig.supervisor.stop(run.id, checkpoint=True)
    run = await rig.ended(run)
    assert run.state is RunState.STOPPED
    assert run.reason == "stopped on request"
    assert not run.is_paused


@pytest.mark.slow
async def test_a_run_cannot_be_resumed_up_to_a_step_that_it_has_passed(rig: Rig) -> None:
    run = await rig.create()
    run = await rig.ended(await rig.supervisor.start(run.id, until_step=23))
    with pytest.raises(InvalidState, match="is at step 23 already: until_step must be later"):
        await rig.supervisor.start(run.id, resume=True, until_step=23)
    assert (await rig.supervisor.get(run.id)).is_paused


@pytest.mark.slow
async def test_a_key_with_another_step_is_refused(rig: Rig) -> None:
    run = await rig.create()
    started = await rig.supervisor.start(run.id, until_step=23, key="k")
    assert (await rig.supervisor.start(run.id, until_step=23, key="k")).id == started.id
    with pytest.raises(AlreadyExists):
        await rig.supervisor.start(run.id, until_step=24, key="k")
    await rig.ended(run)


@pytest.mark.slow
async def test_a_full_disk_at_the_step_fails_the_run_and_says_so(rig: Rig) -> None:
    # a checkpoint of the toy has more than so many bytes, its spool fewer
    run = await rig.create(checkpoint_interval=None, file_limit=3000)
    run = await rig.ended(await rig.supervisor.start(run.id, until_step=2))
    assert run.state is RunState.FAILED
    assert os.strerror(errno.EFBIG) in run.reason
    assert not run.is_paused
