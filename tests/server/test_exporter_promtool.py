"""The exposition, judged by Prometheus's own tool."""

from __future__ import annotations

import asyncio
import shutil
import subprocess

import pytest

from lab_rpc.v1 import training_service_pb2
from lab_server.messages import events
from lab_server.model.run import RunState, TrainerProcess
from tests.server.conftest import Surface

pb = training_service_pb2

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: apt-get install prometheus",
)


async def test_promtool_finds_nothing_wrong_with_the_metrics(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    run = await surface.supervisor.move(run, RunState.RUNNING, process=TrainerProcess(1, 1))
    await surface.supervisor.say(run, events.encode_progress(1, 1, 30, 120, 4.5))
    await surface.stub.GetRun(pb.GetRunRequest(run_id=run.id))
    body, _ = await surface.exporter.scrape()
    result = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=body,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, b"")
