"""What an attempt's result means for its run, without a trainer."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab_server.errors import CheckpointNotFound, InvalidState
from lab_server.files.home import Home
from lab_server.messages import events
from lab_server.messages.events import DecodedState
from lab_server.model.run import Run, RunOptions, RunParent, RunRequest, RunState
from lab_server.model.slot import Slot
from lab_server.store import RunQuery, SqlStore
from lab_server.supervisor import Supervisor, SupervisorOptions
from lab_server.supervisor.live_runs import LiveRuns
from lab_server.supervisor.records import AttemptResult
from lab_server.supervisor.run_files import NoOtherHomes, RunFiles
from lab_server.supervisor.runner import Runner
from lab_server.supervisor.time_limit import trained_ns
from lab_server.watch.hub import Hub
from lab_server.where import parse_name
from tests.server.fakes import FakeExecutor


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path / 'lab.db'}")
    yield store
    await store.close()


@pytest.fixture
def runner(store: SqlStore, tmp_path: Path) -> Runner:
    executor = FakeExecutor((Slot("cpu:0", "cpu"),))
    live = LiveRuns(store, Hub(store))
    files = RunFiles(live, NoOtherHomes(), Home(tmp_path))
    return Runner(live, store, executor, Home(tmp_path), SupervisorOptions(), files)


async def stored(store: SqlStore, **fields: Any) -> Run:
    """Return a run in its first attempt that the store has."""
    run = Run("r", RunRequest("toy", options=RunOptions(max_retries=2)), attempt=1, **fields)
    await store.create(replace(run, state=RunState.CREATED), None)
    return run


def failed(*, is_forced: bool) -> AttemptResult:
    event = events.encode_state(1, time.time_ns(), RunState.FAILED, "OSError: worker died")
    outcome = DecodedState(RunState.FAILED, "OSError: worker died", "")
    return AttemptResult(outcome, event, 10, "it did not stop in time", is_forced)


@pytest.mark.parametrize(
    ("is_forced", "is_stop_requested", "state"),
    [
        (False, False, RunState.FAILED),
        (False, True, RunState.FAILED),
        (True, True, RunState.STOPPED),
        (True, False, RunState.QUEUED),
    ],
)
async def test_a_failure_that_came_of_the_servers_signals_is_not_the_runs_own(
    runner: Runner,
    store: SqlStore,
    is_forced: bool,
    is_stop_requested: bool,
    state: RunState,
) -> None:
    run = await stored(store, state=RunState.RUNNING, is_stop_requested=is_stop_requested)
    run = await runner._conclude(run, failed(is_forced=is_forced))
    assert run.state is state
    assert ("worker died" in run.reason) is not is_forced


async def test_the_time_that_a_run_may_train_does_not_begin_anew_at_a_retry(
    runner: Runner, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await stored(store, state=RunState.RUNNING)
    run = replace(run, request=RunRequest("toy", options=RunOptions(max_runtime_s=1000.0)))
    # the first attempt was of an earlier start; the last two have trained 501 and 500 s
    ages_s = {9000: "STARTING", 6000: "STOPPED", 5900: "QUEUED"}
    ages_s |= {5000: "STARTING", 4499: "QUEUED", 500: "STARTING", 499: "RUNNING"}
    log = [
        events.encode_state(1, time.time_ns() - age_s * 10**9, RunState(state))
        for age_s, state in ages_s.items()
    ]
    run = replace(run, last_seq=len(log))
    await store.commit(run, log)
    stopped: list[str] = []

    async def stop(run_id: str, **_: Any) -> Run:
        stopped.append(run_id)
        raise InvalidState("it ended")

    monkeypatch.setattr(runner, "stop", stop)
    async with asyncio.timeout(60):
        await runner._limit_runtime(run)
    assert stopped == ["r"]
    longer = replace(run, request=RunRequest("toy", options=RunOptions(max_runtime_s=1100.0)))
    task = asyncio.create_task(runner._limit_runtime(longer))
    done, _ = await asyncio.wait({task}, timeout=0.1)
    task.cancel()
    assert not done


def test_what_a_run_has_trained_is_the_time_of_its_attempts_since_it_was_started() -> None:
    created, queued, starting, running, stopped = (
        RunState.CREATED,
        RunState.QUEUED,
        RunState.STARTING,
        RunState.RUNNING,
        RunState.STOPPED,
    )
    first = [(created, 1), (queued, 5), (starting, 10), (running, 11)]
    assert trained_ns(first[:2], 100) == 0
    assert trained_ns(first, 100) == 90
    retried = [*first, (queued, 30), (starting, 1000), (running, 1001)]
    assert trained_ns(retried[:-2], 999) == 20
    assert trained_ns(retried, 1100) == 120
    resumed = [*retried, (stopped, 1200), (queued, 2000)]
    assert trained_ns(resumed, 2500) == 0
    assert trained_ns([*resumed, (starting, 3000)], 3007) == 7


async def test_a_fork_is_told_of_a_checkpoint_that_its_parent_drops_meanwhile(
    store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(store)
    checkpoint = Home(tmp_path).run_folder("toy", "r").checkpoints / "5"
    checkpoint.mkdir(parents=True)
    for name in ("manifest.json", "model.pt"):
        (checkpoint / name).touch()
    link = os.link

    def link_late(*arguments: Any) -> None:
        shutil.rmtree(checkpoint, ignore_errors=True)
        link(*arguments)

    monkeypatch.setattr(os, "link", link_late)
    supervisor = Supervisor(store, Hub(store), FakeExecutor(), tmp_path)
    request = RunRequest("toy", parent=RunParent("r", 5))
    with pytest.raises(CheckpointNotFound, match=r"of step 5.*removed just now"):
        await supervisor.create(request, owner="", config_hash="", key=None, fingerprint="")
    assert [path.name for path in (tmp_path / "runs" / "toy").iterdir()] == ["r"]


async def test_a_config_that_is_no_unicode_keeps_nobody_from_listing_runs(
    store: SqlStore, tmp_path: Path
) -> None:
    supervisor = Supervisor(store, Hub(store), FakeExecutor(), tmp_path)
    path, order = os.fsdecode("/data/café".encode("latin-1")), parse_name("path")
    assert order is not None
    run = await supervisor.create(
        RunRequest("toy"),
        owner="",
        config_hash="",
        key=None,
        fingerprint="",
        configs={"path": path, "paths": ["/data", path], "width": 3},
    )
    assert run.configs == {"path": "/data/caf?", "paths": ["/data", "/data/caf?"], "width": 3}
    page = await store.list(RunQuery(order_by=order))
    assert [run.id for run in page.runs] == [run.id]
    assert await store.names(1) == {"path", "paths", "width"}


async def test_a_checkpoint_of_another_experiment_is_refused(
    store: SqlStore, tmp_path: Path
) -> None:
    await stored(store)
    supervisor = Supervisor(store, Hub(store), FakeExecutor(), tmp_path)
    request = RunRequest("other", parent=RunParent("r", 5))
    with pytest.raises(InvalidState, match="'other' cannot continue r, which is one of 'toy'"):
        await supervisor.create(request, owner="", config_hash="", key=None, fingerprint="")
