"""Servers on PostgreSQL: each one's own slots are an agent on its host, which outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import lab_client
from lab_client.events import Truncate
from lab_server.agent.host import HostFolder, host_name
from lab_server.model.run import TrainerProcess
from tests.agents.test_real_agents import Gate, recorded, told_by, wait_until, weights
from tests.postgres import Postgres
from tests.servers import RealServer, end_agent, start_server

pytestmark = pytest.mark.slow

TOYS = Path(__file__).parents[1] / "runs" / "toys.py"
PATIENCE_S = 120.0

EDITED = """
import time
from pathlib import Path

from lab_core import tracker
from lab_core.configs import BaseConfigs

class Configs(BaseConfigs):
    size: int = {value}

    def run(self) -> None:
        tracker.save(1, value={value})
        while not Path({gate!r}).exists():
            time.sleep(0.01)
"""


@dataclass
class Servers:
    """Servers on one store, each with a home and a slot of its own, unless they share a home."""

    folder: Path
    url: str
    started: list[RealServer] = field(default_factory=list)

    def start(self, home: str, *arguments: str, experiments: Path = TOYS) -> RealServer:
        """Start a server; one that dies leaves the agent."""
        server = start_server(
            self.folder / home,
            *("--slots", "cpu:1", "--experiments", str(experiments), "--store", self.url),
            *("--on-shutdown", "leave", *arguments),
            log_name=f"server{len(self.started)}.log",
        )
        self.started.append(server)
        return server

    def stop(self) -> None:
        """End the servers and their agents."""
        for server in reversed(self.started):
            if server.process.poll() is None:
                server.stop()
        for server in self.started:
            end_agent(server.home)


@pytest.fixture
def servers(tmp_path: Path, postgres: Postgres) -> Iterator[Servers]:
    servers = Servers(tmp_path, postgres.new_url())
    yield servers
    servers.stop()


def agent_of(server: RealServer) -> TrainerProcess:
    agent = HostFolder(server.home).running()
    assert agent is not None, "the server has no agent"
    return agent


def has_no_agent(server: RealServer) -> bool:
    return HostFolder(server.home).running() is None


def kill(server: RealServer) -> None:
    server.process.kill()
    server.process.wait()


def has_the_checkpoint(server: RealServer, run: lab_client.Run) -> bool:
    return (server.home / "runs" / "toy" / run.id / "checkpoints" / "30").is_dir()


def leads(server: RealServer) -> bool:
    return "leading" in server.log.read_text()


def until_told_of(leader: RealServer, follower: RealServer) -> None:
    """Wait until the agent of one server knows where the other one is."""
    file = HostFolder(leader.home).path / "servers.json"
    wait_until(lambda: file.exists() and follower.address in file.read_text(), "the address")


def test_a_leader_with_a_home_of_its_own_dies_and_its_trainings_go_on(
    servers: Servers, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    leader, follower = servers.start("a"), servers.start("b", "--slots", "none")
    with lab_client.Client(f"{leader.address},{follower.address}", timeout_s=PATIENCE_S) as client:
        twin = client.create("toy", {}).start()
        undisturbed = told_by(twin), weights(twin), recorded(twin)
        run = client.create("toy", gate.overrides).start()
        gate.wait()
        wait_until(lambda: run.refresh().checkpoint_step is not None, "a checkpoint")
        assert run.info.slot == f"hosts/{host_name()}/cpu:0"
        before = agent_of(leader)
        until_told_of(leader, follower)
        wait_until(lambda: has_the_checkpoint(leader, run), "the files")
        kill(leader)
        wait_until(lambda: leads(follower), "another leader")
        # also what the dead server had of it, while its trainer waits
        wait_until(lambda: has_the_checkpoint(follower, run), "the files")
        gate.open()

        told = told_by(run)
        events = list(run.events())
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert told["points"] == undisturbed[0]["points"]
        assert (run.refresh().state, run.info.attempt) == ("COMPLETED", 1)
        assert Path(run.info.folder).is_relative_to(follower.home)
        assert (weights(run), recorded(run)) == undisturbed[1:]
        assert agent_of(leader) == before
        # it has the dead server's slot, and takes new runs of the next leader
        assert client.create("toy", {}).start().wait().state == "COMPLETED"


def test_code_that_a_client_sends_runs_in_the_own_slots_where_the_server_allows_it(
    servers: Servers, tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    sent = tmp_path / "sent.py"
    sent.write_text(EDITED.format(value=3, gate=str(tmp_path / "gate")))
    server = servers.start("a", "--allow-uploads")
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        run = client.create(sent).start()
        run.wait(check=True)
        assert run.refresh().slot == "" or run.info.slot.startswith("hosts/")
        assert list(run.history()["value"].values) == [3.0]
    assert len(list(server.home.glob("agents/*/uploads/*/files/sent.py"))) == 1


def test_a_server_finds_the_agent_of_the_one_before_and_its_training(
    servers: Servers, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    server = servers.start("a")
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        run_id = client.create("toy", gate.overrides).start().id
    gate.wait()
    before = agent_of(server)
    kill(server)
    server = servers.start("a")
    assert agent_of(server) == before
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        gate.open()
        run = client.run(run_id)
        assert (run.wait().state, run.info.attempt) == ("COMPLETED", 1)


def test_an_agent_of_other_options_is_replaced_and_its_training_goes_on(
    servers: Servers, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    server = servers.start("a")
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        run_id = client.create("toy", gate.overrides).start().id
    gate.wait()
    before = agent_of(server)
    kill(server)
    server = servers.start("a", "--slots", "cpu:2")
    assert agent_of(server) != before
    assert not psutil.pid_exists(before.pid)
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        wait_until(lambda: len(client.server_info().slots) == 2, "the slots")
        gate.open()
        run = client.run(run_id)
        assert (run.wait().state, run.info.attempt) == ("COMPLETED", 1)


def test_an_agent_that_was_killed_is_started_again_and_its_training_goes_on(
    servers: Servers, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    server = servers.start("a")
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        run = client.create("toy", gate.overrides).start()
        gate.wait()
        before = agent_of(server)
        os.kill(before.pid, signal.SIGKILL)
        wait_until(lambda: HostFolder(server.home).running() not in (None, before), "an agent")
        gate.open()
        assert (run.wait().state, run.info.attempt) == ("COMPLETED", 1)


def test_a_server_that_stops_takes_an_agent_with_it_that_holds_nothing(servers: Servers) -> None:
    server = servers.start("a")
    server.process.send_signal(signal.SIGINT)  # as Ctrl-C does
    server.process.wait(PATIENCE_S)
    assert has_no_agent(server)


def test_an_agent_that_trains_stays_until_it_has_ended(servers: Servers, tmp_path: Path) -> None:
    gate = Gate(tmp_path, step=34)
    leader, follower = servers.start("a"), servers.start("b", "--slots", "none")
    with lab_client.Client(f"{leader.address},{follower.address}", timeout_s=PATIENCE_S) as client:
        run = client.create("toy", gate.overrides).start()
        gate.wait()
        leader.process.send_signal(signal.SIGINT)
        leader.process.wait(PATIENCE_S)
        assert not has_no_agent(leader)
        gate.open()
        assert (run.wait().state, run.info.attempt) == ("COMPLETED", 1)
    wait_until(lambda: has_no_agent(leader), "the agent's end")


@pytest.mark.parametrize("is_leader", [True, False])
def test_stopping_trainers_with_the_server_saves_them_for_the_next(
    servers: Servers, tmp_path: Path, is_leader: bool
) -> None:
    gate = Gate(tmp_path)
    if not is_leader:
        servers.start("b", "--slots", "none")
    server = servers.start("a", "--on-shutdown", "stop", "--grace-s", "60")
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        # at that step it waits until it is asked to end
        config = {"stop_at": 34, "gate": gate.overrides["gate"]}
        run_id = client.create("toy", config).start().id
        gate.wait()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE_S)
    assert has_no_agent(server)
    server = servers.start("a")
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        run = client.run(run_id)
        assert (run.wait().state, run.info.attempt) == ("COMPLETED", 2)
        (resumed,) = [e.body for e in run.events() if isinstance(e.body, Truncate)]
        assert resumed.checkpoint_step == 34, "it saved when it was asked to end"


def test_tokens_and_certificates_do_not_keep_the_agent_out(
    servers: Servers, tmp_path: Path
) -> None:
    def command(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "lab_server", *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    tokens, certs = tmp_path / "tokens.json", tmp_path / "certs"
    token = command("tokens", "create", "me", "--role", "admin", "--tokens", str(tokens)).split()[
        -1
    ]
    command("certs", "init", "--dir", str(certs), "--client", "me")
    server = servers.start(
        "a",
        *("--tls-cert", str(certs / "server.crt"), "--tls-key", str(certs / "server.key")),
        *("--tls-client-ca", str(certs / "ca.crt"), "--tokens", str(tokens)),
    )
    proof: dict[str, Any] = {"cert": certs / "me.crt", "key": certs / "me.key"}
    with lab_client.Client(
        server.address, token=token, ca=certs / "ca.crt", timeout_s=PATIENCE_S, **proof
    ) as client:
        assert client.create("toy", {}).start().wait().state == "COMPLETED"


def test_two_homes_on_one_host_have_slots_of_different_names(servers: Servers) -> None:
    first, second = servers.start("a"), servers.start("b")
    with lab_client.Client(second.address, timeout_s=PATIENCE_S) as client:
        wait_until(lambda: len(client.server_info().slots) == 2, "both agents")
        names = {slot.name.split("/")[1] for slot in client.server_info().slots}
    assert host_name() in names
    (other,) = names - {host_name()}
    assert other.startswith(f"{host_name()}-")
    assert agent_of(first) != agent_of(second)


def test_an_agent_that_cannot_start_is_the_servers_error(servers: Servers, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "agents" / host_name()
    folder.mkdir(parents=True)
    (folder / "attempts").write_text("in the way")
    with pytest.raises(
        RuntimeError, match=r"lab-server: the agent of the own slots ended: .*cannot"
    ):
        servers.start("a")


def test_edited_experiments_are_trained_as_they_are_now(servers: Servers, tmp_path: Path) -> None:
    code, gate = tmp_path / "edited.py", tmp_path / "gate"

    def edit(value: int) -> None:
        code.write_text(EDITED.format(value=value, gate=str(gate)))

    edit(1)
    server = servers.start("a", experiments=code)
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        first = client.create("edited").start()
        waiting = client.create("edited").start()
        wait_until(lambda: first.refresh().state == "RUNNING", "the first")
        edit(2)
        gate.touch()
        for run in (waiting, client.create("edited").start()):
            assert run.wait().state == "COMPLETED"
            assert list(run.history()["value"].values) == [2.0]
        assert list(first.history()["value"].values) == [1.0]


def test_a_follower_has_its_own_agent_reload(servers: Servers, tmp_path: Path) -> None:
    code, gate = tmp_path / "edited.py", tmp_path / "gate"
    gate.touch()
    code.write_text(EDITED.format(value=1, gate=str(gate)))
    leader = servers.start("a", "--slots", "none", "--no-auto-reload", experiments=code)
    follower = servers.start("b", "--no-auto-reload", experiments=code)
    with lab_client.Client(leader.address, timeout_s=PATIENCE_S) as client:
        code.write_text(EDITED.format(value=2, gate=str(gate)))
        reload = [sys.executable, "-m", "lab_server", "reload", "--home", str(follower.home)]
        subprocess.run(reload, check=True, timeout=60)

        def is_another() -> bool:
            run = client.create("edited").start()  # as the leader knows it still
            wait_until(
                lambda: run.refresh().state == "COMPLETED" or "another version" in run.info.reason,
                "its end or a reason to wait",
            )
            if run.info.state == "COMPLETED":
                return False
            run.stop()
            return True

        wait_until(is_another, "the agent's other version")


def test_reload_reaches_the_agent_where_the_look_for_edits_is_off(
    servers: Servers, tmp_path: Path
) -> None:
    code, gate = tmp_path / "edited.py", tmp_path / "gate"
    gate.touch()
    code.write_text(EDITED.format(value=1, gate=str(gate)))
    server = servers.start("a", "--no-auto-reload", experiments=code)
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        code.write_text(EDITED.format(value=2, gate=str(gate)))
        before = client.create("edited").start()
        assert before.wait().state == "COMPLETED"
        reload = [sys.executable, "-m", "lab_server", "reload", "--home", str(server.home)]
        subprocess.run(reload, check=True, timeout=60)
        wait_until(lambda: client.plan("edited").values["size"] == 2, "the edit")
        run = client.create("edited").start()
        assert run.wait().state == "COMPLETED"
        assert list(before.history()["value"].values) == [1.0]
        assert list(run.history()["value"].values) == [2.0]
