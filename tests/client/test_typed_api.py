"""The client's types, as its users' type checkers see them: this file is checked by mypy and pyright."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import assert_type

import pytest

from lab_client import (
    AsyncClient,
    AsyncRun,
    AsyncSearch,
    Client,
    Event,
    Experiment,
    History,
    Plan,
    Point,
    Run,
    RunInfo,
    RunOptions,
    RunState,
    Search,
    SearchInfo,
    Trial,
    choice,
    experiment,
    log_uniform,
)
from lab_client.configs import ConfigItem, PlainValue
from lab_client.events import LogLine, MetricsBatch, MetricsUpdate, StateChange
from lab_client.history import Series
from lab_client.searches import SearchEntry


def blocking(client: Client) -> None:
    assert_type(client.plan("mnist", {"epochs": 1}), Plan)
    assert_type(client.plan("mnist").values, dict[str, PlainValue])
    assert_type(client.experiment("mnist"), Experiment)
    assert_type(client.experiment("mnist").schema["epochs"], ConfigItem)
    run = client.create("mnist", {"betas": [0.9, 0.99]}, options=RunOptions(priority=1))
    assert_type(run, Run)
    assert_type(run.start(), Run)
    assert_type(run.state, RunState)
    assert_type(run.info, RunInfo)
    assert_type(run.info.create_time, datetime | None)
    assert_type(run.wait(progress=True), RunInfo)
    assert_type(run.metrics(names="*_loss"), Iterator[Point])
    assert_type(run.events(), Iterator[Event])
    assert_type(run.batches(), Iterator[MetricsBatch])
    assert_type(run.logs(), Iterator[LogLine])
    assert_type(run.history(), History)
    assert_type(run.history()["loss"], Series)
    assert_type(run.download("log.txt"), Path)
    assert_type(client.watch_metrics(), Iterator[MetricsUpdate])
    assert_type(client.runs(), Iterator[Run])
    for event in run.events():
        match event.body:
            case StateChange() as change:
                assert_type(change.state, RunState)
            case _:
                pass
    study = client.search("mnist", {"conv1_kernal": choice(3, 5), "epochs": 1}, maximize="accuracy")
    assert_type(study, Search)
    client.search("mnist", {}, maximise="accuracy")  # type: ignore[call-arg]
    run.fork(more_epochs="2")  # type: ignore[arg-type]
    client.experiment("mnist").create({"epochs": 1}, tag="a")  # type: ignore[call-arg]
    assert_type(study.best, Trial | None)
    assert_type(study.trials(), tuple[Trial, ...])
    assert_type(study.watch(), Iterator[SearchEntry])
    assert_type(study.wait(progress=True), SearchInfo)
    assert_type(study.extend(30), Search)
    assert_type(study.importances(), dict[str, float])
    with client as same:
        assert_type(same, Client)


async def asynchronous(client: AsyncClient) -> None:
    run = await client.create("mnist")
    assert_type(run, AsyncRun)
    assert_type(await run.start(), AsyncRun)
    assert_type(await run.state, RunState)
    assert_type(await run.wait(), RunInfo)
    assert_type(run.metrics(), AsyncIterator[Point])
    assert_type(await run.history(), History)
    assert_type(client.runs(), AsyncIterator[AsyncRun])
    study = await client.search("mnist", {"lr": log_uniform(1e-4, 1e-1)}, minimize="loss")
    assert_type(study, AsyncSearch)
    await client.search("mnist", {}, minimise="loss")  # type: ignore[call-arg]
    assert_type(await study.best, Trial | None)
    assert_type(study.watch(), AsyncIterator[SearchEntry])
    assert_type(client.watch_metrics(), AsyncIterator[MetricsUpdate])


def facade() -> None:
    assert_type(experiment.connect("localhost:50051"), Client)
    assert_type(experiment.calculate_configs("mnist", {"epochs": 1}), Plan)
    assert_type(experiment.start(), Run)
    assert_type(experiment.search("mnist", {}, maximize="accuracy"), Search)
    experiment.search("mnist", {}, maximise="accuracy")  # type: ignore[call-arg]


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy --strict", "pyright"])
def test_type_checkers_agree_with_this_file(checker: str) -> None:
    root = Path(__file__).parents[2]
    name, *flags = checker.split()
    program = Path(sys.executable).with_name(name)
    if name == "pyright":
        result = subprocess.run([program, "--version"], capture_output=True, text=True, cwd=root)
        if result.returncode:
            pytest.skip(f"pyright has no Node here: {(result.stderr or result.stdout)[-200:]}")
        flags = ["--pythonpath", sys.executable]
    result = subprocess.run([program, *flags, __file__], capture_output=True, text=True, cwd=root)
    assert result.returncode == 0, result.stdout + result.stderr
