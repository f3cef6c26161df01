"""Trainers here and on agents behind one executor."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab_server.errors import LaunchError
from lab_server.executors.cluster import ClusterExecutor
from lab_server.executors.pools.pools import Pools
from lab_server.executors.remote.registry import Agents
from lab_server.model.agent import Launch
from lab_server.model.upload import Upload
from tests.agents.test_pools import no_token
from tests.agents.test_registry import Side, spec_of
from tests.server.fakes import FakeExecutor

SENT = Upload("0" * 64, "sine")


@pytest.mark.parametrize("takes_uploads", [True, False])
async def test_sent_code_is_started_on_agents_only_while_the_server_takes_any(
    tmp_path: Path, takes_uploads: bool
) -> None:
    agents = Agents(30.0)
    side = Side(agents)
    pools = Pools((), agents, server="lab:1", owner="50e5", join_token=no_token)
    executor = ClusterExecutor(FakeExecutor(), agents, pools, takes_uploads=takes_uploads)
    spec = spec_of(tmp_path, upload=SENT)
    launching = asyncio.create_task(executor.launch(spec))
    await asyncio.sleep(0)
    asked = [said.spec.upload for said in side.told if isinstance(said, Launch)]
    if takes_uploads:
        assert asked == [SENT]
        launching.cancel()
    else:
        assert asked == []
        with pytest.raises(LaunchError, match="takes no code from clients any more"):
            await launching
    agents.close()
