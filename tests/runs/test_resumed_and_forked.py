"""A run is stopped and resumed, or forked: it ends as if it had not been."""

from __future__ import annotations

import pytest

from lab_server.model.run import RunParent, RunState
from tests.runs.rig import Gate, Rig
from tests.runs.twins import STEPS, Undisturbed, assert_same, resumes

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
