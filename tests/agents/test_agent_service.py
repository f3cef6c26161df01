"""AgentService over a real connection: who may say what."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

import lab_server
from lab_rpc.v1 import agent_service_pb2 as pb
from lab_server.executors.remote.attempt import RemoteAttempt
from lab_server.files.chunks import Arrivals
from lab_server.messages.agents import request_to_proto, response_from_proto
from lab_server.model.agent import AttemptKey, Hello, Launched, Ping, Welcome
from lab_server.model.run import TrainerProcess
from lab_server.model.slot import Slot
from tests.agents.conftest import Desk
from tests.agents.test_registry import Side, spec_of

KEY = pb.AttemptKey(run_id="r1", attempt=1)


async def code_of(call: Awaitable[Any]) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def attach(desk: Desk, metadata: Any, *said: Any) -> Any:
    """Attach, and return the stream after the first answer."""

    async def requests() -> AsyncIterator[pb.AttachRequest]:
        for each in said:
            yield request_to_proto(each)
        await asyncio.Event().wait()

    stream = desk.stub.Attach(requests(), metadata=metadata)
    return stream, response_from_proto(await stream.read())


def hello(version: str = lab_server.__version__) -> Hello:
    return Hello(version, (Slot("cpu:0", "cpu"),), {"toy": "hash"})


async def test_an_agent_attaches_and_its_slots_are_there(desk: Desk) -> None:
    stream, welcome = await attach(desk, await desk.joined(), hello(), Ping(7))
    assert welcome == Welcome(30.0, {})
    assert response_from_proto(await stream.read()) == Ping(7)
    assert [slot.name for agent in desk.agents for slot in agent.slots] == ["gpus/a1/cpu:0"]
    assert not any(slot.takes_uploads for agent in desk.agents for slot in agent.slots)
    stream.cancel()


async def test_an_agent_of_another_version_is_refused_and_told(desk: Desk) -> None:
    metadata = await desk.joined()
    with pytest.raises(grpc.aio.AioRpcError, match=r"of version '0.0.0'.*install the same"):
        await attach(desk, metadata, hello("0.0.0"))
    join = pb.JoinRequest(version="0.0.0", name="a2", secret_sha256="0" * 64)
    assert await code_of(desk.stub.Join(join)) == "FAILED_PRECONDITION"
    assert list(desk.agents) == []


async def test_what_waits_for_an_agent_says_that_it_cannot_come_back(desk: Desk) -> None:
    metadata = await desk.joined()
    agent = Side(desk.agents).agent
    desk.agents.detach(agent)
    with pytest.raises(grpc.aio.AioRpcError, match="install the same"):
        await attach(desk, metadata, hello("0.0.0"))
    assert re.search("a1 is out of reach since .*of version '0.0.0'.*install", agent.out_of_reach)
    stream, _ = await attach(desk, metadata, hello())
    assert [agent.refusal for agent in desk.agents] == [""]
    stream.cancel()


async def test_without_a_credential_an_agent_can_do_nothing(desk: Desk) -> None:
    for metadata in ((), (("authorization", "Bearer lab_00_x"),)):
        append = desk.stub.AppendEvents(pb.AppendEventsRequest(key=KEY), metadata=metadata)
        assert await code_of(append) == "UNAUTHENTICATED"
        for name in ("CompareFiles", "UploadChunks", "CommitFiles"):
            request = getattr(pb, f"{name}Request")(key=KEY)
            call = getattr(desk.stub, name)(iter([request]), metadata=metadata)
            assert await code_of(call) == "UNAUTHENTICATED"
        for name in ("FetchFiles", "FetchUpload"):
            request = getattr(pb, f"{name}Request")(key=KEY)
            call = getattr(desk.stub, name)(request, metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError, match=r"needs a token|not valid"):
                await call.read()
        with pytest.raises(grpc.aio.AioRpcError, match=r"needs a token|not valid"):
            await attach(desk, metadata, hello())


async def test_a_stream_that_begins_without_a_hello_is_refused(desk: Desk) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="must be a hello"):
        await attach(desk, await desk.joined(), Ping(1))


async def test_events_of_a_run_that_is_not_its_own_are_refused(desk: Desk, tmp_path: Path) -> None:
    mine, others = await desk.joined(), await desk.joined("a2", "other")
    await attach(desk, mine, hello())
    launching = asyncio.create_task(desk.agents.launch(spec_of(tmp_path / "r1")))
    await asyncio.sleep(0)
    agent = desk.agents.get("a1")
    assert agent is not None
    desk.agents.receive(agent, Launched(AttemptKey("r1", 1), TrainerProcess(4242, 1)))
    await launching
    request = pb.AppendEventsRequest(key=KEY, data=b"x")
    assert await code_of(desk.stub.AppendEvents(request, metadata=others)) == "PERMISSION_DENIED"
    answer = await desk.stub.AppendEvents(request, metadata=mine)
    assert answer.offset == 1
    jump = pb.AppendEventsRequest(key=KEY, offset=5, data=b"x")
    assert await code_of(desk.stub.AppendEvents(jump, metadata=mine)) == "FAILED_PRECONDITION"
    big = pb.AppendEventsRequest(key=KEY, offset=1, data=bytes((1 << 20) + 1))
    assert await code_of(desk.stub.AppendEvents(big, metadata=mine)) == "INVALID_ARGUMENT"
    unknown = pb.AppendEventsRequest(key=pb.AttemptKey(run_id="r1", attempt=2), data=b"x")
    assert await code_of(desk.stub.AppendEvents(unknown, metadata=mine)) == "FAILED_PRECONDITION"
    assert (tmp_path / "r1" / "spool" / "1").read_bytes() == b"x"

    data = b"weights"
    file = pb.FileChunks(
        path="model.pt", size_bytes=len(data), chunks=[hashlib.sha256(data).digest()]
    )
    compare = pb.CompareFilesRequest(key=KEY, files=[file])
    assert (
        await code_of(desk.stub.CompareFiles(iter([compare]), metadata=others))
        == "PERMISSION_DENIED"
    )
    missing = (await desk.stub.CompareFiles(iter([compare]), metadata=mine)).missing
    assert list(missing) == list(file.chunks)

    async def chunks() -> AsyncIterator[pb.UploadChunksRequest]:
        yield pb.UploadChunksRequest(key=KEY, data=data)

    assert await code_of(desk.stub.UploadChunks(chunks(), metadata=others)) == "PERMISSION_DENIED"
    await desk.stub.UploadChunks(chunks(), metadata=mine)
    commit = pb.CommitFilesRequest(key=KEY, files=[file])
    await desk.stub.CommitFiles(iter([commit]), metadata=mine)
    assert (tmp_path / "r1" / "model.pt").read_bytes() == data
    fetch = desk.stub.FetchFiles(pb.FetchFilesRequest(key=KEY), metadata=mine)
    first, got = [answer async for answer in fetch]
    assert first == pb.FetchFilesResponse(etag=first.etag), "the state of all files alone"
    assert (got.path, got.data) == ("model.pt", data)
    for odd in (
        pb.FileChunks(path="x", size_bytes=1, chunks=[b"short"]),
        pb.FileChunks(path="", size_bytes=1, chunks=[bytes(32)]),
    ):
        asked = iter([pb.CompareFilesRequest(key=KEY, files=[odd])])
        assert await code_of(desk.stub.CompareFiles(asked, metadata=mine)) == "INVALID_ARGUMENT"
    unheard = desk.stub.CompareFiles(iter(()), metadata=mine)
    assert await code_of(unheard) == "FAILED_PRECONDITION"


async def test_files_are_put_together_once_at_a_time_and_only_while_the_attempt_goes_on(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await desk.joined()
    await attach(desk, mine, hello())
    launching = asyncio.create_task(desk.agents.launch(spec_of(tmp_path / "r1")))
    await asyncio.sleep(0)
    agent = desk.agents.get("a1")
    assert agent is not None
    key = AttemptKey("r1", 1)
    desk.agents.receive(agent, Launched(key, TrainerProcess(4242, 1)))
    await launching
    began, may_end, asked = asyncio.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    commits: list[int] = []

    def commit(arrivals: Arrivals, files: object, removed: object) -> None:
        commits.append(1)
        loop.call_soon_threadsafe(began.set)
        may_end.wait()

    monkeypatch.setattr(Arrivals, "commit", commit)
    request = pb.CommitFilesRequest(key=KEY, removed=["x"])
    first = desk.stub.CommitFiles(iter([request]), metadata=mine)
    await began.wait()
    first.cancel()  # as a deadline does: the agent asks again

    find = desk.agents.attempt

    def note(name: str, wanted: AttemptKey) -> RemoteAttempt:
        asked.set()
        return find(name, wanted)

    monkeypatch.setattr(desk.agents, "attempt", note)
    second = asyncio.create_task(code_of(desk.stub.CommitFiles(iter([request]), metadata=mine)))
    await asked.wait()
    desk.agents.forget(key)
    may_end.set()
    assert await second == "FAILED_PRECONDITION"
    assert commits == [1]


async def test_a_server_that_stops_ends_the_streams_of_its_agents(desk: Desk) -> None:
    metadata = await desk.joined()
    stream, _ = await attach(desk, metadata, hello())
    desk.service.drain()
    async with asyncio.timeout(30):
        assert await stream.read() is grpc.aio.EOF
    with pytest.raises(grpc.aio.AioRpcError, match="is stopping"):
        await attach(desk, metadata, hello())
