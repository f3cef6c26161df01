"""The examples of the client run as they are, against a real server."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from lab_client import Client
from tests.servers import RealServer

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


def environment(server: RealServer) -> dict[str, str]:
    return {**os.environ, "LAB_SERVER": server.address, "COLUMNS": "100"}


def run_example(server: RealServer, name: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env=environment(server),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_quickstart_trains_and_tells_the_accuracy(server: RealServer) -> None:
    output = run_example(server, "quickstart.py")
    assert "COMPLETED: accuracy 0." in output
    assert "sqlite.db" in output


def test_the_search_compares_its_best_trial_with_the_tutorial(
    server: RealServer, tmp_path: Path
) -> None:
    plot = tmp_path / "search.png"
    output = run_example(server, "search.py", "--trials", "3", "--epochs", "1", "--plot", str(plot))
    assert "the tutorial's configs: 0." in output
    assert "the best of 3 trials: 0." in output
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_grid_trains_four_runs_at_most_two_at_a_time_and_names_the_best(
    server: RealServer,
) -> None:
    with Client(server.address) as client:
        before = {run.id for run in client.runs(tags=["tuning"])}
        output = run_example(server, "remote_tuning.py", "--epochs", "1")
        infos = [run.info for run in client.runs(tags=["tuning"]) if run.id not in before]
    assert len(infos) == 4
    assert {info.state for info in infos} == {"COMPLETED"}
    best = max(info.metrics["accuracy"] for info in infos)
    assert f"with accuracy {best:.4f}" in output
    spans = [(info.start_time, info.end_time) for info in infos]
    for start, _ in spans:
        assert start is not None
        assert sum(begin <= start < end for begin, end in spans if begin and end) <= 2


def test_the_forwarder_has_every_value_once_though_it_was_killed(
    server: RealServer, tmp_path: Path
) -> None:
    database = tmp_path / "metrics.db"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, EXAMPLES / "forward_metrics.py", database, "--tag", "forward"],
            env=environment(server),
            stdout=subprocess.PIPE,
            text=True,
        )

    def read_until(process: subprocess.Popen[str], text: str) -> None:
        assert process.stdout is not None
        assert any(text in line for line in process.stdout), f"it ended before it said {text!r}"

    with Client(server.address) as client:
        run = client.create("counting", {"steps": 60, "step_s": 0.01}, tags=["forward"])
        first = start()
        read_until(first, "forwarding")
        run.start()
        read_until(first, "RUNNING")
        first.kill()
        first.wait()
        second = start()
        read_until(second, f"{run.id} COMPLETED")
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
        history = run.history()
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT name, step, value FROM points ORDER BY name, step").fetchall()
    connection.close()
    expected = [
        (name, step, value)
        for name in sorted(history)
        for step, value in zip(history[name].steps, history[name].values, strict=True)
    ]
    assert rows == expected


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_from_top_to_bottom(
    server: RealServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAB_SERVER", server.address)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook: Any = nbformat.read(EXAMPLES / "remote_training.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=200, kernel_name="python3").execute()
    shown = [str(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    expected = (
        "version=",
        "how often to go through the training set",
        "'learning_rate': 0.05",
        "RunState.COMPLETED",
        "<svg",
        "train_loss",
        "image/png",
        "did you mean 'learning_rate'?",
        "[]",
    )
    for part, output in zip(expected, shown, strict=True):
        assert part in output


def test_the_notebook_is_kept_without_its_outputs() -> None:
    for path in EXAMPLES.glob("*.ipynb"):
        notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        for cell in notebook.cells:
            assert not cell.get("outputs")
