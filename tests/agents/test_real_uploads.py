"""Code that a client sends, run by real agents: as on the server's machine, and only where that is allowed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_client import Client, ConfigError, RunOptions, RunState
from tests.agents.proxy import Proxy
from tests.agents.test_real_agents import wait_until
from tests.servers import RealAgent, RealServer, start_agent, start_server

pytestmark = pytest.mark.slow

SINE = """
import time
from pathlib import Path

import helper
from lab_core import tracker
from lab_core.helpers.training_loop import TrainingLoopConfigs


class Configs(TrainingLoopConfigs):
    loop_count = 6
    gate: str = ""
    pause_s: float = 0.0

    def run(self) -> None:
        for step in self.training_loop:
            while self.gate and step == 4 and not Path(self.gate).exists():
                Path(self.gate + ".reached").touch()
                time.sleep(0.005)
            time.sleep(self.pause_s)
            import late
            tracker.save(step, {"value": helper.VALUE, "late": late.VALUE})
"""
ON_AGENTS = RunOptions(pool="agents")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server that takes code, and has a slot of its own."""
    home = tmp_path_factory.mktemp("server")
    server = start_server(home, "--allow-uploads", "--slots", "cpu:1")
    yield server
    server.stop()


@pytest.fixture
def client(server: RealServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=120) as client:
        yield client


@pytest.fixture(scope="module")
def network(server: RealServer) -> Iterator[Proxy]:
    """What is between the agent and the server."""
    proxy = Proxy(server.address)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def agent(network: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAgent]:
    """An agent that runs code of clients."""
    home = tmp_path_factory.mktemp("agents") / "willing"
    agent = start_agent(network.address, home, "--allow-uploads")
    yield agent
    if agent.process.poll() is None:
        agent.stop()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An experiment that a client has."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "helper.py").write_text("VALUE = 7\n")
    (folder / "late.py").write_text("VALUE = 8\n")
    (folder / "sine.py").write_text(SINE)
    return folder / "sine.py"


def seen(client: Client, run_id: str) -> tuple[dict[str, list[float]], list[str], object]:
    """Return what a run recorded, and of which code."""
    run = client.run(run_id)
    found = run.info.provenance
    assert found is not None
    history = run.history()
    metrics = {name: list(history[name].values) for name in ("value", "late")}
    return metrics, sorted(found.files), found.git


def test_sent_code_is_on_an_agent_what_it_is_on_the_servers_machine(
    client: Client, agent: RealAgent, source: Path
) -> None:
    here = client.create(source, {}, options=RunOptions()).start()
    here.wait(check=True)
    there = client.create(source, {}, options=ON_AGENTS).start()
    there.wait(check=True)
    assert seen(client, there.id) == seen(client, here.id)
    assert client.code_diff(here.id, there.id) == ""
    assert len(list(agent.home.glob("uploads/*/files/sine.py"))) == 1


def test_a_run_of_sent_code_is_resumed_and_forked_on_agents(
    client: Client, agent: RealAgent, source: Path
) -> None:
    num_fetched = agent.log.read_text().count("fetched code")
    (source.parent / "helper.py").write_text("VALUE = 9\n")
    run = client.create(source, options=ON_AGENTS).start(until_step=3)
    assert run.wait().state is RunState.STOPPED
    shutil.rmtree(source.parent)
    fork = run.fork(overrides={"loop_count": 8}, options=ON_AGENTS)
    assert fork.wait(check=True).step == 8
    assert fork.info.upload_id == run.info.upload_id
    assert run.resume().wait(check=True).step == 6
    assert seen(client, fork.id)[0]["value"][-1] == 9.0
    assert agent.log.read_text().count("fetched code") == num_fetched + 1


def test_code_that_cannot_be_fetched_for_now_is_waited_for(
    client: Client, network: Proxy, agent: RealAgent, source: Path
) -> None:
    (source.parent / "helper.py").write_text("VALUE = 10\n")
    run = client.create(source, options=ON_AGENTS)
    network.cut()
    run.start()
    network.mend()
    assert run.wait(check=True).attempt == 1
    assert seen(client, run.id)[0]["value"] == [10.0] * 6
    assert agent.process.poll() is None


def test_an_agent_that_does_not_allow_it_gets_no_sent_code(
    client: Client, server: RealServer, source: Path, tmp_path: Path
) -> None:
    quiet = RunOptions(pool="quiet")
    unasked = start_agent(server.address, tmp_path / "unasked", "--pool", "quiet")
    try:
        refused = "agent unasked runs no code that clients send; --allow-uploads of lab-agent"
        for ask in (client.plan, client.create):
            with pytest.raises(ConfigError, match=refused):
                ask(source, options=quiet)
        assert client.plan(source).values["loop_count"] == 6
        client.create("mnist", options=quiet).delete()
        home, pool = tmp_path / "loud", ("--pool", "quiet")
        loud = start_agent(server.address, home, *pool, "--allow-uploads")
        run = client.create(source, options=quiet)
        loud.process.kill()
        loud.process.wait()
        run.start()
        wait_until(lambda: "agent loud is out of reach" in run.refresh().reason, "the agent's loss")
        loud = start_agent(server.address, home, *pool)
        reason = "agents unasked, loud run no code that clients send"
        wait_until(lambda: reason in run.refresh().reason, "the agents' refusal")
        loud.stop()
        run.stop()
    finally:
        unasked.stop()


def test_a_run_of_sent_code_moves_to_another_agent_with_it(
    client: Client, server: RealServer, agent: RealAgent, source: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    # long enough for the agent's signal to come while it trains
    configs = {"gate": str(gate), "loop_count": 300, "pause_s": 0.02}
    run = client.create(source, configs, options=ON_AGENTS).start()
    wait_until(gate.with_name("gate.reached").exists, "the run at its gate")
    other = start_agent(server.address, tmp_path / "other", "--allow-uploads")
    try:
        agent.process.terminate()
        gate.touch()
        agent.process.wait(60)
        run.wait(check=True)
        assert (run.info.attempt, run.info.step) == (2, 300)
        assert "fetched code that a client sent" in other.log.read_text()
    finally:
        other.stop()
    assert seen(client, run.id)[0]["value"] == [7.0] * 300
