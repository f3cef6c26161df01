"""The lab command against the twin, and a run of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from lab_client.cli.app import app
from tests.client.twin import Twin, TwinRun

Lab = Callable[..., Result]


@pytest.fixture
def lab(twin: Twin) -> Lab:
    def call(*arguments: str, server: str = "", **environment: str) -> Result:
        where = ["--server", server or twin.address]
        return CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, [*where, *arguments])

    return call


@pytest.fixture
def run(twin: Twin) -> TwinRun:
    run = twin.add_run(name="first", tags=["a", "b"])
    run.train(num_events=3)
    return run
