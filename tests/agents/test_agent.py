"""An agent on a real AgentService: what it is asked to do is done once, also when its disk refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from lab_server.agent.agent import Agent
from lab_server.agent.home import AgentHome, Identity
from lab_server.agent.servers import GivenServers
from lab_server.errors import LaunchError
from lab_server.executors.gpu_readings import Devices
from lab_server.files.lease import Lease
from lab_server.model.agent import AGENT_LEFT, Command, Launch
from lab_server.model.gpu import GpuReading
from tests.agents.conftest import Desk
from tests.agents.test_held_attempts import Trainer
from tests.agents.test_registry import KEY, spec_of

COMMAND = '{"attempt": 1, "command": "stop"}'


class Attached:
    """An agent that attaches, and its trainers."""

    def __init__(
        self, desk: Desk, home: AgentHome, identity: Identity, devices: Devices | None = None
    ) -> None:
        self.desk = desk
        self.home = home
        self.trainer = Trainer()
        self.agent = Agent(
            *(home, identity, self.trainer, {}, GivenServers([desk.address]), None),
            devices=devices,
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._running = asyncio.create_task(self.agent.run())
        await self.agent.attached.wait()

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def tell(self, *said: Any) -> None:
        agent = self.desk.agents.get("a1")
        assert agent is not None
        assert agent.send is not None
        for each in said:
            agent.send(each)


@pytest.fixture
async def attached(desk: Desk, tmp_path: Path) -> AsyncIterator[Attached]:
    home = AgentHome(tmp_path / "agent")
    ((_, bearer),) = await desk.joined()
    credential = bearer.removeprefix("Bearer lab_").partition("_")[0]
    with home.opened(), structlog.testing.capture_logs():
        attached = Attached(desk, home, Identity("a1", "gpus", "secret", credential))
        yield attached
        await attached.stop()


async def test_a_disk_that_refuses_the_lease_does_not_end_the_agent(
    attached: Attached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()

    def refuse(lease: Lease, path: Path) -> None:
        refused.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Lease, "write", refuse)
    await attached.start()
    await refused.wait()
    async with asyncio.timeout(30):
        await attached.desk.agents.launch(spec_of(tmp_path / "r1"))


async def test_a_launch_that_comes_twice_is_done_once_and_what_follows_is_not_dropped(
    attached: Attached, tmp_path: Path
) -> None:
    await attached.start()
    spec = spec_of(tmp_path / "r1")
    launching = asyncio.create_task(attached.desk.agents.launch(spec))
    await asyncio.sleep(0)
    attached.tell(Launch(KEY, spec, "cpu:0"), Command(KEY, COMMAND))
    async with asyncio.timeout(30):
        assert (await launching).pid
        while attached.home.folder(spec).commands(1) != [COMMAND]:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert attached.trainer.num_launched == 1


async def test_an_agent_that_stops_says_so_when_it_attaches_and_launches_nothing(
    attached: Attached, tmp_path: Path
) -> None:
    await attached.agent.leave(0.0)
    await attached.start()
    agent = attached.desk.agents.get("a1")
    assert agent is not None
    assert agent.is_leaving
    with pytest.raises(LaunchError, match=AGENT_LEFT):
        await attached.desk.agents.launch(spec_of(tmp_path / "r1"))


class OneGpu(Devices):
    """A machine with a GPU that does not tell its power."""

    def open(self) -> None:
        pass

    def readings(self) -> list[GpuReading]:
        return [GPU]


GPU = GpuReading("cuda:0", 0.5, 2e9, 8e9, 61.0, None)


async def test_an_agent_tells_what_its_gpus_do(desk: Desk, tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "agent")
    ((_, bearer),) = await desk.joined()
    credential = bearer.removeprefix("Bearer lab_").partition("_")[0]
    with home.opened(), structlog.testing.capture_logs():
        attached = Attached(desk, home, Identity("a1", "gpus", "secret", credential), OneGpu())
        await attached.start()
        async with asyncio.timeout(30):
            while True:
                agent = desk.agents.get("a1")
                if agent is not None and agent.gpus:
                    break
                await asyncio.sleep(0.01)
        assert agent.gpus == (GPU,)
        await attached.stop()
