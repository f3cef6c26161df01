"""What becomes of a run that nobody disturbs, and what is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lab_core.errors import ConfigError
from lab_rpc.v1 import event_pb2
from lab_server.errors import AlreadyExists, InvalidState, LaunchError, NotFound
from lab_server.messages import events
from lab_server.model.agent import AGENT_LEFT
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import RunOptions, RunState, TagChange, TrainerProcess
from lab_server.supervisor import live_runs
from tests.runs.rig import Gate, Rig

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_run_goes_through_its_states_to_its_end(rig: Rig) -> None:
    run = await rig.ended(await rig.start())
    assert await rig.states(run) == ["CREATED", "QUEUED", "STARTING", "RUNNING", "COMPLETED"]
    assert (run.step, run.total_steps, run.attempt, run.slot) == (60, 60, 1, "")
    assert run.create_time_ns < run.start_time_ns < run.end_time_ns
    assert run.process is None


async def test_every_metric_is_in_the_log_once_and_as_in_sqlite(rig: Rig) -> None:
    run = await rig.ended(await rig.start())
    points = await rig.points(run)
    assert set(points) == {(n, s) for n in ("loss", "noise") for s in range(1, 61)}
    assert points == rig.recorded(run)
    assert run.metrics == {name: points[name, 60] for name in ("loss", "noise")}


@pytest.mark.slow
async def test_equal_runs_have_equal_results(rig: Rig) -> None:
    first, second = await asyncio.gather(rig.ended(await rig.start()), rig.ended(await rig.start()))
    assert await rig.points(first) == await rig.points(second)
    assert rig.weights(first, 60) == rig.weights(second, 60)


async def test_what_is_printed_is_in_the_log_of_events(rig: Rig) -> None:
    run = await rig.ended(await rig.start("environment"))
    lines = await rig.lines(run)
    # trainers collect garbage, though a server does not while it starts
    assert {"device ''", "an error line", "from a child", "collects True"} <= set(lines)
    assert f"attempt {run.id}/1" in lines
    assert rig.folder(run).log.read_text().splitlines() == lines


async def test_each_line_has_its_level_and_its_place(rig: Rig) -> None:
    run = await rig.ended(await rig.start("environment"))
    levels = [(line, log.level) for log in await rig.kinds(run, "log") for line in log.lines]
    after = levels[levels.index(("an error line", event_pb2.LOG_LEVEL_STDERR)) + 1 :]
    (warning, warned), (source, _), *rest = after[1:]
    assert after[0] == ("from a child", 0)
    assert warning.endswith("UserWarning: a Python warning")
    assert (warned, source.strip()) == (
        event_pb2.LOG_LEVEL_WARNING,
        'warnings.warn("a Python warning", stacklevel=1)',
    )
    assert rest[:6] == [
        ("a record", event_pb2.LOG_LEVEL_WARNING),
        ("a bad record", event_pb2.LOG_LEVEL_ERROR),
        ("a styled line", event_pb2.LOG_LEVEL_WARNING),
        ("a plain line", 0),
        ("seen True", 0),
        ("half a line", event_pb2.LOG_LEVEL_STDERR),
    ]


async def test_a_checkpoint_is_told_and_is_there(rig: Rig) -> None:
    run = await rig.ended(await rig.start())
    checkpoints = await rig.kinds(run, "checkpoint")
    assert sorted({c.step for c in checkpoints}) == [10, 20, 30, 40, 50, 60]
    assert all(c.size_bytes > 0 for c in checkpoints)
    assert run.checkpoint_step == 60


async def test_an_error_ends_the_run_with_its_traceback_and_no_retry(rig: Rig) -> None:
    run = await rig.ended(await rig.start(raise_at=5))
    assert run.state is RunState.FAILED
    assert run.reason == "ValueError: this toy raises with a second line"
    assert run.attempt == 1
    last = (await rig.kinds(run, "state"))[-1]
    assert "in train_step" in last.traceback
    assert "with a second line" in last.traceback
    assert last.traceback in rig.folder(run).log.read_text()
    errors = [
        line
        for log in await rig.kinds(run, "log")
        if log.level == event_pb2.LOG_LEVEL_ERROR
        for line in log.lines
    ]
    assert errors == last.traceback.splitlines()
    assert ("loss", 5) in await rig.points(run)


async def test_a_bad_value_that_comes_so_far_ends_the_run(rig: Rig) -> None:
    run = await rig.ended(await rig.start(loop_count=-3))
    assert run.state is RunState.FAILED
    assert "loop_count" in run.reason


async def test_a_run_starts_only_once(rig: Rig) -> None:
    run = await rig.start()
    with pytest.raises(InvalidState, match="only a created run can be started"):
        await rig.supervisor.start(run.id)
    await rig.ended(run)
    with pytest.raises(InvalidState, match="is completed"):
        await rig.supervisor.start(run.id)
    with pytest.raises(InvalidState, match="only a stopped or failed run can be resumed"):
        await rig.supervisor.start(run.id, resume=True)


@pytest.mark.slow
async def test_an_ended_run_cannot_be_stopped(rig: Rig) -> None:
    run = await rig.ended(await rig.start())
    with pytest.raises(InvalidState, match="already completed"):
        await rig.supervisor.stop(run.id, checkpoint=True)


async def test_a_run_is_found_by_a_prefix_that_only_it_has(rig: Rig) -> None:
    first, second = await rig.create(), await rig.create()
    assert (await rig.supervisor.get(first.id[:-1])).id == first.id
    with pytest.raises(NotFound, match="several begin with it"):
        await rig.supervisor.get(first.id[:6])
    with pytest.raises(NotFound):
        await rig.supervisor.get("nothing")
    assert second.id != first.id


@pytest.mark.slow
async def test_name_tags_and_notes_can_be_changed_at_any_time(rig: Rig) -> None:
    run = await rig.create()
    await rig.supervisor.update(run.id, name="new", tags=TagChange(("a", "b")))
    await rig.supervisor.start(run.id)
    await rig.ended(run)
    run = await rig.supervisor.update(run.id, notes="good")
    assert (run.request.name, run.request.tags, run.request.notes) == ("new", ("a", "b"), "good")


@pytest.mark.slow
async def test_a_deleted_run_leaves_nothing(rig: Rig) -> None:
    run = await rig.ended(await rig.start())
    await rig.supervisor.delete(run.id)
    with pytest.raises(NotFound):
        await rig.supervisor.get(run.id)
    assert [path.name for path in rig.home.rglob("*") if run.id in path.name] == []


async def test_a_run_that_waits_or_trains_cannot_be_deleted(rig: Rig) -> None:
    run = await rig.start(is_endless=True)
    with pytest.raises(InvalidState, match="stop it first"):
        await rig.supervisor.delete(run.id)


@pytest.mark.slow
async def test_a_deletion_that_was_cut_short_is_finished_by_the_next_server(rig: Rig) -> None:
    run = await rig.ended(await rig.start())
    rig.folder(run).path.rename(rig.home / "trash" / run.id)
    await rig.restart()
    with pytest.raises(NotFound):
        await rig.supervisor.get(run.id)
    assert list((rig.home / "trash").iterdir()) == []


async def test_a_device_that_no_slot_has_is_refused_at_once(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="no slot on device 'cuda:3'; it has cpu"):
        await rig.create(options=RunOptions(device="cuda:3"))


async def test_the_same_key_and_request_give_the_same_run_also_after_a_restart(rig: Rig) -> None:
    first = await rig.create(key="k")
    assert (await rig.create(key="k")).id == first.id
    await rig.restart()
    assert (await rig.create(key="k")).id == first.id
    assert (await rig.create(key="other")).id != first.id
    assert len(await rig.log(first)) == 1


async def test_many_requests_with_one_key_at_once_give_one_run(rig: Rig) -> None:
    runs = await asyncio.gather(*(rig.create(key="k") for _ in range(8)))
    assert len({run.id for run in runs}) == 1
    assert [path.name for path in (rig.home / "runs" / "toy").iterdir()] == [runs[0].id]


async def test_a_key_is_not_for_another_request(rig: Rig) -> None:
    await rig.create(key="k")
    with pytest.raises(AlreadyExists):
        await rig.create(key="k", loop_count=3)


@pytest.mark.slow
async def test_starting_with_the_same_key_starts_once(rig: Rig) -> None:
    run = await rig.create()
    await rig.supervisor.start(run.id, key="k")
    await rig.ended(run)
    again = await rig.supervisor.start(run.id, key="k")
    assert again.state is RunState.COMPLETED
    with pytest.raises(AlreadyExists):
        await rig.supervisor.start(run.id, resume=True, key="k")


async def test_many_starts_with_one_key_at_once_start_the_run_once(rig: Rig) -> None:
    run = await rig.create()
    answers = await asyncio.gather(*(rig.supervisor.start(run.id, key="k") for _ in range(8)))
    assert {answer.id for answer in answers} == {run.id}
    assert (await rig.states(await rig.ended(run))).count("QUEUED") == 1


async def test_a_start_whose_key_was_looked_up_before_the_first_one_was_done_is_answered_as_that(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.create(is_endless=True)
    look_up, is_looked_up, go_on = rig.store.idempotency_record, asyncio.Event(), asyncio.Event()

    async def look_up_slowly(key: str) -> Any:
        found = await look_up(key)
        is_looked_up.set()
        await go_on.wait()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "idempotency_record", look_up_slowly)
        repeated = asyncio.create_task(rig.supervisor.start(run.id, key="k"))
        await is_looked_up.wait()
    await rig.supervisor.start(run.id, key="k")
    go_on.set()
    assert (await repeated).state is not RunState.CREATED
    assert (await rig.states(run)).count("QUEUED") == 1


@pytest.mark.slow
async def test_a_caller_that_goes_away_leaves_no_half_of_a_run(rig: Rig) -> None:
    run = await rig.create()
    task = asyncio.create_task(rig.supervisor.start(run.id))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    now = await rig.supervisor.get(run.id)
    if now.state is RunState.CREATED:
        await rig.supervisor.start(run.id)
    assert (await rig.ended(run)).state is RunState.COMPLETED
    await rig.log(run)


@pytest.mark.slow
async def test_an_outcome_whose_files_are_lost_with_their_agent_is_none(rig: Rig) -> None:
    lost = iter([True])
    rig.executor.is_lost = lambda _: next(lost, False)
    run = await rig.ended(await rig.start(options=RunOptions(max_retries=1)))
    assert (run.state, run.attempt) == (RunState.COMPLETED, 2)
    told = [event.payload for event in await rig.log(run) if event.kind == "state"]
    reasons = [events.decode_state(payload).reason for payload in told]
    assert any("attempt 1 died" in reason for reason in reasons)


@pytest.mark.slow
async def test_an_agent_that_stops_before_a_run_begins_costs_it_no_retry(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch: Callable[[LaunchSpec], Awaitable[TrainerProcess]] = rig.executor.launch
    refusals = iter([LaunchError(AGENT_LEFT)])

    async def refuse_once(spec: LaunchSpec) -> TrainerProcess:
        for refusal in refusals:
            raise refusal
        return await launch(spec)

    monkeypatch.setattr(rig.executor, "launch", refuse_once)
    run = await rig.ended(await rig.start(options=RunOptions(max_retries=0)))
    assert (run.state, run.attempt) == (RunState.COMPLETED, 2)


@pytest.mark.slow
async def test_a_run_ends_when_its_time_is_over(make_rig: Callable[..., Any]) -> None:
    rig: Rig = await make_rig(grace_s=60.0)
    run = await rig.ended(await rig.start(is_endless=True, options=RunOptions(max_runtime_s=0.5)))
    assert run.state is RunState.STOPPED
    assert run.reason == "stopped: it reached its max_runtime of 0.5 s"
    assert run.is_out_of_time
    assert run.checkpoint_step == run.step > 0


async def test_the_time_of_a_run_is_not_begun_anew_by_the_next_server(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AnHourAgo:
        def time_ns(self) -> int:
            return time.time_ns() - 3600 * 10**9

    with monkeypatch.context() as patched:
        patched.setattr(live_runs, "time", AnHourAgo())
        run = await rig.reaches(await rig.start(is_endless=True), RunState.RUNNING)
    await rig.restart(max_runtime_s=3000.0)
    run = await rig.ended(run)
    assert run.reason == "stopped: it reached its max_runtime of 3000 s"


@pytest.mark.slow
@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_run_that_ended_while_no_server_ran_has_ended_then(
    rig: Rig, gate: Gate, is_stopped: bool
) -> None:
    run = await rig.start(wait_at=5, gate=gate.path, is_endless=is_stopped)
    await gate.reached()
    process = (await rig.supervisor.get(run.id)).process
    assert process is not None
    await rig.close()
    if is_stopped:
        rig.folder(run).send(1, "stop", checkpoint=True)
    gate.open()
    await rig.executor.wait(process)
    back_ns = time.time_ns()
    await rig.open()
    run = await rig.ended(run)
    assert run.state is (RunState.STOPPED if is_stopped else RunState.COMPLETED)
    assert run.start_time_ns < run.end_time_ns < back_ns
    last = (await rig.log(run))[-1]
    assert events.decode(last.payload).time_unix_ns == run.end_time_ns
