"""Calls that their client ended: they are CANCELLED, whatever grpc raises, and no error of the server's."""

from __future__ import annotations

import asyncio
import io
import re
from typing import Any

import grpc.aio
import pytest

from lab_rpc.v1 import training_service_pb2, training_service_pb2_grpc
from lab_server.messages import events
from lab_server.model.run import RunState
from tests.server.conftest import Surface

pb = training_service_pb2

_HANDLED = re.compile(r"grpc_server_handled_total\{([^}]*)\} ([0-9.]+)")


async def codes(surface: Surface, method: str) -> dict[str, int]:
    """Return how many calls of a method ended with each code."""
    text = (await surface.exporter.scrape())[0].decode()
    return {
        code[1]: int(float(value))
        for labels, value in _HANDLED.findall(text)
        if f'grpc_method="{method}"' in labels
        and (code := re.search(r'grpc_code="(\w+)"', labels)) is not None
    }


async def stalled(surface: Surface) -> None:
    """Return when a reader has not asked for its next batch during many turns of the event loop."""
    turns = 0
    before: tuple[object, ...] = ()
    while turns < 2000:
        now = tuple(surface.hub._handed_over)
        turns = turns + 1 if now and now == before else 0
        before = now
        await asyncio.sleep(0)


@pytest.mark.slow
async def test_a_stalled_reader_that_cancels_is_no_error_of_the_server(
    surface: Surface, lines: io.StringIO
) -> None:
    run = await surface.run(RunState.RUNNING)
    for _ in range(4):  # 10 MB, more than a client's buffers take
        lines_of_log = ["x" * 8000] * (32 * 10)
        run = await surface.supervisor.say(run, *events.encode_log(1, 1, lines_of_log))
    num_calls = 12
    for _ in range(num_calls):
        async with grpc.aio.insecure_channel(
            surface.address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub: Any = training_service_pb2_grpc.TrainingServiceStub(channel)
            call = stub.WatchRun(pb.WatchRunRequest(run_id=run.id))
            await call.read()  # and no more: flow control stops the server in the middle of a write
            await stalled(surface)
            call.cancel()
    async with asyncio.timeout(20):
        while sum((found := await codes(surface, "WatchRun")).values()) < num_calls:  # noqa: ASYNC110 - grpc tells nobody
            await asyncio.sleep(0)
    assert found == {"CANCELLED": num_calls}
    assert "Traceback" not in lines.getvalue()
    assert '"level": "error"' not in lines.getvalue()
