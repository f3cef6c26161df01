"""The client against a real server with real trainers."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab_client import AsyncClient, Client, Run, RunState, errors, experiment
from lab_client.cli.app import app
from lab_client.cli.context import Settings
from lab_client.cli.doctor import examine
from lab_client.events import Checkpoint, StateChange
from lab_client.runs import Artifact
from tests.servers import RealServer

STEPS = 40


@pytest.fixture(scope="module")
def client(server: RealServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=120) as client:
        yield client


@pytest.fixture(scope="module")
def finished(client: Client) -> Run:
    run = client.create("counting", {"steps": STEPS}, name="forty", tags=["done"]).start()
    assert run.wait(timeout_s=120, check=True).step == STEPS
    return run


def test_every_step_arrives_once_with_its_values(finished: Run) -> None:
    points = list(finished.metrics(names="loss"))
    assert [point.step for point in points] == list(range(STEPS))
    assert [point.values["loss"] for point in points] == [1.0 / (1 + s) for s in range(STEPS)]
    series = finished.history("loss")["loss"]
    assert (list(series.steps), list(series.values)) == (
        [point.step for point in points],
        [point.values["loss"] for point in points],
    )
    thinned, whole = (
        finished.history("loss", max_points=10)["loss"],
        finished.history("loss")["loss"],
    )
    assert thinned.num_points == STEPS
    assert (thinned.min_value, thinned.max_value) == (min(whole.values), max(whole.values))
    assert thinned.last_value == whole.values[-1]


def test_asyncio_and_blocking_clients_read_the_same(server: RealServer, finished: Run) -> None:
    async def read() -> tuple[list[object], list[object]]:
        async with AsyncClient(server.address) as client:
            run = await client.run(finished.id)
            return [e async for e in run.events()], [p async for p in run.metrics(every=7)]

    events, points = asyncio.run(read())
    assert events == list(finished.events())
    assert points == list(finished.metrics(every=7))


def test_lines_that_the_experiment_printed_are_its_log(finished: Run) -> None:
    assert {"step 0", "step 30"} <= {line.text for line in finished.logs()}


def test_files_arrive_as_the_server_has_them(finished: Run, tmp_path: Path) -> None:
    paths = finished.download_all(tmp_path)
    folder = Path(finished.refresh().folder)
    names = [path.relative_to(tmp_path) for path in paths]
    assert Path("sqlite.db") in names
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    database = sqlite3.connect(tmp_path / "sqlite.db")
    rows = database.execute("SELECT count(*) FROM scalars WHERE indicator = 'loss'").fetchone()
    database.close()
    assert rows == (STEPS,)
    with pytest.raises(errors.ArtifactNotFound):
        finished.download("../run.yaml/../../nothing", tmp_path)


@pytest.mark.slow
def test_a_stopped_run_is_resumed_and_forked_from_its_checkpoint(client: Client) -> None:
    run = client.create("counting", {"steps": 400, "step_s": 0.02}).start()
    for point in run.metrics(timeout_s=120):
        if point.step >= 3:
            break
    info = run.stop(checkpoint=True).wait(timeout_s=60)
    assert info.state is RunState.STOPPED
    assert info.checkpoint_step is not None
    saved = [e.body for e in run.events() if isinstance(e.body, Checkpoint)]
    assert saved[-1].step == info.checkpoint_step == info.step

    fork = run.fork(overrides={"step_s": 0.0})
    assert fork.wait(timeout_s=120, check=True).step == 400
    assert fork.info.parent is not None
    assert fork.info.parent.run_id == run.id
    assert min(point.step for point in fork.metrics()) >= info.checkpoint_step

    assert run.resume().info.state is not RunState.STOPPED
    for point in run.metrics(after_seq=info.last_seq, timeout_s=120):
        # the last row before the checkpoint is sent again
        assert (point.attempt, point.step >= info.checkpoint_step - 1) == (2, True)
        break
    run.stop()
    assert run.wait(timeout_s=60).state is RunState.STOPPED
    states = [e.body.state for e in run.events() if isinstance(e.body, StateChange)]
    assert states.count(RunState.STOPPED) == 2


@pytest.mark.slow
def test_a_run_that_trains_saves_a_checkpoint_when_asked(
    client: Client, server: RealServer
) -> None:
    run = client.create("counting", {"steps": 4000, "step_s": 0.02}).start()
    for point in run.metrics(timeout_s=120):
        if point.step >= 2:
            break
    step = run.save_checkpoint()
    assert step >= 2
    assert run.info.checkpoint_step == step
    assert run.state is RunState.RUNNING
    told = lab(server, "checkpoint", run.id)
    later = int(told.stdout.split()[-1])
    assert told.stdout == f"{run.id} checkpoint {later}\n"
    assert later > step
    assert {f"checkpoints/{at}/_run.pt" for at in (step, later)} <= {
        item.path for item in run.artifacts()
    }
    with pytest.raises(errors.ArtifactNotFound, match="has no 'model'; it has: none"):
        run.download_model()
    run.stop()
    assert run.wait(timeout_s=60).state is RunState.STOPPED
    with pytest.raises(errors.InvalidState, match="only a run that trains can save"):
        run.save_checkpoint()
    assert (
        client.create("counting", {"steps": 3}).start().wait(timeout_s=60).checkpoint_step is None
    )


def test_a_file_of_the_experiments_own_is_told_and_downloaded(
    client: Client, tmp_path: Path
) -> None:
    run = client.create("saves").start()
    run.wait(timeout_s=60, check=True)
    told = [event.body for event in run.events() if event.kind == "artifact"]
    assert told == [Artifact("artifacts/plots/one.txt", 4)]
    assert told[0] in run.artifacts()
    assert run.download("artifacts/plots/one.txt", tmp_path).read_bytes() == b"mine"


def test_runs_are_found_renamed_and_deleted(client: Client, finished: Run) -> None:
    run = client.create("counting", {"steps": 1}, tags=["mine"], notes="first")
    run.update(name="renamed", tags=["mine", "better"], notes="")
    found = list(client.runs(tags=["better"], name_contains="name", states=["created"]))
    assert [item.id for item in found] == [run.id]
    assert (found[0].info.tags, found[0].info.notes) == (("mine", "better"), "")
    best = next(iter(client.runs(order_by="metrics.accuracy desc", states=["COMPLETED"])))
    assert best.info.metrics["accuracy"] >= finished.refresh().metrics["accuracy"]
    run.delete()
    with pytest.raises(errors.RunNotFound):
        run.refresh()


def test_runs_are_found_by_what_they_were_given_and_measured(client: Client, finished: Run) -> None:
    where = f"tag = done and steps = {STEPS} and step_s = 0 and max(loss) = 1 and duration > 0s"
    (found,) = client.runs(where=where, order_by="min(loss)")
    assert found.id == finished.id
    assert found.info.configs == {"steps": STEPS, "step_s": 0.0}  # the default, too
    assert found.value("steps") == STEPS
    assert found.value("min(loss)") == min(finished.history("loss")["loss"].values)
    assert found.value("loss") == found.value("metric.loss") == found.info.metrics["loss"]
    assert (found.value("nothing"), found.value("tags")) == (None, ("done",))
    assert client.count_runs(where=where) == 1
    assert client.count_runs(where=f"not ({where})") == client.count_runs() - 1


def test_a_name_that_no_run_has_is_warned_of(client: Client, finished: Run) -> None:
    with pytest.warns(errors.UnknownName, match="'los'; did you mean 'loss'") as told:
        assert not list(client.runs(where="los > 0.5"))
    assert told[0].filename == __file__  # the line that asked, not one of the client

    async def find() -> list[str]:
        async with AsyncClient(client.address) as other:
            with pytest.warns(errors.UnknownName) as told:
                assert not [run async for run in other.runs(where="los > 0.5")]
            assert told[0].filename == __file__
            assert await other.count_runs(where="loss > 100") == 0
            return [run.id async for run in other.runs(where=f"id = {finished.id}")]

    assert asyncio.run(find()) == [finished.id]


def test_a_prefix_of_an_id_will_do(client: Client, finished: Run) -> None:
    assert client.run(finished.id[:-1]).id == finished.id


def test_metrics_of_many_runs_come_with_a_cursor(client: Client, finished: Run) -> None:
    updates = client.watch_metrics(run_ids=[finished.id], names="loss", from_start=True)
    seen = []
    for update in updates:
        seen.append(update)
        if isinstance(update.event.body, StateChange) and update.event.body.state.is_terminal:
            break
    steps = [p.step for u in seen if u.event.kind == "metrics" for p in u.event.body.points()]  # type: ignore[union-attr]
    assert steps == list(range(STEPS))
    again = client.watch_metrics(run_ids=[finished.id], names="loss", cursor=seen[0].cursor)
    rest = [next(again).event.seq for _ in seen[1:]]
    assert set(rest) <= {update.event.seq for update in seen}


def test_what_is_wrong_is_refused_with_all_that_is_wrong(client: Client, finished: Run) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        client.plan("counting", {"step": 1, "steps": -3, "step_s": "long"})
    assert {item.key for item in caught.value.violations} == {"step", "steps", "step_s"}
    assert "did you mean" in str(caught.value)
    with pytest.raises(errors.ExperimentNotFound):
        client.create("cuonting")
    with pytest.raises(errors.RunNotFound):
        client.run("20200101-nothing")
    with pytest.raises(errors.InvalidState):
        finished.start()
    with pytest.raises(errors.InvalidState):
        finished.stop()
    with pytest.raises(errors.InvalidRequest):
        list(client.runs(order_by="a colour"))
    with pytest.raises(errors.InvalidRequest, match=r"there is no state 'done'[^^]*\^"):
        list(client.runs(where="steps = 40 and state = done"))
    key = "the same key"
    client.create("counting", {"steps": 1}, idempotency_key=key)
    with pytest.raises(errors.AlreadyExists):
        client.create("counting", {"steps": 2}, idempotency_key=key)


def test_a_run_that_raises_fails_with_its_traceback(server: RealServer) -> None:
    result = lab(server, "run", "raises", "--watch")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "ZeroDivisionError" in result.stderr


def test_the_facade_trains_remotely(server: RealServer) -> None:
    client = experiment.connect(server.address)
    experiment.create(name="remote", writers={"sqlite"}, tags=["facade"])
    experiment.calculate_configs("counting", {"steps": 3})
    run = experiment.start()
    assert [point.step for point in run.metrics("accuracy")] == [0, 1, 2]
    assert run.wait(timeout_s=60).options.writers == ("sqlite",)
    client.close()


def lab(server: RealServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from lab_client.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "--server", server.address, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "COLUMNS": "160"},
    )


@pytest.mark.slow
def test_the_command_runs_watches_and_compares(server: RealServer, finished: Run) -> None:
    result = lab(server, "run", "counting", "steps=5", "--name", "five", "--tag", "cli", "--watch")
    assert result.returncode == 0, result.stderr
    run_id, *_, last = result.stdout.splitlines()
    assert last.startswith("five: COMPLETED step 5/5")
    call = CliRunner().invoke(app, ["-s", server.address, "compare", run_id, finished.id, "--json"])
    assert json.loads(call.stdout)["configs"] == {"steps": [5, STEPS]}
    assert all(finding.is_good for finding in examine(Settings(server.address)))
