"""A run that is stopped and resumed while its turn has just come: one start is its own, the other lets go."""

from __future__ import annotations

from typing import Any

import pytest

from lab_server.errors import StoreError, Unavailable
from lab_server.model.run import Run, RunState
from lab_server.supervisor import Supervisor, live_runs, runner
from lab_server.supervisor.run_files import NoOtherHomes
from tests.runs.rig import Rig, becomes_true

pytestmark = pytest.mark.asyncio(loop_scope="session")


class OtherHome(NoOtherHomes):
    """A server that has the code of runs, and is away when a run's turn comes for the first time."""

    num_asked = 0

    async def bring_code(self, run: Run) -> None:
        """See OtherHomes."""
        self.num_asked += 1
        if self.num_asked == 2:  # the first time is when it is queued
            raise Unavailable(f"the server that has the code of {run.id} is away")


def slots_of(rig: Rig) -> list[str]:
    return [run_id for _, run_id in rig.supervisor.slots()]


def num_tasks(rig: Rig, run: Run) -> int:
    return sum(task.get_name() == run.id for task in rig.supervisor._runner._tasks)


async def test_the_start_that_comes_late_leaves_the_other_one_its_slot(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_runs, "_RETRY_S", 0.5)
    commit, num_refused = rig.store.commit, 0

    async def refuse_the_first_start(run: Run, *arguments: Any) -> Any:
        nonlocal num_refused
        if run.state is RunState.STARTING and not num_refused:
            num_refused += 1
            raise StoreError("the disk is full")
        return await commit(run, *arguments)

    monkeypatch.setattr(rig.store, "commit", refuse_the_first_start)
    run = await rig.start(is_endless=True)
    await becomes_true(lambda: num_refused == 1)
    await rig.supervisor.stop(run.id, checkpoint=False)
    await rig.supervisor.start(run.id, resume=True)
    assert num_tasks(rig, run) == 2
    await becomes_true(lambda: num_tasks(rig, run) == 1)
    now = await rig.reaches(run, RunState.RUNNING)
    assert (now.attempt, slots_of(rig)) == (1, ["", run.id])


async def test_a_start_that_a_mistake_ends_gives_its_slot_back(
    make_rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig: Rig = await make_rig(num_slots=1)
    commit = rig.store.commit

    async def fail(run: Run, *arguments: Any) -> Any:
        if run.state is RunState.STARTING:
            raise ZeroDivisionError("a mistake of ours")
        return await commit(run, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "commit", fail)
        run = await rig.start()
        await becomes_true(lambda: num_tasks(rig, run) == 0)
    assert slots_of(rig) == [""]
    assert (await rig.ended(await rig.start())).state is RunState.COMPLETED
    await rig.supervisor.stop(run.id, checkpoint=False)
    await rig.supervisor.start(run.id, resume=True)
    assert (await rig.ended(run)).state is RunState.COMPLETED


async def test_a_run_that_waited_for_its_files_is_in_the_queue_once(
    make_rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_FILES_RETRY_S", 0.5)
    rig: Rig = await make_rig(num_slots=1)
    other = OtherHome()
    await rig.supervisor.shut_down(stop_trainers=False)
    rig.supervisor = Supervisor(rig.store, rig.hub, rig.executor, rig.home, rig.options, other)
    await rig.supervisor.start_up()

    run, busy = await rig.create(), await rig.create(is_endless=True)
    await rig.supervisor.start(run.id)
    await becomes_true(lambda: other.num_asked == 2)
    await rig.supervisor.start(busy.id)
    await rig.supervisor.stop(run.id, checkpoint=False)
    await rig.supervisor.start(run.id, resume=True)
    await becomes_true(lambda: num_tasks(rig, run) == 0)
    assert rig.supervisor.queue_length() == 1
    await rig.supervisor.stop(busy.id, checkpoint=False)
    assert (await rig.ended(run)).state is RunState.COMPLETED
    assert (await rig.ended(await rig.start())).state is RunState.COMPLETED
