"""The extremes of metrics after a resume, which takes back what its attempt measured later."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from lab_rpc.v1 import event_pb2
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.messages.projection import apply_events
from lab_server.model.run import Run, RunOptions, RunRequest, RunState
from lab_server.store import SqlStore
from lab_server.supervisor.live_runs import LiveRuns
from lab_server.watch.hub import Hub
from tests.runs.rig import Gate, Rig


def measured(step: int, *values: float) -> EncodedEvent:
    steps = range(step, step + len(values))
    columns = [event_pb2.MetricColumn(name="loss", values=values)]
    message = event_pb2.RunEvent(metrics=event_pb2.Metrics(steps=steps, columns=columns))
    return events.recognise(message.SerializeToString())


async def test_what_a_resume_took_back_is_no_extreme_any_more(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/lab.db")
    hub = Hub(store, min_pause_s=0)
    live = LiveRuns(store, hub)
    run = await store.create(Run("r1", RunRequest("mnist"), state=RunState.RUNNING), None)
    live.track(run)

    async def read(*new: EncodedEvent) -> Run:
        run = apply_events(live.current("r1"), new)
        await live.commit(run, new)
        await live.renew_extremes("r1")
        assert await store.get("r1") == live.current("r1")
        return live.current("r1")

    assert (await read(measured(0, 5.0, 4.0, 9.0, -1.0))).extremes == {"loss": (-1.0, 9.0)}
    truncate = events.encode_truncate(2, 0, 1, checkpoint_step=1)
    resumed = await read(truncate, measured(2, 3.0))
    assert (resumed.extremes, resumed.has_stale_extremes) == ({"loss": (3.0, 5.0)}, False)
    assert (await read(measured(3, 2.0))).extremes == {"loss": (2.0, 5.0)}
    hub.close()
    await store.close()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_run_whose_server_died_before_it_had_them_has_them_at_its_end(
    rig: Rig, gate: Gate
) -> None:
    run = await rig.start(wait_at=24, gate=gate.path, options=RunOptions(max_retries=0))
    await gate.reached()
    run = await rig.until(run, lambda now: now.step == 24)
    assert run.process is not None
    await rig.close()
    await rig.executor.kill(run.process, grace_s=0)
    store = await asyncio.to_thread(SqlStore, f"sqlite:///{rig.home}/lab.db")
    before = await store.get(run.id)
    extremes = dict.fromkeys(before.extremes, (-1.0, 99.0))
    await store.commit(replace(before, extremes=extremes, has_stale_extremes=True))
    await store.close()
    await rig.open()
    ended = await rig.ended(run)
    assert ended.state is RunState.FAILED
    assert (ended.extremes, ended.has_stale_extremes) == (before.extremes, False)
