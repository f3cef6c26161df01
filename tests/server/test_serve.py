"""`lab-server serve` as a process: how it starts, what it is, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lab_core.errors import SettingsError
from lab_rpc.v1 import config_pb2, event_pb2, training_service_pb2, training_service_pb2_grpc
from lab_server.messages import events
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.settings.address import Address, listen
from lab_server.store import SqlStore
from tests.disks import fill, small_disk

pytestmark = pytest.mark.slow

pb = training_service_pb2
EXPERIMENTS = Path(__file__).parents[1] / "experiments.py"
SERVICE = "lab_rpc.v1.TrainingService"
SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass
class Served:
    """A server process that is ready."""

    process: subprocess.Popen[str]
    grpc: str
    http: str
    home: Path
    log: Path

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def serving(home: Path, *flags: str) -> Iterator[Served]:
    """Start a server on free ports and wait for its ready line."""
    log = home.with_name(home.name + ".log")
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lab_server", "serve", "--slots", "cpu:1"),
                *("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--home", str(home), *flags),
            ],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        match = re.fullmatch(r"lab-server ready grpc=(\S+:\d+) http=(\S+:\d+)\n", line)
        assert match, (line, log.read_text())
        yield Served(process, match[1], match[2], home, log)
    finally:
        process.kill()
        process.wait(timeout=60)
        process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("serve") / "home") as it:
        yield it


def wait_until_serving(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for answer in stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=120):
            if answer.status == SERVING:
                return
    raise AssertionError("the stream ended")


def history_seqs(home: Path) -> list[tuple[str, int]]:
    with contextlib.closing(sqlite3.connect(home / "lab.db")) as connection:
        return connection.execute("SELECT run_id, last_seq FROM histories").fetchall()


async def test_a_history_that_an_earlier_server_left_behind_is_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    store = SqlStore(f"sqlite:///{home / 'lab.db'}")
    run = await store.create(Run("r1", RunRequest("mnist"), state=RunState.COMPLETED), None)
    log = events.encode_log(1, 1, ["one line"])
    await store.commit(dataclasses.replace(run, last_seq=1), log)
    await store.close()

    with serving(home):
        async with asyncio.timeout(60):
            while history_seqs(home) != [("r1", 1)]:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.05)


def test_no_torch_in_the_server_but_in_its_forkserver(served: Served) -> None:
    wait_until_serving(served.grpc)

    def has_torch(pid: int) -> bool:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()

    children = psutil.Process(served.process.pid).children(recursive=True)
    assert not has_torch(served.process.pid)
    assert any(has_torch(child.pid) for child in children)


def test_health_is_told_for_the_server_and_its_service(served: Served) -> None:
    wait_until_serving(served.grpc)
    with grpc.insecure_channel(served.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        unknown = next(stub.Watch(health_pb2.HealthCheckRequest(service="other"), timeout=60))
        assert unknown.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_reflection_lists_the_services(served: Served) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=60)
    names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


def test_a_second_server_on_the_same_folder_is_refused(served: Served) -> None:
    second = _serve_once("--home", str(served.home), "--grpc", "127.0.0.1:0")
    assert second.returncode == 1
    assert "another" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("flag", ["--grpc", "--http"])
def test_a_port_that_is_taken_is_a_sentence(served: Served, tmp_path: Path, flag: str) -> None:
    ports = {"--grpc": "127.0.0.1:0", "--http": "127.0.0.1:0"}
    ports[flag] = getattr(served, flag[2:])
    second = _serve_once(
        "--home", str(tmp_path), *(text for pair in ports.items() for text in pair)
    )
    assert second.returncode == 2
    (line,) = second.stderr.splitlines()
    assert line == f"lab-server: cannot listen on {flag[2:]}={ports[flag]}: Address already in use"


def test_a_name_is_listened_on_at_the_first_address_that_the_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
    # of TEST-NET-1, which no machine has
    absent = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [absent, here])
    with listen(Address("lab", 0)) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [absent])
    with (
        pytest.raises(SettingsError, match="cannot listen on grpc=lab:0: "),
        listen(Address("lab", 0), "grpc"),
    ):
        pass


def test_sigterm_drains_and_leaves_no_process(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as it:
        with grpc.insecure_channel(it.grpc) as channel:
            stub = training_service_pb2_grpc.TrainingServiceStub(channel)
            wait_until_serving(it.grpc)
            children = psutil.Process(it.process.pid).children(recursive=True)
            stream = stub.WatchMetrics(pb.WatchMetricsRequest())
            health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(health).status == SERVING
            assert it.end(signal.SIGTERM) == 0
            statuses = [answer.status for answer in health]
            assert statuses == [health_pb2.HealthCheckResponse.NOT_SERVING]
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert gone
        assert not alive


def test_sigint_ends_it_also_while_it_imports_the_experiments(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as it:
        children = psutil.Process(it.process.pid).children(recursive=True)
        assert it.end(signal.SIGINT) == 0
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert gone
        assert not alive


def test_a_closed_terminal_drains_and_under_nohup_is_ignored(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as it:
        assert it.end(signal.SIGHUP) == 0
        assert '"stopping"' in it.log.read_text()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serving(tmp_path / "home") as it:
            it.process.send_signal(signal.SIGHUP)
            wait_until_serving(it.grpc)
            assert it.end(signal.SIGTERM) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_trainers_are_left_alone_or_stopped_as_the_setting_says(tmp_path: Path) -> None:
    home, flags = tmp_path / "home", ("--experiments", str(EXPERIMENTS))
    with serving(home, *flags) as first, grpc.insecure_channel(first.grpc) as channel:
        stub = training_service_pb2_grpc.TrainingServiceStub(channel)
        run_id = _train_for_long(stub)
        (pid_file,) = home.glob(f"runs/counting/{run_id}/spool/1.pid")
        trainer = psutil.Process(json.loads(pid_file.read_text())["pid"])
        assert first.end() == 0
        assert trainer.is_running()
    with serving(home, *flags, "--on-shutdown", "stop") as second:
        with grpc.insecure_channel(second.grpc) as channel:
            stub = training_service_pb2_grpc.TrainingServiceStub(channel)
            run = stub.GetRun(pb.GetRunRequest(run_id=run_id), timeout=60).run
        assert (run.state, run.attempt) == (event_pb2.RUN_STATE_RUNNING, 1)
        assert trainer.is_running()
        assert second.end() == 0
        psutil.wait_procs([trainer], timeout=30)
        assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE


def _train_for_long(stub: training_service_pb2_grpc.TrainingServiceStub) -> str:
    """Return the id of a run that has measured something and will go on for an hour."""
    overrides = {
        "steps": config_pb2.Value(int_value=100_000),
        "step_s": config_pb2.Value(double_value=0.05),
    }
    config = config_pb2.ConfigMessage(overrides=overrides)
    request = pb.CreateRunRequest(experiment="counting", config=config)
    run_id: str = stub.CreateRun(request, timeout=120).run.id
    stub.StartRun(pb.StartRunRequest(run_id=run_id), timeout=60)
    call = stub.WatchRun(pb.WatchRunRequest(run_id=run_id), timeout=120)
    for response in call:
        if any(event.HasField("metrics") for event in response.events):
            call.cancel()
            return run_id
    raise AssertionError("the run ended")


def _serve_once(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab_server", "serve", "--slots", "cpu:1", *flags],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_server_that_was_stopped_starts_on_a_disk_that_is_full_since(tmp_path: Path) -> None:
    home = tmp_path / "disk" / "home"
    home.mkdir(parents=True)
    with small_disk(home.parent):
        with serving(home) as it, grpc.insecure_channel(it.grpc) as channel:
            stub = training_service_pb2_grpc.TrainingServiceStub(channel)
            created = stub.CreateRun(pb.CreateRunRequest(experiment="mnist"), timeout=120).run
            assert it.end() == 0
        fill(home)
        with serving(home) as it, grpc.insecure_channel(it.grpc) as channel:
            stub = training_service_pb2_grpc.TrainingServiceStub(channel)
            (run,) = stub.ListRuns(pb.ListRunsRequest(), timeout=60).runs
            assert run == created
            stub.DeleteRun(pb.DeleteRunRequest(run_id=run.id), timeout=60)
            assert not stub.ListRuns(pb.ListRunsRequest(), timeout=60).runs


def test_the_home_and_its_database_are_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "lab.db").touch(mode=0o644)
    with serving(home):
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.glob("lab.db*")}
    assert "lab.db-wal" in modes
    assert set(modes.values()) == {0o600}
