"""Real servers with real agents: a run on an agent is the run that it is on the server's own machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lab_client
from lab_client.events import Checkpoint, Config, Event, Log, Metrics, StateChange, Truncate
from tests.agents.proxy import Proxy
from tests.runs.rig import is_gone
from tests.servers import RealAgent, RealServer, launch_agent, start_agent, start_server

pytestmark = pytest.mark.slow

TOYS = Path(__file__).parents[1] / "runs" / "toys.py"
PATIENCE_S = 120.0
ON_AGENT = lab_client.RunOptions(pool="agents")
HERE = lab_client.RunOptions()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


class Cluster:
    """A server with a slot of its own, and an agent behind a network that can be cut."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arguments = ("--slots", "cpu:1", "--experiments", str(TOYS))
        self.server = start_server(folder / "server", *self._arguments)
        self.proxy = Proxy(self.server.address)
        self.start_agent()

    def start_agent(self) -> None:
        """Start the agent, or the next one of its home."""
        arguments = ("--experiments", str(TOYS))
        self.agent = start_agent(self.proxy.address, self._folder / "a1", *arguments)

    def kill_server(self) -> None:
        """Kill the server and start the next one at its address."""
        self.server.process.kill()
        self.server.process.wait()
        home, address = self.server.home, self.server.address
        self.server = start_server(home, "--grpc", address, *self._arguments)

    def stop(self) -> None:
        """End all of it."""
        self.agent.stop()
        self.proxy.close()
        self.server.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[lab_client.Client]:
    with lab_client.Client(cluster.server.address, timeout_s=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> Any:
    """What the toy's run is on the server's own machine."""
    with lab_client.Client(cluster.server.address, timeout_s=PATIENCE_S) as client:
        run = client.create("toy", {}, options=HERE).start()
        told = told_by(run)
        assert run.info.slot == ""
        return told, weights(run), recorded(run)


def told_by(run: lab_client.Run) -> dict[str, Any]:
    """Return what a run's event log tells, time, place and the cuts of batches aside."""
    events: list[Event] = list(run.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    bodies = [event.body for event in events]
    return {
        "points": points(events),
        "states": [str(body.state) for body in bodies if isinstance(body, StateChange)],
        "checkpoints": [(b.step, b.size_bytes) for b in bodies if isinstance(b, Checkpoint)],
        "config": [body for body in bodies if isinstance(body, Config)],
        "lines": sum(len(body.lines) for body in bodies if isinstance(body, Log)),
    }


def points(events: list[Event]) -> dict[tuple[str, int], float]:
    """Return the metrics that count; none may be there twice."""
    found: dict[tuple[str, int], float] = {}
    for body in (event.body for event in events):
        if isinstance(body, Truncate):
            found = {at: value for at, value in found.items() if at[1] <= body.after_step}
        if isinstance(body, Metrics):
            for point in body.points():
                for name, value in point.values.items():
                    assert (name, point.step) not in found
                    if not name.startswith("system."):  # what the machine does differs
                        found[name, point.step] = value
    return found


def weights(run: lab_client.Run, step: int = 60) -> dict[str, str]:
    """Return the hashes of the files in the run's last checkpoint, on the server."""
    manifest = Path(run.refresh().folder) / "checkpoints" / str(step) / "manifest.json"
    files: dict[str, str] = json.loads(manifest.read_text())["files"]
    return {name: files[name] for name in ("model.pt", "optimizer.pt")}


def recorded(run: lab_client.Run) -> dict[tuple[str, int], float]:
    """Return what is in the run's sqlite.db, on the server; no metric may be there twice."""
    with sqlite3.connect(Path(run.refresh().folder) / "sqlite.db") as db:
        rows = db.execute("SELECT indicator, step, value FROM scalars").fetchall()
    assert len({row[:2] for row in rows}) == len(rows)
    return {(name, step): value for name, step, value in rows if not name.startswith("system.")}


class Gate:
    """Holds a toy at a step until it is opened."""

    def __init__(self, folder: Path, step: int = 25) -> None:
        self._file = folder / "gate"
        self.overrides = {"gate": str(self._file), "wait_at": step}

    def wait(self) -> None:
        """Return when the toy is there."""
        wait_until(self._file.with_name("gate.reached").exists, "the toy at its gate")

    def open(self) -> None:
        """Let it go on."""
        self._file.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_a_run_on_an_agent_is_the_run_on_the_servers_own_machine(
    client: lab_client.Client, undisturbed: Any
) -> None:
    run = client.create("toy", {}, options=ON_AGENT).start()
    assert (told_by(run), weights(run), recorded(run)) == undisturbed
    names = {artifact.path.partition("/")[0] for artifact in run.artifacts()}
    assert {"run.yaml", "configs.yaml", "log.txt", "sqlite.db", "tensorboard"} <= names


def test_what_an_agent_held_is_gone_from_its_home_when_the_server_has_it(
    client: lab_client.Client, cluster: Cluster
) -> None:
    run = client.create("toy", {}, options=ON_AGENT).start()
    assert run.wait().state == "COMPLETED"
    wait_until(lambda: not list(cluster.agent.home.glob("runs/*/*")), "the end of the files")
    assert not list(cluster.agent.home.glob("attempts/*"))


@pytest.mark.parametrize("how", ["SIGKILL", "segfault"])
def test_a_trainer_that_dies_on_an_agent_is_tried_again_and_nothing_is_lost(
    client: lab_client.Client, undisturbed: Any, how: str
) -> None:
    config = {"kill_at": [25], "kill_by": how}
    run = client.create("toy", config, options=ON_AGENT).start()
    told = told_by(run)
    assert told["points"] == undisturbed[0]["points"]
    assert (weights(run), recorded(run)) == undisturbed[1:]
    assert (run.info.state, run.info.attempt) == ("COMPLETED", 2)


def test_an_agent_that_is_killed_leaves_its_trainer_to_the_next(
    client: lab_client.Client, cluster: Cluster, undisturbed: Any, gate: Gate
) -> None:
    run = client.create("toy", gate.overrides, options=ON_AGENT).start()
    gate.wait()
    cluster.agent.process.kill()
    cluster.agent.process.wait()
    wait_until(lambda: "out of reach since" in run.refresh().reason, "the loss of the agent")
    gate.open()
    cluster.start_agent()
    assert told_by(run)["points"] == undisturbed[0]["points"]
    assert (weights(run), recorded(run)) == undisturbed[1:]
    assert (run.info.state, run.info.attempt) == ("COMPLETED", 1)


def test_a_server_that_is_killed_finds_its_runs_on_agents_again(
    client: lab_client.Client, cluster: Cluster, undisturbed: Any, gate: Gate
) -> None:
    run = client.create("toy", gate.overrides, options=ON_AGENT).start()
    gate.wait()
    cluster.kill_server()
    gate.open()
    assert told_by(run)["points"] == undisturbed[0]["points"]
    assert (weights(run), recorded(run)) == undisturbed[1:]
    assert (run.info.state, run.info.attempt) == ("COMPLETED", 1)


def test_a_run_that_ends_while_its_agent_is_cut_off_is_told_later(
    client: lab_client.Client, cluster: Cluster, undisturbed: Any, gate: Gate
) -> None:
    run = client.create("toy", gate.overrides, options=ON_AGENT).start()
    gate.wait()
    cluster.proxy.cut()
    gate.open()
    wait_until(lambda: "a1 is out of reach since" in run.refresh().reason, "the cut")
    waiting = client.create("toy", {}, options=ON_AGENT).start()
    assert "agent a1 is out of reach since" in waiting.refresh().reason
    waiting.stop()
    cluster.proxy.mend()
    assert told_by(run)["points"] == undisturbed[0]["points"]
    assert (weights(run), recorded(run)) == undisturbed[1:]
    assert (run.info.state, run.info.attempt) == ("COMPLETED", 1)


def test_a_run_that_is_stopped_on_an_agent_goes_on_there_and_is_forked_here(
    client: lab_client.Client, undisturbed: Any, gate: Gate
) -> None:
    config = {"stop_at": 25, "gate": gate.overrides["gate"]}
    run = client.create("toy", config, options=ON_AGENT).start()
    wait_until(lambda: run.refresh().step >= 25, "step 25")
    run.stop()
    assert run.wait().state == "STOPPED"
    fork = run.fork(overrides={"stop_at": 0})
    assert fork.info.slot == "" or fork.info.slot.startswith("cpu")
    assert fork.wait().state == "COMPLETED"
    assert run.info.checkpoint_step is not None
    run.resume()
    assert run.wait().state == "COMPLETED"
    assert run.refresh().attempt == 2
    assert weights(fork) == weights(run) == undisturbed[1]


def test_a_pool_that_there_is_not_is_refused_with_those_there_are(
    client: lab_client.Client,
) -> None:
    for ask in (client.create, client.plan):
        with pytest.raises(lab_client.LabError, match="no pool 'gpus'; it has agents"):
            ask("toy", {}, options=lab_client.RunOptions(pool="gpus"))
    assert client.plan("toy", {}, options=ON_AGENT) == client.plan("toy", {})


def test_an_experiment_that_the_agent_lacks_waits_and_says_so(
    cluster: Cluster, client: lab_client.Client, tmp_path: Path
) -> None:
    agent = start_agent(cluster.server.address, tmp_path / "a2", "--pool", "plain")
    try:
        run = client.create("toy", {}, options=lab_client.RunOptions(pool="plain")).start()
        assert "agent a2 has no experiment 'toy'" in run.refresh().reason
        run.stop()
    finally:
        agent.stop()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server with agents alone, and short leases."""
    server = start_server(
        tmp_path_factory.mktemp("impatient"),
        *("--slots", "none", "--experiments", str(TOYS), "--agent-lease-s", "6"),
    )
    yield server
    server.stop()


@pytest.fixture
def two_agents(
    impatient: RealServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[list[RealAgent]]:
    names = [f"{request.node.callspec.id}-{letter}" for letter in "ab"]
    arguments = ("--experiments", str(TOYS))
    agents = [launch_agent(impatient.address, tmp_path / name, *arguments) for name in names]
    for agent in agents:
        assert agent.process.stdout is not None
        assert agent.process.stdout.readline().startswith("lab-agent ready")
    yield agents
    for agent in agents:
        if agent.process.poll() is None:
            agent.stop()


@pytest.mark.parametrize("how", ["stopped", "hung-up", "killed"])
def test_a_run_moves_to_another_agent_when_its_own_is(
    impatient: RealServer, two_agents: list[RealAgent], undisturbed: Any, tmp_path: Path, how: str
) -> None:
    gate = Gate(tmp_path)
    with lab_client.Client(impatient.address, timeout_s=PATIENCE_S) as client:
        run = client.create("toy", gate.overrides).start()
        gate.wait()
        first = next(a for a in two_agents if f"/{a.home.name}/" in run.refresh().slot)
        if how != "killed":
            first.process.send_signal(signal.SIGTERM if how == "stopped" else signal.SIGHUP)
            gate.open()
            assert first.process.wait(timeout=PATIENCE_S) == 0
        else:
            pid_file = next(first.home.glob("runs/*/*/spool/1.pid"))
            pid = json.loads(pid_file.read_text())["pid"]
            first.process.kill()
            first.process.wait()
            # it ends by itself, before the server gives it up
            wait_until(lambda: is_gone(pid), "the trainer's end")
            assert run.refresh().attempt == 1
            gate.open()
        assert told_by(run)["points"] == undisturbed[0]["points"]
        assert (weights(run), recorded(run)) == undisturbed[1:]
        assert (run.info.state, run.info.attempt) == ("COMPLETED", 2)


def test_an_ephemeral_agent_ends_when_its_server_is_gone_for_a_lease(tmp_path: Path) -> None:
    arguments = ("--slots", "none", "--experiments", str(TOYS), "--agent-lease-s", "3")
    server = start_server(tmp_path / "server", *arguments)
    join = [str(Path(sys.executable).with_name("lab-agent")), "join", server.address]
    with subprocess.Popen(
        [*join, "--slots", "cpu:1", "--ephemeral"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as agent:
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline().startswith("lab-agent ready")
            server.process.kill()
            _, log = agent.communicate(timeout=PATIENCE_S)
        finally:
            agent.kill()
            server.stop()
    assert agent.returncode == 0
    assert "the lease is over; ending" in log


def test_an_ephemeral_agent_ends_with_the_process_that_started_it_and_its_run_waits(
    impatient: RealServer, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    lab_agent = str(Path(sys.executable).with_name("lab-agent"))
    join = [lab_agent, "join", impatient.address, "--slots", "cpu:1", "--ephemeral"]
    join += ["--name", "of-an-engine", "--experiments", str(TOYS)]
    script = f"{shlex.join(join)} & echo $!; wait"
    with (
        lab_client.Client(impatient.address, timeout_s=PATIENCE_S) as client,
        subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as shell,
    ):
        assert shell.stdout is not None
        agent_pid = int(shell.stdout.readline())
        assert shell.stdout.readline().startswith("lab-agent ready")
        run = client.create("toy", gate.overrides).start()
        gate.wait()
        (pid_file,) = Path(run.refresh().folder).glob("spool/1.pid")
        trainer_pid = json.loads(pid_file.read_text())["pid"]
        shell.kill()  # as Ray's supervisor of a job, which knows nothing of what is below the shell
        wait_until(lambda: is_gone(agent_pid), "the agent's end")
        assert is_gone(trainer_pid)
        gate.open()
        wait_until(lambda: "waits for a slot" in run.refresh().reason, "its place in the queue")
        run.stop()


def test_over_tls_an_agent_joins_by_a_token_that_is_good_once(tmp_path: Path) -> None:
    home = tmp_path / "server"
    lab_server = [sys.executable, "-m", "lab_server"]
    environment = {**os.environ, "LAB_HOME": str(home)}

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [*lab_server, *arguments], env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    command("certs", "init")
    admin = command("tokens", "create", "ada", "--role", "admin")
    token = command("tokens", "create-join", "--pool", "gpus")
    certs = home / "certs"
    server = start_server(
        home,
        *("--tls-cert", str(certs / "server.crt"), "--tls-key", str(certs / "server.key")),
        *("--tokens", str(home / "tokens.json"), "--slots", "none"),
    )
    agents = []
    try:
        ca = ("--ca", str(certs / "ca.crt"))
        agents.append(start_agent(server.address, tmp_path / "a1", "--token", token, *ca))
        used = launch_agent(server.address, tmp_path / "a2", "--token", token, *ca)
        assert used.process.wait(PATIENCE_S) == 1
        assert "the join token was used already" in used.log.read_text()
        with lab_client.Client(server.address, token=admin, ca=certs / "ca.crt") as client:
            assert [slot.name for slot in client.server_info().slots] == ["gpus/a1/cpu:0"]
            assert re.search(r"join .* used +a1$", command("tokens", "list"), re.MULTILINE)
            run = client.create("mnist", {"epochs": 1}, options=lab_client.RunOptions(pool="gpus"))
            run.start(until_step=3)
            assert run.wait().reason == "paused at step 3, as asked"
            credential_id = command("agents", "list").splitlines()[1].split()[0]
            assert command("agents", "revoke", credential_id) == f"revoked {credential_id}"
            log = agents[0].log
            wait_until(lambda: "the token was revoked" in log.read_text(), "the refusal")
    finally:
        for agent in agents:
            agent.stop()
        server.stop()
