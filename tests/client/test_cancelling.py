"""A cancelled task is cancelled, and a closed client says that it was closed: never the other."""

from __future__ import annotations

import asyncio

import pytest

from lab_client import AsyncClient, errors
from lab_rpc.v1 import event_pb2
from tests.client.twin import Twin


async def read(client: AsyncClient, run_id: str, is_open: asyncio.Event) -> None:
    async for _ in client.watch(run_id):
        is_open.set()


@pytest.mark.parametrize("closes_too", [False, True])
async def test_a_cancelled_reader_is_cancelled_also_when_the_client_is_closed(
    twin: Twin, closes_too: bool
) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    async with AsyncClient(twin.address) as client:
        is_open = asyncio.Event()
        task = asyncio.create_task(read(client, run.message.id, is_open))
        await is_open.wait()
        task.cancel()
        if closes_too:
            await client.close()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_reader_of_a_closed_client_is_told_so_and_not_cancelled(twin: Twin) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    client = AsyncClient(twin.address)
    is_open = asyncio.Event()
    task = asyncio.create_task(read(client, run.message.id, is_open))
    await is_open.wait()
    await client.close()
    with pytest.raises(errors.InvalidState, match="closed during a call"):
        await task
