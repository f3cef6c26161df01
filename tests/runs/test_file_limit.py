"""How many files a server may have open, and its trainers."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import lab_client
from lab_server.agent.host import HostFolder
from tests.postgres import Postgres
from tests.runs.test_out_of_files import ARGUMENTS, PATIENCE_S, Gate, pid_file, wait_until
from tests.servers import start_agent, start_server

pytestmark = pytest.mark.slow

NUM_FILES = 200
_, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
MOST = min(HARD, 1 << 20)


@contextmanager
def soft_limit(limit: int) -> Iterator[None]:
    """Give what is started meanwhile a soft limit, as `ulimit -Sn` does."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def limit_of(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def forkserver_of(pid: int) -> int:
    """Return the pid of a server's forkserver, 0 while it has none."""
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "lab_server.trainer.forkserver" in child.cmdline():
                return child.pid
    return 0


def limit_of_trainer(client: lab_client.Client, gate: Gate, pool: str = "") -> int:
    """Return the soft limit of a run's trainer, which is ended then."""
    run = client.create("toy", gate.overrides, options=lab_client.RunOptions(pool=pool)).start()
    gate.wait()
    run.refresh()
    trainer = int(json.loads(pid_file(run).read_text())["pid"])
    limit = limit_of(trainer)
    gate.open()
    assert run.wait(timeout_s=PATIENCE_S).state == "COMPLETED"
    return limit


def test_a_server_may_open_all_that_it_may_and_its_trainers_what_was_given(tmp_path: Path) -> None:
    with soft_limit(NUM_FILES):
        server = start_server(tmp_path / "home", *ARGUMENTS)
    try:
        with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
            assert limit_of(server.process.pid) == MOST
            (tmp_path / "1").mkdir()
            assert limit_of_trainer(client, Gate(tmp_path / "1", step=3)) == NUM_FILES
            # also those of the next forkserver
            before = forkserver_of(server.process.pid)
            os.kill(before, signal.SIGKILL)
            wait_until(lambda: forkserver_of(server.process.pid) not in (0, before), "another")
            (tmp_path / "2").mkdir()
            assert limit_of_trainer(client, Gate(tmp_path / "2", step=3)) == NUM_FILES
    finally:
        server.stop()


def test_so_may_an_agent_and_its_trainers(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home", "--slots", "none", *ARGUMENTS[2:])
    with soft_limit(NUM_FILES):
        agent = start_agent(server.address, tmp_path / "a1", *ARGUMENTS[2:])
    try:
        with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
            assert limit_of(agent.process.pid) == MOST
            assert limit_of_trainer(client, Gate(tmp_path, step=3), pool="agents") == NUM_FILES
    finally:
        agent.stop()
        server.stop()


def test_so_may_the_agent_of_a_servers_own_slots(tmp_path: Path, postgres: Postgres) -> None:
    with soft_limit(NUM_FILES):
        server = start_server(tmp_path / "home", *ARGUMENTS, "--store", postgres.new_url())
    try:
        agent = HostFolder(server.home).running()
        assert agent is not None
        with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
            assert (limit_of(server.process.pid), limit_of(agent.pid)) == (MOST, MOST)
            assert limit_of_trainer(client, Gate(tmp_path, step=3)) == NUM_FILES
    finally:
        server.stop()
