"""The GPUs that a server knows of: its machine's, and those of its agents."""

from __future__ import annotations

import asyncio
import re

from lab_rpc.v1 import gpu_pb2
from lab_server.agent.host import host_name
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.remote.registry import Agents
from lab_server.messages.gpus import gpu_to_proto
from lab_server.model.agent import HOSTS_POOL


class Gpus:
    """Tells what they do.

    Args:
        devices: the GPUs of the server's machine.
        agents: with the GPUs of theirs.
    """

    def __init__(self, devices: Devices, agents: Agents) -> None:
        self._devices = devices
        self._agents = agents

    async def read(self) -> list[gpu_pb2.Gpu]:
        """Return them; an agent that is out of reach does not tell any more."""
        attached = [agent for agent in self._agents if agent.send is not None]
        found = [
            gpu_pb2.Gpu(pool=agent.pool, agent=agent.name, reading=gpu_to_proto(gpu))
            for agent in attached
            for gpu in agent.gpus
        ]
        # the agent of this machine's own slots tells of the same
        here = re.compile(f"{re.escape(host_name())}(-.{{4}})?")  # as `run_host` names it
        hosts = [agent.name for agent in attached if agent.pool == HOSTS_POOL and agent.gpus]
        if not any(map(here.fullmatch, hosts)):
            own = await asyncio.to_thread(self._devices.readings)
            found[:0] = [gpu_pb2.Gpu(reading=gpu_to_proto(gpu)) for gpu in own]
        return found
