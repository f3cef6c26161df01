"""Agents of two servers on one store: a server with another home goes on with what its agents hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab_client
from tests.agents.test_real_agents import (
    TOYS,
    Gate,
    recorded,
    told_by,
    wait_until,
    weights,
)
from tests.postgres import Postgres
from tests.servers import RealAgent, RealServer, start_agent, start_server

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0


class Trio:
    """Two servers with a store in common and nothing else, and an agent that knows both."""

    def __init__(self, folder: Path, url: str) -> None:
        arguments = ("--slots", "none", "--experiments", str(TOYS), "--store", url)
        names = ("leader", "follower")
        self.leader, self.follower = [start_server(folder / n, *arguments) for n in names]
        self.addresses = f"{self.leader.address},{self.follower.address}"
        self.agent: RealAgent = start_agent(
            self.addresses, folder / "a1", "--experiments", str(TOYS)
        )

    @property
    def servers(self) -> tuple[RealServer, RealServer]:
        return self.leader, self.follower


@pytest.fixture
def trio(tmp_path: Path, postgres: Postgres) -> Iterator[Trio]:
    trio = Trio(tmp_path, postgres.new_url())
    yield trio
    trio.agent.stop()
    for server in trio.servers:
        if server.process.poll() is None:
            server.stop()


def test_a_server_with_another_home_takes_over_and_the_run_on_an_agent_goes_on(
    trio: Trio, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    with lab_client.Client(trio.addresses, timeout_s=PATIENCE_S) as client:
        twin = client.create("toy", {}).start()
        undisturbed = told_by(twin), weights(twin), recorded(twin)
        run = client.create("toy", gate.overrides).start()
        gate.wait()
        wait_until(lambda: run.refresh().checkpoint_step is not None, "a checkpoint")
        pid_file = next(trio.agent.home.glob("runs/*/*/spool/1.pid"))
        trainer = json.loads(pid_file.read_text())
        trio.leader.process.kill()
        trio.leader.process.wait()
        wait_until(lambda: "leading" in trio.follower.log.read_text(), "another leader")
        assert json.loads(pid_file.read_text()) == trainer
        folder = trio.follower.home / "runs" / "toy" / run.id
        # what was taken before the takeover arrives there while the trainer waits
        wait_until(lambda: any(folder.glob("checkpoints/[0-9]*")), "the files")
        gate.open()
        told = told_by(run)
        assert told["points"] == undisturbed[0]["points"]
        assert (run.refresh().state, run.info.attempt) == ("COMPLETED", 1)
        assert Path(run.info.folder).is_relative_to(trio.follower.home)
        assert (weights(run), recorded(run)) == undisturbed[1:]
        assert client.create("toy", {}).start().wait().state == "COMPLETED"
