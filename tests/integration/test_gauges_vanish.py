"""The number of series depends on what trains now, not on what ever trained."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab_client
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

NUM_RUNS = 200


@pytest.fixture
def quiet_server(tmp_path: Path) -> Iterator[RealServer]:
    """A server that nobody else uses."""
    experiments = Path(__file__).parents[1] / "experiments.py"
    server = start_server(tmp_path / "home", "--slots", "cpu:2", "--experiments", str(experiments))
    yield server
    server.stop()


def series(server: RealServer) -> set[str]:
    """Return the names and labels on /metrics, without those of single processes' calls."""
    with urllib.request.urlopen(f"{server.http_url}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    names = {line.rsplit(" ", 1)[0] for line in lines if line and not line.startswith("#")}
    return {name for name in names if name.startswith("lab_")}


def test_200_short_runs_leave_as_many_series_as_none(quiet_server: RealServer) -> None:
    with lab_client.Client(quiet_server.address) as client:
        client.create("counting", {"steps": 1}).start().wait()
        before = series(quiet_server)

        runs = [client.create("counting", {"steps": 2}).start() for _ in range(NUM_RUNS)]
        for run in runs:
            run.wait(timeout_s=120, check=True)

        assert series(quiet_server) == before
