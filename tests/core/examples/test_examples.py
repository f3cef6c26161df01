"""The examples run as a user runs them: each a process of its own, on an epoch of mnist_5k."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[3] / "examples"
# large batches: the same epoch in fewer steps
SMALL = ("dataset=mnist_5k", "epochs=1", "learning_rate=0.1")


def run(name: str, home: Path, *arguments: str) -> str:
    """Run an example to its good end and return what it prints."""
    done = start(name, home, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(name: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example to whatever end."""
    environment = {**os.environ, "LAB_HOME": str(home), "LAB_DATA_PATH": str(home / "none")}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the points of each scalar of a run."""
    points: dict[str, list[tuple[int, float]]] = {}
    with sqlite3.connect(folder / "sqlite.db") as db:
        for name, step, value in db.execute("SELECT indicator, step, value FROM scalars"):
            points.setdefault(name, []).append((step, value))
    return points


@pytest.mark.parametrize("name", ["mnist_tutorial", "mnist_configs", "mnist_tuning"])
def test_wrong_arguments_end_in_sentences(name: str, tmp_path: Path) -> None:
    done = start(name, tmp_path, "epocs=2", "dataset=foo")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown config 'epocs'; did you mean 'epochs'?\n" in done.stderr
    assert "dataset" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert not (tmp_path / "runs").exists()


def test_the_tutorial_runs_as_written(tmp_path: Path) -> None:
    run("mnist_tutorial", tmp_path, *SMALL, "batch_size=100")
    (folder,) = (tmp_path / "runs" / "mnist_tutorial").iterdir()
    points = scalars(folder)
    assert [step for step, _ in points["test_loss"]] == [40]
    assert points["accuracy"][0][1] > 0.5
    saved_at = [step for step, _ in points["train_loss"]]
    assert saved_at == [1, 11, 21, 31, 40], "every tenth batch, and what is left of the epoch"
    assert "model.conv1.weight.grad" in points
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["40"]
    items = yaml.safe_load((folder / "configs.yaml").read_text())["items"]
    assert items["loop_count"]["value"] == 40
    assert items["optimizer"]["option"] == "sgd_optimizer"


def test_the_grid_is_four_runs_from_step_zero_and_a_table(tmp_path: Path) -> None:
    output = run("mnist_tuning", tmp_path, *SMALL, "batch_size=500", "is_log_parameters=false")
    folders = list((tmp_path / "runs" / "mnist_tuning").iterdir())
    assert len(folders) == 4
    for folder in folders:
        points = scalars(folder)
        assert [step for step, _ in points["accuracy"]] == [8]
        assert min(step for step, _ in points["train_loss"]) == 1
    header, *rows = output.splitlines()[-5:]
    assert header.split() == [
        "run", "conv1_kernal", "conv2_kernal", "train_loss", "test_loss", "accuracy"
    ]  # fmt: skip
    cells = [row.split() for row in rows]
    assert {(conv1, conv2) for _, conv1, conv2, *_ in cells} == {(a, b) for a in "35" for b in "35"}
    accuracies = [float(row[-1]) for row in cells]
    assert accuracies == sorted(accuracies, reverse=True)


def test_inherited_configs_run(tmp_path: Path) -> None:
    run("mnist_configs", tmp_path, *SMALL, "train_batch_size=100")
    (folder,) = (tmp_path / "runs" / "mnist_configs").iterdir()
    points = scalars(folder)
    assert [step for step, _ in points["valid_accuracy"]] == [40]
    assert points["valid_accuracy"][0][1] > 0.5
