"""Calls to a server that follows while the leader does not answer."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from lab_rpc.v1 import gpu_pb2, training_service_pb2
from lab_server.errors import Unavailable
from lab_server.rpc.calls.forwarding import Forwarding
from lab_server.rpc.forwarded import ForwardedHandlers

pb = training_service_pb2

SERVICE = "/lab_rpc.v1.TrainingService"


async def requests() -> AsyncIterator[bytes]:
    yield b"the request"


async def answer_here(messages: AsyncIterator[bytes], _context: Any) -> list[bytes]:
    return [message async for message in messages]


@pytest.fixture
async def forward() -> AsyncIterator[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and nobody listens
        leader = f"127.0.0.1:{probe.getsockname()[1]}"
        forwarding = Forwarding(lambda: leader)
        context: Any = SimpleNamespace(
            time_remaining=lambda: 30.0, invocation_metadata=lambda: (("authorization", "x"),)
        )
        yield lambda rpc: forwarding(f"{SERVICE}/{rpc}", answer_here, requests(), context)
        await forwarding.close()


async def test_what_clients_ask_before_they_read_is_answered_without_the_leader(
    forward: Any,
) -> None:
    assert await forward("GetServerInfo") == [b"the request"]
    assert await forward("ListRuns") == [b"the request"]


async def test_other_calls_say_that_the_leader_does_not_answer(forward: Any) -> None:
    with pytest.raises(Unavailable, match=r"the server 127\.0\.0\.1:\d+, which runs the trainings"):
        await forward("StopRun")


async def test_the_http_port_answers_the_same_without_the_leader() -> None:
    class Handlers:
        async def GetServerInfo(self, request: Any, _context: Any) -> Any:
            return pb.GetServerInfoResponse(
                absent_leader="L", gpus=[gpu_pb2.Gpu()] * request.with_gpus
            )

        StopRun = GetServerInfo

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        leader = f"127.0.0.1:{probe.getsockname()[1]}"
        forwarding = Forwarding(lambda: leader)
        handlers = ForwardedHandlers(Handlers(), SERVICE[1:], forwarding)
        info = await handlers.GetServerInfo(pb.GetServerInfoRequest(with_gpus=True), None)
        assert (info.absent_leader, len(info.gpus)) == ("L", 1)
        with pytest.raises(Unavailable, match="does not answer"):
            await handlers.StopRun(pb.StopRunRequest(), None)
        await forwarding.close()


async def test_a_leader_that_says_nothing_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Handlers:
        async def GetServerInfo(self, _request: Any, _context: Any) -> Any:
            return pb.GetServerInfoResponse(absent_leader="L")

    monkeypatch.setattr("lab_server.rpc.forwarded.PATIENCE_S", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections, as a frozen process does
        forwarding = Forwarding(lambda: f"127.0.0.1:{silent.getsockname()[1]}")
        handlers = ForwardedHandlers(Handlers(), SERVICE[1:], forwarding)
        info = await handlers.GetServerInfo(pb.GetServerInfoRequest(), None)
        assert info.absent_leader == "L"
        await forwarding.close()
