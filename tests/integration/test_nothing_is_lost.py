"""Real servers, killed: their watchers see a pause, and the same log as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

import lab_client
from lab_client.events import Event, Metrics, Truncate
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

TOYS = Path(__file__).parents[1] / "runs" / "toys.py"
PATIENCE_S = 120.0

Values = dict[tuple[str, int], float]


class Watcher:
    """Iterates a run's events in a thread of its own, as a notebook somewhere does."""

    def __init__(self, run: lab_client.Run) -> None:
        self.events: list[Event] = []
        self._run = run
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            for event in self._run.events():
                self.events.append(event)
        except BaseException as error:  # shown by result()
            self._error = error

    def result(self) -> list[Event]:
        """Return what was seen when the stream has ended."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the stream has not ended"
        if self._error is not None:
            raise self._error
        return self.events


class Servers:
    """A home, and the servers that use it one after the other, at one address."""

    def __init__(self, home: Path, store_url: str) -> None:
        self._home = home
        self._arguments = ("--slots", "cpu:1", "--experiments", str(TOYS), "--store", store_url)
        self._server = start_server(home, *self._arguments)
        self.address = self._server.address

    def kill(self) -> None:
        """Kill the server as the kernel does when memory is short."""
        pids = self._forkservers(self._server.process.pid)
        self._server.process.kill()
        self._server.process.wait()
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "forkserver's end")

    def start(self) -> RealServer:
        """Start the next server, at the address of the first."""
        self._server = start_server(self._home, "--grpc", self.address, *self._arguments)
        return self._server

    def kill_while_it_starts(self) -> None:
        """Start the next server, and kill it as soon as it has a forkserver."""
        command = [sys.executable, "-m", "lab_server", "serve", "--home", str(self._home)]
        command += ["--grpc", self.address, "--http", "127.0.0.1:0", *self._arguments]
        with (self._home / "server.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: bool(self._forkservers(process.pid)), "a forkserver")
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End the last server, and its trainers."""
        self._server.stop()

    @staticmethod
    def _forkservers(pid: int) -> list[int]:
        # the agent of a server's own slots is its child, too, and outlives it
        children = psutil.Process(pid).children()
        return [c.pid for c in children if "lab_server.trainer.forkserver" in c.cmdline()]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    is_postgresql = request.param == "postgresql"
    store_url = request.getfixturevalue("postgres").new_url() if is_postgresql else ""
    servers = Servers(tmp_path_factory.mktemp("killed"), store_url)
    yield servers
    servers.stop()


@pytest.fixture
def client(servers: Servers) -> Iterator[lab_client.Client]:
    with lab_client.Client(servers.address, timeout_s=PATIENCE_S) as client:
        yield client


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def history(events: list[Event]) -> Values:
    """Return the metrics that count; none may be there twice."""
    values: Values = {}
    for event in events:
        if isinstance(event.body, Truncate):
            after = event.body.after_step
            values = {at: value for at, value in values.items() if at[1] <= after}
        elif isinstance(event.body, Metrics):
            for point in event.body.points():
                for name, value in point.values.items():
                    assert (name, point.step) not in values
                    if not name.startswith("system."):  # what it uses of the machine differs
                        values[name, point.step] = value
    return values


def in_sqlite(run: lab_client.Run) -> Values:
    with sqlite3.connect(Path(run.info.folder) / "sqlite.db") as db:
        rows = db.execute("SELECT indicator, step, value FROM scalars").fetchall()
    values = {(name, step): value for name, step, value in rows}
    assert len(values) == len(rows)
    return values


def trainer_of(run: lab_client.Run) -> int:
    """Return the pid of the trainer of a run's first attempt."""
    pid: int = json.loads((Path(run.info.folder) / "spool" / "1.pid").read_text())["pid"]
    return pid


def test_servers_killed_in_a_row_are_a_pause_to_watchers(
    servers: Servers, client: lab_client.Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run = client.create("toy", {"wait_at": 34, "gate": str(gate)}).start()
    waiting = [client.create("toy").start() for _ in range(3)]
    watchers = [Watcher(run), Watcher(run), *map(Watcher, waiting)]
    wait_until(gate.with_name("gate.reached").exists, "step 34")
    servers.kill()
    servers.kill_while_it_starts()
    servers.kill_while_it_starts()
    servers.start()
    late = Watcher(client.run(run.id))
    gate.touch()
    seen = [watcher.result() for watcher in (*watchers, late)]
    for events in seen:
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert seen[0] == seen[1] == seen[-1]
    assert {event.attempt for event in seen[0]} == {0, 1}
    values = history(seen[0])
    assert set(values) == {(n, s) for n in ("loss", "noise") for s in range(1, 61)}
    assert values == in_sqlite(run)
    # the others are its undisturbed twins, and came one after the other
    assert all(history(events) == values for events in seen[2:-1])
    starts = [other.refresh().start_time for other in waiting]
    assert all(a and b and a < b for a, b in pairwise(starts))


def test_server_and_trainer_killed_at_once_cost_only_time(
    servers: Servers, client: lab_client.Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    twin = Watcher(client.create("toy").start())
    run = client.create("toy", {"wait_at": 47, "gate": str(gate)}).start()
    watcher = Watcher(run)
    wait_until(gate.with_name("gate.reached").exists, "step 47")
    trainer = trainer_of(run)
    servers.kill()
    os.kill(trainer, signal.SIGKILL)
    gate.touch()
    servers.start()
    events = watcher.result()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert max(event.attempt for event in events) == 2
    assert history(events) == history(twin.result()) == in_sqlite(run)
