"""An AgentService on a real port, without the rest of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

import lab_server
from lab_rpc.v1 import agent_service_pb2 as pb
from lab_server.agent.link import stub_of
from lab_server.executors.remote.registry import Agents
from lab_server.files.uploads import UploadStore
from lab_server.rpc.agents import AgentService
from lab_server.rpc.calls.handlers import AGENT, handlers
from lab_server.rpc.server import interceptor
from lab_server.security.agents import AgentCredentials
from lab_server.security.tokens import hash_of, written
from tests.memory_agents import MemoryAgents


@dataclass
class Desk:
    """The service, and how to call it as an agent."""

    agents: Agents
    service: AgentService
    stub: Any
    address: str
    uploads: UploadStore

    async def joined(self, name: str = "a1", secret: str = "secret") -> Any:
        """Join, and return the metadata of the agent's calls."""
        request = pb.JoinRequest(
            version=lab_server.__version__, name=name, pool="gpus", secret_sha256=hash_of(secret)
        )
        answer = await self.stub.Join(request)
        return (("authorization", f"Bearer {written(answer.credential_id, secret)}"),)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Serve on a free port, with the interceptors that the real server has."""
    agents = Agents(lease_s=30.0)
    uploads = UploadStore(tmp_path / "server" / "uploads")
    service = AgentService(agents, AgentCredentials(MemoryAgents(), None), uploads=uploads)
    server = grpc.aio.server(interceptors=[interceptor(CollectorRegistry())])
    server.add_generic_rpc_handlers((handlers(AGENT, service),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Desk(agents, service, stub_of(channel), f"127.0.0.1:{port}", uploads)
    agents.close()
    await server.stop(0)
