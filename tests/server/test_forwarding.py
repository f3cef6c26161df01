"""Calls to a server that follows while the leader does not answer."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from lab_server.errors import Unavailable
from lab_server.rpc.calls.forwarding import Forwarding

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
