"""What a killed trainer printed last is in the log once, wherever the server ends meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from lab_server.model.run import Run, RunOptions, RunState
from tests.runs.rig import Gate, Rig

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_server_that_ends_when_it_has_committed_the_last_lines_leaves_none_for_the_next(
    rig: Rig, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.start(deaf_at=26, gate=gate.path, options=RunOptions(max_retries=0))
    await gate.reached()
    run = await rig.until(run, lambda now: now.process is not None and now.step == 26)
    assert run.process is not None
    commit, is_committed = rig.store.commit, asyncio.Event()

    async def commit_and_say(run: Run, events: Any = (), *arguments: Any) -> Any:
        stored = await commit(run, events, *arguments)
        if any(event.kind == "log" for event in events):
            is_committed.set()
            await asyncio.Event().wait()  # the server ends before it goes on
        return stored

    monkeypatch.setattr(rig.store, "commit", commit_and_say)
    os.kill(run.process.pid, signal.SIGSTOP)
    with rig.folder(run).log.open("a") as log:
        log.write("last words\n")
    await rig.executor.kill(run.process, grace_s=0)
    await is_committed.wait()
    await rig.restart()
    assert (await rig.ended(run)).state is RunState.FAILED
    assert (await rig.lines(run)).count("last words") == 1
