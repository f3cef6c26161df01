"""The files of runs that ended under a leader with another home: read, forked and resumed under the next one."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab_client
from lab_client.errors import Unavailable
from tests.agents.test_real_agents import Gate, recorded, told_by, wait_until, weights
from tests.integration.test_own_slots import PATIENCE_S, Servers, kill, leads, until_told_of
from tests.postgres import Postgres
from tests.servers import RealServer

pytestmark = pytest.mark.slow


class Changed:
    """Two runs that completed, one that failed, and a fork that waits, all of a leader that was killed.

    Attributes:
        before: the server that led, in its home.
        leader: the one that leads now, in another.
    """

    def __init__(self, servers: Servers, gate: Gate) -> None:
        self.servers = servers
        self.before = servers.start("a")
        self.leader = servers.start("b", "--slots", "none")
        with lab_client.Client(self.before.address, timeout_s=PATIENCE_S) as client:
            completed = client.create("toy", {}).start()
            self.told = told_by(completed)
            self.files = {a.path: a.size_bytes for a in completed.artifacts()}
            self.weights, self.recorded = weights(completed), recorded(completed)
            unneeded = client.create("toy", {}).start()
            assert unneeded.wait().state == "COMPLETED"
            failed = client.create("toy", {"raise_at": 34}).start()
            assert failed.wait().state == "FAILED"
            busy = client.create("toy", gate.overrides).start()
            gate.wait()
            fork = client.run(completed.id).fork(step=40)  # and starts, when its turn comes
            self.completed, self.unneeded, self.failed, self.fork, self.busy = (
                run.id for run in (completed, unneeded, failed, fork, busy)
            )
        until_told_of(self.before, self.leader)
        kill(self.before)
        wait_until(lambda: leads(self.leader), "another leader")
        with self.client() as client:
            client.run(self.completed).update(
                notes="of the leader before"
            )  # once the next one takes it

    def client(self) -> lab_client.Client:
        addresses = f"{self.leader.address},{self.before.address}"
        return lab_client.Client(addresses, timeout_s=PATIENCE_S)

    def start_again(self) -> RealServer:
        """Start the server of the first home again; it follows."""
        self.before = self.servers.start("a")
        return self.before


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Changed]:
    folder = tmp_path_factory.mktemp("homes")
    servers = Servers(folder, postgres.new_url())
    gate = Gate(folder, step=34)
    try:
        changed = Changed(servers, gate)
        gate.open()
        yield changed
    finally:
        servers.stop()


def test_while_the_server_that_has_them_is_away_errors_name_it(
    changed: Changed, tmp_path: Path
) -> None:
    away = f"on the server {changed.before.address}, which is away: start it again"
    with lab_client.Client(
        changed.leader.address, timeout_s=PATIENCE_S, retry_timeout_s=0
    ) as client:
        run = client.run(changed.completed)
        for ask in (
            run.artifacts,
            lambda: run.download("run.yaml", tmp_path / "run.yaml"),
            lambda: run.fork(step=40),
            client.run(changed.failed).resume,
        ):
            with pytest.raises(Unavailable, match=away):
                ask()
        wait_until(lambda: away in (client.run(changed.fork).info.reason or ""), "the reason")
        assert client.run(changed.fork).info.state == "QUEUED"


def test_with_it_any_server_serves_them_and_the_leader_goes_on_from_them(
    changed: Changed, tmp_path: Path
) -> None:
    before = changed.start_again()
    leader = changed.leader
    with changed.client() as client:
        run = client.run(changed.completed)
        files = {a.path: a.size_bytes for a in run.artifacts()}
        assert {path: files.get(path) for path in changed.files} == changed.files
        path = run.download("run.yaml", tmp_path / "run.yaml")
        kept = before.home / "runs" / "toy" / run.id
        assert Path(path).read_bytes() == (kept / "run.yaml").read_bytes()
        for server in (leader, before):
            url = f"{server.http_url}/api/v1/runs/{run.id}/logs"
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                assert b"loss" in answer.read()

        # the fork that waited for its checkpoint, one of now, and a run that failed
        ended = client.run(changed.fork)
        assert told_by(ended)["points"], "it trained from its parent's checkpoint"
        again = run.fork(step=40)
        assert again.wait().state == "COMPLETED"
        assert weights(ended) == weights(again) == changed.weights
        resumed = client.run(changed.failed)
        resumed.resume()
        wait_until(lambda: resumed.refresh().state == "FAILED", "its second failure")
        assert resumed.info.attempt == 2
        assert resumed.info.step == 34

        # what was needed is here now, and no longer there
        here = leader.home / "runs" / "toy" / run.id
        assert {p.name for p in (here / "checkpoints").iterdir()} >= {"40"}
        wait_until(lambda: not kept.exists(), "that the other server lets go of it")
        assert recorded(run) == changed.recorded
        shutil.rmtree(tmp_path, ignore_errors=True)

        run.delete()
        assert not here.exists()
        assert client.run(changed.busy).wait().state == "COMPLETED"

        # deleted here, gone there
        kept = before.home / "runs" / "toy" / changed.unneeded
        assert kept.is_dir()
        client.run(changed.unneeded).delete()
        wait_until(lambda: not kept.exists(), "that the other server lets go of it")
