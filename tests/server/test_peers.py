"""PeerService: files and code for servers of the store, for nobody else, and of runs alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from lab_rpc.v1 import peer_service_pb2 as pb
from lab_rpc.v1.peer_service_pb2_grpc import PeerServiceStub
from lab_server.files.home import Home
from lab_server.model.run import Run, RunRequest
from lab_server.rpc.calls.handlers import PEER, handlers
from lab_server.rpc.peers import PeerService
from lab_server.rpc.server import interceptor
from lab_server.security.host_tokens import HostTokens
from tests.memory_store import MemoryStore

PURPOSE = "calls between servers"
CALLS = {
    "ListRunFiles": pb.ListRunFilesRequest(run_id="r1", experiment="toy"),
    "FetchRunFiles": pb.FetchRunFilesRequest(run_id="r1", experiment="toy", paths=["log.txt"]),
    "DropRunFiles": pb.DropRunFilesRequest(run_id="r1", experiment="toy"),
    "FetchCode": pb.FetchCodeRequest(upload_id="0" * 64),
}


class Peer:
    """A server with the files of a run of another home, and one that asks it."""

    def __init__(self, home: Path, store: MemoryStore, channel: grpc.aio.Channel) -> None:
        self.store, self.home = store, Home(home)
        self.log = self.home.run_folder("toy", "r1").log
        self._stub: Any = PeerServiceStub(channel)

    async def call(self, name: str, request: object, token: str) -> grpc.StatusCode:
        """Return how a call ends."""
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        call = getattr(self._stub, name)(request, metadata=metadata, timeout=60)
        try:
            if isinstance(call, grpc.aio.UnaryStreamCall):
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    store = MemoryStore()
    await store.create(Run("r1", RunRequest("toy"), home="another"), None)
    server = grpc.aio.server(interceptors=[interceptor(CollectorRegistry())])
    service = PeerService(tmp_path, store, HostTokens(b"secret", PURPOSE))
    server.add_generic_rpc_handlers((handlers(PEER, service),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        peer = Peer(tmp_path, store, channel)
        peer.log.parent.mkdir(parents=True)
        peer.log.write_text("loss 0.5")
        yield peer
    await server.stop(0)


@pytest.mark.parametrize("name", CALLS)
async def test_only_servers_of_the_store_are_answered(peer: Peer, name: str) -> None:
    for token in (
        "",
        "garbage",
        HostTokens(b"another store's", PURPOSE).new(),
        HostTokens(b"secret").new(),  # by which the agent of a host joins
        HostTokens(b"secret", PURPOSE, lambda: 0.0).new(),
    ):
        assert await peer.call(name, CALLS[name], token) is grpc.StatusCode.UNAUTHENTICATED
    assert peer.log.exists()
    expected = grpc.StatusCode.NOT_FOUND if name == "FetchCode" else grpc.StatusCode.OK
    proof = HostTokens(b"secret", PURPOSE).new()
    assert await peer.call(name, CALLS[name], proof) is expected
    assert peer.log.exists() == (name != "DropRunFiles")


@pytest.mark.parametrize("name", ["ListRunFiles", "FetchRunFiles", "DropRunFiles"])
@pytest.mark.parametrize("run_id", ["", ".", "..", "../toy", "../../runs", "absolute"])
async def test_an_id_that_is_no_runs_reaches_nothing(peer: Peer, name: str, run_id: str) -> None:
    if run_id == "absolute":  # each leads to what the test made: whatever is wrong, no more is lost
        run_id = str(peer.log.parent)
    request = type(CALLS[name])(run_id=run_id, experiment="toy")
    proof = HostTokens(b"secret", PURPOSE).new()
    assert await peer.call(name, request, proof) is grpc.StatusCode.NOT_FOUND
    assert peer.log.exists()


async def test_files_whose_home_it_is_are_not_dropped(peer: Peer) -> None:
    here = Run("r2", RunRequest("toy"), home=peer.home.server_id())
    await peer.store.create(here, None)
    log = peer.home.run_folder("toy", "r2").log
    log.parent.mkdir()
    log.touch()
    request = pb.DropRunFilesRequest(run_id="r2", experiment="toy")
    proof = HostTokens(b"secret", PURPOSE).new()
    assert await peer.call("DropRunFiles", request, proof) is grpc.StatusCode.FAILED_PRECONDITION
    assert log.exists()


@pytest.mark.parametrize("run_id", ["", ".", "..", "../toy", "/absolute", "r1/checkpoints"])
def test_a_home_has_no_folder_of_what_is_no_runs_id(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ValueError, match="no run's id"):
        Home(tmp_path).run_folder("toy", run_id)
