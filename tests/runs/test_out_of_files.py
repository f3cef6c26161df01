"""A server without a free file descriptor takes nothing for gone: its trainers go on, and so does it."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import lab_client
from lab_client.events import Event, Metrics, Truncate
from lab_server.logs import Seldom
from lab_server.model.run import RunState
from lab_server.processes import patience
from lab_server.supervisor import Supervisor
from tests.runs.rig import Gate as RigGate
from tests.runs.rig import Rig, becomes_true
from tests.servers import RealAgent, RealServer, start_agent, start_server

pytestmark = pytest.mark.slow

TOYS = Path(__file__).with_name("toys.py")
ARGUMENTS = ("--slots", "cpu:1", "--experiments", str(TOYS))
PATIENCE_S = 60.0
Points = dict[tuple[str, int], float]
WAITS = "no file descriptors are left"
FEW = 10
"""Fewer than a server has open from its first moment on."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)


class Gate:
    """Holds a toy at a step until it is opened."""

    def __init__(self, folder: Path, step: int) -> None:
        self._file = folder / "gate"
        self.overrides = {"gate": str(self._file), "wait_at": step}

    def wait(self) -> None:
        """Return when the toy is there."""
        wait_until(self._file.with_name("gate.reached").exists, "the toy at its gate")

    def open(self) -> None:
        """Let it go on."""
        self._file.touch()


@contextmanager
def without_descriptors(server: RealServer | RealAgent) -> Iterator[None]:
    """Let a server or an agent open nothing more, at least until it says that it waits."""
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (FEW, hard))
    try:
        yield
        wait_until(lambda: WAITS in server.log.read_text(), "the process to notice")
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))


def points(run: lab_client.Run) -> Points:
    """Return the metrics that count; none may be there twice, and no event is missing."""
    events: list[Event] = list(run.events(timeout_s=PATIENCE_S))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    found: Points = {}
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


def pid_file(run: lab_client.Run, attempt: int = 1) -> Path:
    return Path(run.info.folder) / "spool" / f"{attempt}.pid"


