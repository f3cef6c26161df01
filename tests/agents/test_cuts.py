"""What an agent does when its connection is cut: it goes on, with the next server if need be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
import structlog.testing

from lab_rpc.v1 import agent_service_pb2 as pb
from lab_rpc.v1 import agent_service_pb2_grpc
from lab_server.agent.agent import Agent
from lab_server.agent.home import AgentHome, Identity
from lab_server.agent.link import Cut, Link, open_channel, stub_of
from lab_server.agent.servers import GivenServers
from lab_server.messages.agents import response_to_proto
from lab_server.model.agent import AttemptKey, Welcome

KEY = AttemptKey("r1", 1)
IDENTITY = Identity("a1", "gpus", "secret", "id")


class Idle:
    """An executor with nothing to run."""

    slots = ()

    async def describe(self) -> list[Any]:
        return []


class Silent(agent_service_pb2_grpc.AgentServiceServicer):
    """Welcomes, and says nothing more; answers a call if it is told to.

    Attributes:
        called: set with each call but `Attach`.
        attached: how often an agent attached.
    """

    def __init__(self, *, answers: bool = False) -> None:
        self.answers = answers
        self.called = asyncio.Event()
        self.attached: asyncio.Queue[None] = asyncio.Queue()

    async def Attach(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        del requests, context
        self.attached.put_nowait(None)
        yield response_to_proto(Welcome(60.0))
        await asyncio.Event().wait()

    async def AppendEvents(self, request: Any, context: Any) -> Any:
        del request, context
        self.called.set()
        if not self.answers:
            await asyncio.Event().wait()
        return pb.AppendEventsResponse(offset=7)

    Join = AppendEvents

    async def CompareFiles(self, request_iterator: Any, context: Any) -> Any:
        return pb.CompareFilesResponse(missing=[b"hash"])

    async def CommitFiles(self, request_iterator: Any, context: Any) -> Any:
        return pb.CommitFilesResponse()

    async def UploadChunks(self, request_iterator: Any, context: Any) -> Any:
        return pb.UploadChunksResponse()

    async def FetchUpload(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield

    async def FetchFiles(self, request: Any, context: Any) -> AsyncIterator[Any]:
        del request, context
        self.called.set()
        yield pb.FetchFilesResponse(etag="state")
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(service: Silent) -> AsyncIterator[str]:
    server = grpc.aio.server()
    agent_service_pb2_grpc.add_AgentServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def test_an_agent_whose_server_is_silent_attaches_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_server.agent.attachment._PATIENCE_S", 0.01)
    monkeypatch.setattr("lab_server.agent.attachment._MAX_PING_S", 0.02)
    first, second = Silent(), Silent()
    home, executor = AgentHome(tmp_path), Idle()
    with home.opened():
        async with serving(first) as a, serving(second) as b:
            agent = Agent(home, IDENTITY, cast(Any, executor), {}, GivenServers([a, b]), None)
            running = asyncio.create_task(agent.run())
            reaching = asyncio.create_task(second.attached.get())
            await asyncio.wait({running, reaching}, return_when=asyncio.FIRST_COMPLETED)
            assert reaching.done()
            running.cancel()
            await asyncio.wait({running})


class Replaced(Silent):
    """A server that is replaced by one of another version as soon as an agent is attached."""

    async def Attach(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        self.attached.put_nowait(None)
        if self.attached.qsize() > 1:
            problem = "the agent is of version '1', and the server of 2; install the same on both"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        yield response_to_proto(Welcome(60.0))


async def test_an_agent_that_is_of_another_version_than_the_next_server_says_so_and_stays(
    tmp_path: Path,
) -> None:
    service, home = Replaced(), AgentHome(tmp_path)
    with home.opened(), structlog.testing.capture_logs() as logs:
        async with serving(service) as address, asyncio.timeout(30):
            agent = Agent(home, IDENTITY, cast(Any, Idle()), {}, GivenServers([address]), None)
            running = asyncio.create_task(agent.run())
            while not any(line["event"] == "the server refuses this agent" for line in logs):
                await asyncio.wait({running}, timeout=0.01)
                assert not running.done()
            running.cancel()
            await asyncio.wait({running})
    (refusal, *_) = (line for line in logs if "refuses" in line["event"])
    assert "of version '1', and the server of 2" in refusal["reason"]
    assert refusal["server"] == address


async def fetched(link: Link) -> None:
    async for _ in link.fetch(KEY):
        pass


@pytest.fixture
def link() -> Link:
    return Link(IDENTITY)


async def cut_off(link: Link, address: str, service: Silent, call: Awaitable[Any]) -> Any:
    """Close the channel while a call waits for its answer."""
    async with open_channel(address, None) as channel:
        link.attached(stub_of(channel))
        calling = asyncio.ensure_future(call)
        await service.called.wait()
    link.detached()
    return calling


async def test_a_call_whose_channel_is_closed_is_made_again_on_the_next(link: Link) -> None:
    silent, other = Silent(), Silent(answers=True)
    async with serving(silent) as a, serving(other) as b:
        calling = await cut_off(link, a, silent, link.append(KEY, 0, b""))
        async with open_channel(b, None) as channel:
            link.attached(stub_of(channel))
            assert await calling == 7


async def test_files_whose_channel_is_closed_are_told_to_be_cut(link: Link) -> None:
    silent = Silent()
    async with serving(silent) as a:
        calling = await cut_off(link, a, silent, fetched(link))
        with pytest.raises(Cut):
            await calling


@pytest.mark.parametrize("call", [lambda link: link.append(KEY, 0, b""), fetched])
async def test_a_task_that_is_cancelled_in_a_call_ends(
    link: Link, call: Callable[[Link], Awaitable[Any]]
) -> None:
    silent = Silent()
    async with serving(silent) as a, open_channel(a, None) as channel:
        link.attached(stub_of(channel))
        calling = asyncio.ensure_future(call(link))
        await silent.called.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling


async def test_what_files_take_grows_with_them_and_has_no_bound_of_its_own(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_server.agent.link._CALL_S", -1.0)
    async with serving(Silent()) as a, open_channel(a, None) as channel:
        link.attached(stub_of(channel))
        assert await link.compare(KEY, []) == [b"hash"]
        await link.upload(KEY, [b"data"])
        await link.commit(KEY, [], ["notes.txt"])
