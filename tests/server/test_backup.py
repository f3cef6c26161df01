"""A backup taken while runs train, and a server that starts on it."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from lab_core.checkpoints import latest_good
from lab_core.errors import SettingsError
from lab_rpc.v1 import config_pb2, event_pb2, training_service_pb2, training_service_pb2_grpc
from lab_server.app.backup import back_up
from lab_server.cli.commands import app
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

pb = training_service_pb2
RUNNING = event_pb2.RUN_STATE_RUNNING
EXPERIMENTS = str(Path(__file__).parents[1] / "experiments.py")
Stub = training_service_pb2_grpc.TrainingServiceStub


def start(home: Path) -> RealServer:
    return start_server(home, "--slots", "cpu:1", "--experiments", EXPERIMENTS)


def new_run(stub: Stub, num_steps: int, step_s: float) -> str:
    overrides = {
        "steps": config_pb2.Value(int_value=num_steps),
        "step_s": config_pb2.Value(double_value=step_s),
    }
    return start_run(stub, "counting", overrides)


def start_run(stub: Stub, experiment: str, overrides: dict[str, config_pb2.Value]) -> str:
    config = config_pb2.ConfigMessage(overrides=overrides)
    request = pb.CreateRunRequest(experiment=experiment, config=config)
    run_id: str = stub.CreateRun(request, timeout=120).run.id
    stub.StartRun(pb.StartRunRequest(run_id=run_id), timeout=60)
    return run_id


def events(stub: Stub, run_id: str, *, num_steps: int = 0) -> list[event_pb2.RunEvent]:
    """Return a run's events to its end, or until so many steps are measured."""
    found: list[event_pb2.RunEvent] = []
    call = stub.WatchRun(pb.WatchRunRequest(run_id=run_id), timeout=120)
    for response in call:
        found += response.events
        if num_steps and sum(len(event.metrics.steps) for event in found) >= num_steps:
            call.cancel()
            break
    return found


def test_a_backup_taken_while_runs_train_has_the_runs(tmp_path: Path) -> None:
    original = start(tmp_path / "original")
    try:
        with grpc.insecure_channel(original.address) as channel:
            stub = Stub(channel)
            ended = new_run(stub, 20, 0.0)
            log = events(stub, ended)
            training = new_run(stub, 120, 0.02)
            before = events(stub, training, num_steps=20)
            result = CliRunner().invoke(
                app, ["backup", str(tmp_path / "copy"), "--home", str(original.home)]
            )
            assert result.exit_code == 0, result.output
            restored = start(tmp_path / "copy")
            try:
                with grpc.insecure_channel(restored.address) as other:
                    _check_restored(Stub(other), ended, log, training, before)
            finally:
                restored.stop()
            # the original never noticed
            assert events(stub, training)[-1].state.state == event_pb2.RUN_STATE_COMPLETED
            assert stub.GetRun(pb.GetRunRequest(run_id=training)).run.attempt == 1
    finally:
        original.stop()


def _check_restored(
    stub: Stub,
    ended: str,
    log: list[event_pb2.RunEvent],
    training: str,
    before: list[event_pb2.RunEvent],
) -> None:
    assert events(stub, ended) == log
    files = stub.ListArtifacts(pb.ListArtifactsRequest(run_id=ended)).artifacts
    assert "sqlite.db" in {file.path for file in files}
    # what trained goes on as after a crash: in a new attempt, behind what was known
    again = events(stub, training)
    assert again[: len(before)] == before
    assert [event.seq for event in again] == list(range(1, len(again) + 1))
    assert again[-1].state.state == event_pb2.RUN_STATE_COMPLETED
    (series,) = stub.QueryMetrics(pb.QueryMetricsRequest(run_id=training, names=["loss"])).series
    assert list(series.steps) == list(range(120))


def test_a_run_that_saves_at_each_step_goes_on_from_a_backup(tmp_path: Path) -> None:
    num_steps = 400
    overrides = {
        "loop_count": config_pb2.Value(int_value=num_steps),
        "checkpoint_interval": config_pb2.Value(int_value=1),
    }
    original = start(tmp_path / "original")
    try:
        with grpc.insecure_channel(original.address) as channel:
            stub = Stub(channel)
            run_id = start_run(stub, "valley", overrides)
            events(stub, run_id, num_steps=20)
            for number in range(5):
                back_up(original.home, tmp_path / str(number))
                (folder,) = (tmp_path / str(number)).glob("runs/valley/*/checkpoints")
                good, damaged = latest_good(folder)
                assert good is not None
                assert damaged == ()
            assert stub.GetRun(pb.GetRunRequest(run_id=run_id)).run.state == RUNNING
    finally:
        original.stop()
    restored = start(tmp_path / "4")
    try:
        with grpc.insecure_channel(restored.address) as channel:
            told = events(Stub(channel), run_id)
            assert told[-1].state.state == event_pb2.RUN_STATE_COMPLETED
            (begun,) = (event.truncate for event in told if event.HasField("truncate"))
            assert begun.after_step >= 20, "from a checkpoint"
            request = pb.QueryMetricsRequest(run_id=run_id, names=["loss"])
            (series,) = Stub(channel).QueryMetrics(request).series
            assert list(series.steps) == list(range(1, num_steps + 1))
    finally:
        restored.stop()


@pytest.mark.parametrize("is_server", [True, False])
def test_a_backup_to_the_wrong_place_is_a_sentence(tmp_path: Path, is_server: bool) -> None:
    home, target = tmp_path / "home", tmp_path / "target"
    for folder in (home, target):
        folder.mkdir()
    if is_server:
        (home / "lab.db").touch()
        (target / "precious").touch()
    with pytest.raises(SettingsError, match="not empty" if is_server else "not a server's home"):
        back_up(home, target)


def test_a_backup_into_the_home_itself_is_a_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "lab.db").touch()
    (tmp_path / "link").symlink_to(home)
    for target in (home, home / "backups" / "1", tmp_path / "link" / "backup"):
        with pytest.raises(SettingsError, match="a backup needs a folder elsewhere"):
            back_up(home, target)
    assert [path.name for path in home.iterdir()] == ["lab.db"]


def test_a_backups_database_is_private_in_a_folder_that_others_may_read(tmp_path: Path) -> None:
    home, target = tmp_path / "home", tmp_path / "target"
    home.mkdir()
    target.mkdir(mode=0o755)
    with contextlib.closing(sqlite3.connect(home / "lab.db")) as database:
        database.execute("CREATE TABLE runs (id TEXT)")
    back_up(home, target)
    assert stat.S_IMODE((target / "lab.db").stat().st_mode) == 0o600
