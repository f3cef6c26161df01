"""A real Slurm and a real Ray cluster start agents when runs wait, and have them back when they idle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_ray import MISSING, LiveRay, is_installed

import lab_client
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

TOYS = Path(__file__).parents[1] / "runs" / "toys.py"
LAB_AGENT = Path(sys.executable).with_name("lab-agent")
PATIENCE_S = 150.0
ON_POOL = lab_client.RunOptions(pool="nodes")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@contextmanager
def serving(home: Path, engine: str, **settings: object) -> Iterator[RealServer]:
    """Serve with a pool of an engine, and a slot of its own."""
    home.mkdir()
    values = {
        "name": "nodes",
        "engine": engine,
        "slots": "cpu:1",
        "max": 1,
        "idle_s": 1,
        "command": str(LAB_AGENT),
        "arguments": ["--experiments", str(TOYS)],
        **settings,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    config = home / "lab.toml"
    config.write_text("\n".join(["[[pools]]", *lines]))
    arguments = ("--config", str(config), "--slots", "cpu:1", "--experiments", str(TOYS))
    server = start_server(home, *arguments)
    try:
        yield server
    finally:
        server.stop()


def tracked(run: lab_client.Run) -> list[tuple[int, float]]:
    """Return what the toy tracks; no step may be there twice, but in an attempt that resumed before it."""
    points = [point for point in run.metrics() if "loss" in point.values]
    found = {(point.attempt, point.step): point.values["loss"] for point in points}
    assert len(found) == len(points)
    return sorted({step: loss for (_, step), loss in sorted(found.items())}.items())


def the_promise(client: lab_client.Client) -> None:
    """The same run, on the server's own machine and on an agent that comes for it and goes again."""
    here = client.create("toy", {}).start()
    there = client.create("toy", {}, options=ON_POOL).start()
    assert "waits for a slot" in there.refresh().reason
    wait_until(lambda: "pool 'nodes' starts an agent" in there.refresh().reason, "a job")
    assert there.wait(timeout_s=PATIENCE_S).state == "COMPLETED"
    assert there.info.attempt == 1
    assert tracked(here) == tracked(there)
    wait_until(lambda: len(client.server_info().slots) == 1, "the end of the idle agent")


def free_ports(num: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(num)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A Slurm of one node, as an ordinary program of this user."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(
            f"{', '.join(missing)} is not installed: apt-get install slurmctld slurmd slurm-client"
        )
    if os.getuid():
        pytest.skip("slurmd runs jobs as root only")
    host, (controller, daemon) = socket.gethostname().partition(".")[0], free_ports(2)
    for name in ("state", "spool"):
        (tmp_path / name).mkdir()
    config = tmp_path / "slurm.conf"
    config.write_text(f"""
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
StateSaveLocation={tmp_path}/state
SlurmdSpoolDir={tmp_path}/spool
SlurmctldPidFile={tmp_path}/slurmctld.pid
SlurmdPidFile={tmp_path}/slurmd.pid
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP MaxTime=INFINITE
""")
    monkeypatch.setenv("SLURM_CONF", str(config))
    commands = (["slurmctld", "-D"], ["slurmd", "-D", "-N", host])
    with (tmp_path / "slurm.log").open("wb") as log:
        daemons = [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
    try:
        wait_until(
            lambda: b"idle" in subprocess.run(["sinfo"], capture_output=True, check=False).stdout,
            "Slurm's node",
        )
        yield daemons
    finally:
        for process in reversed(daemons):
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_slurm_starts_agents_and_gets_its_nodes_back(
    slurm: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    with (
        serving(tmp_path / "server", "slurm") as server,
        lab_client.Client(server.address, timeout_s=PATIENCE_S) as client,
    ):
        the_promise(client)
        slurm[0].kill()
        slurm[0].wait()
        run = client.create("toy", {}, options=ON_POOL).start()
        wait_until(lambda: "'nodes' cannot start an agent" in run.refresh().reason, "the reason")
        assert "squeue" in run.refresh().reason
        run.stop()


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[LiveRay]:
    """A Ray cluster of a head and a node that works."""
    if not is_installed():
        pytest.skip(f"it {MISSING}")
    cluster = LiveRay(tmp_path / "ray.log", num_nodes=1)
    try:
        cluster.mend()
        yield cluster
    finally:
        cluster.end()


def test_ray_starts_agents_and_is_the_reason_when_it_is_away(ray: LiveRay, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "server", "ray", address=ray.address) as server,
        lab_client.Client(server.address, timeout_s=PATIENCE_S) as client,
    ):
        the_promise(client)
        ray.end()
        run = client.create("toy", {}, options=ON_POOL).start()
        wait_until(
            lambda: f"Ray at {ray.address} does not answer" in run.refresh().reason, "the reason"
        )
        run.stop()


@pytest.mark.exhaustive
def test_a_run_on_a_ray_node_that_is_killed_goes_on_on_another(
    ray: LiveRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_AGENT_LEASE_S", "10")
    gate = tmp_path / "gate"
    with (
        serving(tmp_path / "server", "ray", address=ray.address) as server,
        lab_client.Client(server.address, timeout_s=PATIENCE_S) as client,
    ):
        here = client.create("toy", {}).start()
        overrides = {"gate": str(gate), "wait_at": 34}
        options = lab_client.RunOptions(pool="nodes", max_retries=3)
        there = client.create("toy", overrides, options=options).start()
        wait_until(gate.with_name("gate.reached").exists, "step 34")
        ray.order("kill node")
        ray.mend()
        gate.touch()
        assert there.wait(timeout_s=PATIENCE_S).state == "COMPLETED"
        assert tracked(here) == tracked(there)
