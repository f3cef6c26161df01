"""Connections that idle, hang or send too much."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lab_client.transport.channel import OPTIONS as CHANNEL_OPTIONS
from lab_rpc.v1 import training_service_pb2, training_service_pb2_grpc
from lab_server.messages import events
from lab_server.model.run import RunState
from lab_server.rpc.server import limits_of
from lab_server.settings.loading import load
from tests.server.conftest import Surface, open_surface

pb = training_service_pb2
ANSWERS = 60
"""Seconds in which something that happens at all happens."""


class IdleCutter:
    """A TCP proxy that cuts connections over which nothing came in a while, as many in companies do."""

    def __init__(self, target: str, idle_s: float) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._idle_s = idle_s
        self._is_busy = True
        self.num_cut = 0
        self.num_survived = 0
        self.looked = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        """Give the proxy's address."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        async with server:
            yield "{}:{}".format(*server.sockets[0].getsockname())
            # The server waits for its connections, and gRPC may keep one that a closed channel had.
            for writer in self._open:
                writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        there, back = await asyncio.open_connection(self._host, int(self._port))
        pumps = [
            asyncio.create_task(self._pump(reader, back)),
            asyncio.create_task(self._pump(there, writer)),
        ]
        while self._is_busy and not any(pump.done() for pump in pumps):
            self._is_busy = False
            await asyncio.wait(pumps, timeout=self._idle_s)
            self.num_survived += self._is_busy
            self.looked.set()
        self.num_cut += 1
        self.looked.set()
        for end in (writer, back):
            end.close()
        for pump in pumps:
            pump.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self._is_busy = True
            writer.write(data)
            await writer.drain()

    async def until(self, *, survived: int) -> None:
        """Wait until a connection was busy at so many looks, or was cut."""
        while self.num_survived < survived and not self.num_cut:
            self.looked.clear()
            await asyncio.wait_for(self.looked.wait(), ANSWERS)


@pytest.mark.slow
@pytest.mark.parametrize(("keepalive_s", "is_kept"), [(0.2, True), (3600.0, False)])
async def test_an_idle_stream_outlives_a_proxy_that_cuts_idle_connections(
    tmp_path: Path, keepalive_s: float, is_kept: bool
) -> None:
    async with open_surface(tmp_path, heartbeat_s=3600, keepalive_s=keepalive_s) as surface:
        run = await surface.run(RunState.RUNNING)
        proxy = IdleCutter(surface.address, idle_s=1.0)
        async with proxy.listen() as address, grpc.aio.insecure_channel(address) as channel:
            stub = training_service_pb2_grpc.TrainingServiceStub(channel)
            stream: Any = stub.WatchRun(pb.WatchRunRequest(run_id=run.id))
            assert (await stream.read()).events
            await proxy.until(survived=5)
            assert bool(proxy.num_cut) is not is_kept
            await surface.supervisor.move(run, RunState.COMPLETED)
            if is_kept:
                answer = await asyncio.wait_for(stream.read(), ANSWERS)
                assert [event.seq for event in answer.events] == [3]
            else:
                with pytest.raises(grpc.aio.AioRpcError):
                    await asyncio.wait_for(stream.read(), ANSWERS)


async def test_a_connection_that_never_speaks_is_dropped(tmp_path: Path) -> None:
    async with open_surface(tmp_path, handshake_s=0.3) as surface:
        host, _, port = surface.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(ANSWERS):
            await reader.read()  # to the end; settings frames come first
        writer.close()


@pytest.mark.slow
async def test_a_connection_without_calls_is_closed(tmp_path: Path) -> None:
    async with open_surface(tmp_path, idle_connection_s=0.3) as surface:
        await surface.stub.GetServerInfo(pb.GetServerInfoRequest())
        ready = grpc.ChannelConnectivity.READY
        async with asyncio.timeout(ANSWERS):
            while surface.channel.get_state() is ready:
                await surface.channel.wait_for_state_change(ready)
        # and the next call connects again
        await surface.stub.GetServerInfo(pb.GetServerInfoRequest())


async def test_a_message_that_is_too_large_is_refused(surface: Surface) -> None:
    request = pb.CreateRunRequest(experiment="mnist", notes="x" * (5 << 20))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await surface.stub.CreateRun(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.slow
async def test_a_stalled_reader_holds_no_more_than_a_window_of_memory(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    lines = ["x" * 1000] * 200
    sent = 0
    stream = surface.stub.WatchRun(pb.WatchRunRequest(run_id=run.id))
    seqs = [event.seq for event in (await stream.read()).events]
    for _ in range(100):
        told = events.encode_log(1, 1, lines)
        run = await surface.supervisor.say(run, *told)
        sent += sum(len(event.payload) for event in told)
    assert sent > 20_000_000
    # What the hub keeps for all subscribers together; the stalled one is but a cursor.
    kept = sum(tail.num_bytes for tail in surface.hub._tails.values())
    assert kept <= 2 << 20
    await surface.supervisor.move(run, RunState.COMPLETED)
    while (answer := await stream.read()) is not grpc.aio.EOF:
        seqs += [event.seq for event in answer.events]
    assert seqs == list(range(1, run.last_seq + 2))


def test_the_clients_pings_are_not_too_many_for_the_server() -> None:
    client = dict(CHANNEL_OPTIONS)
    server = dict(limits_of(load({}).settings))
    least_ms = server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert client["grpc.keepalive_time_ms"] >= least_ms
    assert server["grpc.keepalive_time_ms"] <= 30_000  # what proxies commonly cut at