def num_trainers(run: lab_client.Run) -> int:
    """Return how many trainers a run has had."""
    return len(list(pid_file(run).parent.glob("*.pid")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Points:
    """What a toy measures on a server that has all it needs."""
    server = start_server(tmp_path_factory.mktemp("undisturbed"), *ARGUMENTS)
    try:
        with lab_client.Client(server.address) as client:
            return points(client.create("toy", {}).start())
    finally:
        server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    server = start_server(tmp_path / "home", *ARGUMENTS)
    yield server
    server.stop()


@pytest.fixture
def client(server: RealServer) -> Iterator[lab_client.Client]:
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        yield client


def test_a_run_that_has_just_begun_trains_on(
    server: RealServer, client: lab_client.Client, undisturbed: object, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    run = client.create("toy", gate.overrides).start()
    wait_until(pid_file(run).exists, "the trainer")
    with without_descriptors(server):
        gate.wait()
    gate.open()
    assert points(run) == undisturbed
    assert (run.refresh().state, run.info.attempt, num_trainers(run)) == ("COMPLETED", 1, 1)


def test_a_stop_that_is_asked_for_is_carried_out_with_its_checkpoint(
    server: RealServer, client: lab_client.Client, undisturbed: Points, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    run = client.create("toy", gate.overrides).start()
    gate.wait()
    stopping = threading.Thread(target=lambda: run.stop(checkpoint=True, grace_s=PATIENCE_S))
    with without_descriptors(server):
        stopping.start()
    stopping.join()
    gate.open()
    assert run.wait(timeout_s=PATIENCE_S).state == "STOPPED"
    assert (run.info.attempt, num_trainers(run), run.info.checkpoint_step) == (1, 1, 34)
    seen = points(run)
    assert seen == {at: value for at, value in undisturbed.items() if at[1] <= 34}


def test_a_run_ends_once(
    server: RealServer, client: lab_client.Client, undisturbed: object, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    run = client.create("toy", gate.overrides).start()
    gate.wait()
    with without_descriptors(server):
        gate.open()
    assert points(run) == undisturbed
    assert (run.refresh().state, run.info.attempt, num_trainers(run)) == ("COMPLETED", 1, 1)
    # its slot is free again
    assert (
        client.create("toy", {"loop_count": 2}).start().wait(timeout_s=PATIENCE_S).state
        == "COMPLETED"
    )


def test_a_trainer_that_dies_loses_no_metric(
    server: RealServer, client: lab_client.Client, undisturbed: object, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, step=34)
    config = {**gate.overrides, "kill_at": [36], "is_second_batch_late": True}
    run = client.create("toy", config).start()
    gate.wait()
    with without_descriptors(server):
        gate.open()
    assert points(run) == undisturbed
    assert (run.refresh().state, run.info.attempt, num_trainers(run)) == ("COMPLETED", 2, 2)
    assert [line.text for line in run.logs(timeout_s=PATIENCE_S)].count("last words") == 1


def test_a_launch_that_is_asked_for_happens_once(
    server: RealServer, client: lab_client.Client, undisturbed: object
) -> None:
    run = client.create("toy", {})
    with without_descriptors(server):
        run.start()
    assert points(run) == undisturbed
    assert (run.refresh().state, run.info.attempt, num_trainers(run)) == ("COMPLETED", 1, 1)


@pytest.mark.parametrize("is_at_the_end", [False, True])
def test_an_agent_loses_nothing_either(
    tmp_path: Path, undisturbed: Points, is_at_the_end: bool
) -> None:
    gate = Gate(tmp_path, step=34)
    server = start_server(tmp_path / "home", "--slots", "none", "--experiments", str(TOYS))
    agent = start_agent(server.address, tmp_path / "a1", "--experiments", str(TOYS))
    try:
        with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
            on_agent = lab_client.RunOptions(pool="agents")
            run = client.create("toy", gate.overrides, options=on_agent)
            if is_at_the_end:
                run.start()
                gate.wait()
            with without_descriptors(agent):
                if is_at_the_end:
                    gate.open()
                else:
                    run.start()
            gate.open()
            assert points(run) == undisturbed
            assert (run.refresh().state, run.info.attempt) == ("COMPLETED", 1)
    finally:
        agent.stop()
        server.stop()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_server_that_starts_finds_the_trainer_of_the_one_before(
    rig: Rig, gate: RigGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.start(gate=gate.path, wait_at=34)
    await gate.reached()
    await rig.until(run, lambda now: now.last_seq > 0)
    monkeypatch.setattr(patience, "_shortages", Seldom())
    start_up, (soft, hard) = Supervisor.start_up, resource.getrlimit(resource.RLIMIT_NOFILE)

    async def start_blindly(supervisor: Supervisor) -> None:
        await rig.store.unfinished()  # it has a connection then
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
        try:
            starting = asyncio.create_task(start_up(supervisor))
            with capture_logs() as lines:
                await becomes_true(
                    lambda: starting.done() or any(WAITS in line["event"] for line in lines)
                )
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await starting

    monkeypatch.setattr(Supervisor, "start_up", start_blindly)
    await rig.restart()
    gate.open()
    ended = await rig.ended(run)
    assert (ended.state, ended.attempt) == (RunState.COMPLETED, 1)
    assert {step for name, step in await rig.points(run) if name == "loss"} == set(range(1, 61))
    assert len(list(rig.folder(run).spool_folder.glob("*.pid"))) == 1


@pytest.mark.parametrize("num_files", [18, 21, 24])
def test_a_server_that_cannot_start_harms_no_trainer(
    tmp_path: Path, undisturbed: Points, num_files: int
) -> None:
    gate = Gate(tmp_path, step=34)
    arguments = (*ARGUMENTS, "--on-shutdown", "leave")
    server = start_server(tmp_path / "home", *arguments)
    with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
        run_id = client.create("toy", gate.overrides).start().id
        gate.wait()
    server.process.kill()
    server.process.wait()

    log = tmp_path / "few.log"
    command = [
        *(
            "sh",
            "-c",
            f'ulimit -n {num_files}; exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "lab_server",
        ),
        *("serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--home", str(server.home)),
    ]
    with log.open("wb") as errors:
        process = subprocess.Popen([*command, *arguments], stdout=errors, stderr=errors)
    try:
        # or it has just enough to be ready
        wait_until(
            lambda: (
                process.poll() is not None
                or any(word in log.read_text() for word in (WAITS, "lab-server ready"))
            ),
            "the server to notice",
        )
        assert process.returncode in (None, 1, 2)
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()

    server = start_server(server.home, *arguments, log_name="last.log")
    gate.open()
    try:
        with lab_client.Client(server.address, timeout_s=PATIENCE_S) as client:
            run = client.run(run_id)
            assert points(run) == undisturbed
            assert (run.refresh().state, run.info.attempt) == ("COMPLETED", 1)
            assert num_trainers(run) == 1
    finally:
        server.stop()
