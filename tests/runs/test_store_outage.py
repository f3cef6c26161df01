"""While the store takes nothing: who asks gets an answer at once, and nothing given up on is done later."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from lab_server.errors import InvalidState, StoreError
from lab_server.executors.last_rows import take_over
from lab_server.messages import events
from lab_server.model.run import Run, RunOptions, RunState
from lab_server.supervisor import attempt, live_runs
from tests.runs.rig import Gate, Rig, becomes_true, is_gone

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


class Outage:
    """Makes the store of a rig refuse every write, as on a full disk, until it is over."""

    def __init__(self, rig: Rig, patch: pytest.MonkeyPatch) -> None:
        self.num_refused = 0
        self.is_over = False
        for name in ("commit", "create", "delete"):
            patch.setattr(rig.store, name, self._refusing(getattr(rig.store, name)))

    def _refusing(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def refuse(*arguments: Any) -> Any:
            if self.is_over:
                return await write(*arguments)
            self.num_refused += 1
            raise StoreError("the disk is full")

        return refuse

    async def refuses(self, num: int) -> None:
        """Return when so many more writes were refused."""
        wanted = self.num_refused + num
        async with asyncio.timeout(30):
            while self.num_refused < wanted:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0)


@pytest_asyncio.fixture(loop_scope="session")
async def ending(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Run, Outage]]:
    """Give a run whose trainer has ended while the store does not take its last event."""
    monkeypatch.setattr(attempt, "_STORE_RETRY_S", 0.01)
    monkeypatch.setattr(live_runs, "_RETRY_S", 0.01)
    run = await rig.start(loop_count=100_000, options=RunOptions(max_retries=0))
    run = await rig.reaches(run, RunState.RUNNING)
    outage = Outage(rig, monkeypatch)
    assert run.process is not None
    await rig.executor.kill(run.process, grace_s=0)
    await outage.refuses(20)
    yield run, outage
    outage.is_over = True
    assert (await rig.ended(run)).state.is_terminal


@pytest.mark.parametrize("request_name", ["start", "update", "stop", "delete"])
async def test_each_request_is_answered_at_once(
    rig: Rig, ending: tuple[Run, Outage], request_name: str
) -> None:
    run, _ = ending
    supervisor = rig.supervisor
    requests: dict[str, Callable[[], Awaitable[Any]]] = {
        "start": lambda: supervisor.start(run.id),
        "update": lambda: supervisor.update(run.id, notes="later"),
        "stop": lambda: supervisor.stop(run.id, checkpoint=False),
        "delete": lambda: supervisor.delete(run.id),
    }
    with pytest.raises(StoreError if request_name in ("update", "stop") else InvalidState):
        async with asyncio.timeout(20):
            await requests[request_name]()


async def test_a_request_whose_caller_gave_up_is_not_carried_out_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.create()
    live = rig.supervisor._live_runs
    supervisor = rig.supervisor
    async with live.lock(run.id):
        waiting = [
            asyncio.create_task(work)
            for work in (
                supervisor.start(run.id),
                supervisor.stop(run.id, checkpoint=False),
                supervisor.update(run.id, notes="later"),
                supervisor.delete(run.id),
            )
        ]
        for _ in range(100):
            await asyncio.sleep(0.001)
        for task in waiting:
            task.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait(waiting)
    assert all(task.cancelled() for task in waiting)
    now = await supervisor.get(run.id)
    assert (now.state, now.request.notes, now.last_seq) == (RunState.CREATED, "", run.last_seq)


async def test_the_run_ends_when_the_store_is_back(rig: Rig, ending: tuple[Run, Outage]) -> None:
    run, outage = ending
    with capture_logs() as lines:
        await outage.refuses(20)
    assert len([line for line in lines if line["log_level"] == "error"]) <= 1
    outage.is_over = True
    await rig.supervisor.stop(run.id, checkpoint=False)
    assert (await rig.ended(run)).state is RunState.STOPPED


async def test_a_stop_that_the_store_refuses_is_not_carried_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.until(await rig.start(is_endless=True), lambda now: now.step > 0)
    outage = Outage(rig, monkeypatch)
    with pytest.raises(StoreError):
        await rig.supervisor.stop(run.id, checkpoint=True, grace_s=0)
    outage.is_over = True
    await rig.reaches_seq(run, (await rig.supervisor.get(run.id)).last_seq + 3)
    assert not rig.folder(run).was_sent(1, "stop")
    assert (await rig.supervisor.get(run.id)).state is RunState.RUNNING


async def test_a_run_that_was_asked_to_stop_is_ended_in_time_all_the_same(
    rig: Rig, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_STORE_RETRY_S", 0.01)
    run = await rig.start(deaf_at=26, gate=gate.path)
    await gate.reached()
    run = await rig.until(run, lambda now: now.step == 26)
    process = run.process
    assert process is not None
    await rig.supervisor.stop(run.id, checkpoint=False, grace_s=1.0)
    outage = Outage(rig, monkeypatch)
    with rig.folder(run).log.open("a") as log:
        log.write("what it still prints cannot be recorded\n")
    await outage.refuses(1)
    await becomes_true(lambda: is_gone(process.pid))
    outage.is_over = True
    assert (await rig.ended(run)).state is RunState.STOPPED
    assert "what it still prints cannot be recorded" in await rig.lines(run)


async def test_metrics_that_a_full_disk_has_no_room_for_are_kept_and_told_of_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_STORE_RETRY_S", 0.001)
    refused = [OSError(errno.ENOSPC, "No space left on device")] * 30

    def refusing(*arguments: Any) -> int:
        if refused:
            raise refused.pop()
        return take_over(*arguments)

    monkeypatch.setattr(attempt, "take_over", refusing)
    with capture_logs() as lines:
        run = await rig.start(
            kill_at=[25], is_second_batch_late=True, options=RunOptions(max_retries=0)
        )
        await rig.ended(run)
    assert not refused
    assert len([line for line in lines if line["log_level"] == "error"]) == 1
    assert ("loss", 25) in await rig.points(run)


async def test_a_caller_that_goes_away_leaves_no_exception_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.create()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def fail_late(*arguments: Any) -> Any:
        entered.set()
        await leave.wait()
        raise StoreError("the disk is full")

    monkeypatch.setattr(rig.store, "commit", fail_late)
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    task = asyncio.create_task(rig.supervisor.update(run.id, notes="x"))
    await entered.wait()
    task.cancel()
    leave.set()
    await asyncio.wait((task,))
    assert task.cancelled()
    del task
    gc.collect()
    assert not problems


async def test_a_commit_goes_through_when_its_caller_is_cancelled(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.create()
    entered, leave = asyncio.Event(), asyncio.Event()
    real = rig.store.commit

    async def slowly(*arguments: Any) -> Any:
        entered.set()
        await leave.wait()
        return await real(*arguments)

    monkeypatch.setattr(rig.store, "commit", slowly)
    task = asyncio.create_task(rig.supervisor.start(run.id))
    await entered.wait()
    task.cancel()
    leave.set()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert (await rig.ended(run)).state is RunState.COMPLETED


async def test_a_run_is_as_its_log_says_when_the_caller_of_its_commit_is_cancelled(
    rig: Rig,
) -> None:
    run = await rig.create()
    live = rig.supervisor._live_runs
    is_busy, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def block(_: object) -> None:
        loop.call_soon_threadsafe(is_busy.set)
        go_on.wait()

    blocking = asyncio.create_task(rig.store._write(block))
    await is_busy.wait()
    queued = replace(run, state=RunState.QUEUED)
    task = asyncio.create_task(live.commit(queued, events.encode_log(1, 1, ["queued"])))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()  # whoever holds the run's lock holds it until then
    assert live.find(run.id) is None
    go_on.set()
    await asyncio.wait((task, blocking))

    assert task.cancelled()
    now = live.current(run.id)
    assert now == await rig.store.get(run.id)
    assert (now.state, now.last_seq) == (RunState.QUEUED, run.last_seq + 1)
    await live.commit(replace(now, state=RunState.STOPPED))
