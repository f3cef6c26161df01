from __future__ import annotations

import hashlib
import os
import platform
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lab_core import experiment, loop, tracker
from lab_core.configs import BaseConfigs
from lab_core.errors import ConfigError, LabError, RunNotFound, SettingsError
from lab_core.experiment import Experiment, RunRecord


class Configs(BaseConfigs):
    # how long
    epochs: int = 2
    rate: float = 1e-05
    name: str = "ä"


def trained(**options: object) -> Experiment:
    made = experiment.create(name="sample", console=False, **options)  # type: ignore[arg-type]
    experiment.calculate_configs(Configs(), {"epochs": 1})
    with experiment.start():
        for step in range(3):
            tracker.save(step, loss=step / 2)
    return made


def test_a_run_leaves_all_its_files(home: Path) -> None:
    run = trained(comment="why not", tags=["a", "b"])
    assert run.folder == home / "runs" / "sample" / run.run_id
    names = {path.name for path in run.folder.iterdir()}
    assert {"run.yaml", "configs.yaml", "indicators.yaml", "sqlite.db", "tensorboard"} <= names
    record = yaml.safe_load((run.folder / "run.yaml").read_text())
    assert record["notes"] == "why not"
    assert record["tags"] == ["a", "b"]
    assert record["status"] == "completed"
    assert record["end"] >= record["start"]
    assert record["start_step"] == 0
    assert RunRecord.load(run.folder) == run.record


def test_configs_survive_with_their_types() -> None:
    items = yaml.safe_load((trained().folder / "configs.yaml").read_text())["items"]
    assert items["epochs"]["value"] == 1
    assert items["epochs"]["hyperparam"] is True
    assert items["rate"]["value"] == 1e-05
    assert isinstance(items["rate"]["value"], float)
    assert items["name"]["value"] == "ä"


def test_metrics_are_in_the_database() -> None:
    with sqlite3.connect(trained().folder / "sqlite.db") as db:
        rows = db.execute("SELECT step, value FROM scalars WHERE indicator = 'loss'").fetchall()
    assert rows == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_only_the_writers_asked_for_write() -> None:
    names = {path.name for path in trained(writers=set()).folder.iterdir()}
    assert not names & {"sqlite.db", "tensorboard"}


def test_run_ids_are_safe_sorted_and_unique() -> None:
    ids = [experiment.new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", run_id) for run_id in ids)


def test_a_second_run_starts_afresh() -> None:
    trained()
    loop.set_global_step(100)
    tracker.set_scalar("left_behind")
    trained()
    assert loop.get_global_step() == 0
    assert tracker.last_values() == {"loss": 1.0}
    assert "left_behind" not in tracker.current().indicators()


def test_a_second_run_trains_as_long_as_the_first() -> None:
    lengths = []
    for _ in range(2):
        experiment.create(name="twice", console=False, writers=set())
        with experiment.start():
            lengths.append(len(list(loop.loop(5))))
    assert lengths == [5, 5]


def test_what_raises_is_recorded_and_raised_again() -> None:
    run = experiment.create(name="bad", console=False, writers=set())
    with pytest.raises(ZeroDivisionError), experiment.start():
        _ = 1 / 0
    record = RunRecord.load(run.folder)
    assert record.status == "failed"
    assert record.traceback is not None
    assert "ZeroDivisionError" in record.traceback
    assert record.end is not None


def test_what_is_tracked_before_a_crash_is_kept() -> None:
    run = experiment.create(name="bad", console=False, writers={"sqlite"})

    def crash() -> None:
        tracker.save(1, loss=1.0)
        tracker.add(loss=2.0)
        loop.set_global_step(2)
        raise RuntimeError

    with pytest.raises(RuntimeError), experiment.start():
        crash()
    with sqlite3.connect(run.folder / "sqlite.db") as db:
        rows = db.execute("SELECT step, value FROM scalars ORDER BY step").fetchall()
    assert rows == [(1, 1.0), (2, 2.0)]


def test_a_run_without_with_ends_with_the_next_one() -> None:
    first = experiment.create(name="open", console=False, writers=set())
    experiment.start()
    experiment.create(name="open", console=False, writers=set())
    assert RunRecord.load(first.folder).status == "completed"


SCRIPT = """
from lab_core import experiment, tracker
experiment.create(name="script", console=False, writers={"sqlite"}, run_id="it")
experiment.start()
tracker.save(1, loss=0.5)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "status", "code"),
    [("", "completed", 0), ("raise ValueError('no')", "failed", 1), ("exit()", "completed", 0)],
)
def test_a_script_without_with_is_closed_at_its_end(
    home: Path, end: str, status: str, code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + end], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    record = RunRecord.load(home / "runs" / "script" / "it")
    assert record.status == status
    assert ("ValueError: no" in (record.traceback or "")) == (status == "failed")


def test_a_killed_run_leaves_a_folder_that_opens(home: Path) -> None:
    kill = "import os; tracker.current().flush(); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", SCRIPT + kill], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    folder = home / "runs" / "script" / "it"
    record = RunRecord.load(folder)
    assert record.status == "running"
    assert record.pid != os.getpid()
    with sqlite3.connect(folder / "sqlite.db") as db:
        assert db.execute("SELECT value FROM scalars").fetchall() == [(0.5,)]


def test_the_git_state_is_recorded(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    script = repository / "train.py"
    script.write_text(
        "from lab_core import experiment\n"
        "experiment.create(console=False, writers=set(), run_id='it')\n"
        "with experiment.start(): pass\n"
    )
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (
        ["init", "-q", "-b", "trunk"],
        ["add", "."],
        [*identity, "commit", "-qm", "Start: äöü"],
    ):
        subprocess.run(["git", *command], cwd=repository, check=True, timeout=60)
    # a change in another encoding must not end a run
    script.write_bytes(b"# coding: latin-1\n" + script.read_bytes() + b"# \xe4\xf6\xfc\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(experiment.__file__).parents[2])}
    subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=60)

    folder = tmp_path / "home" / "runs" / "train" / "it"
    record = RunRecord.load(folder)
    assert record.experiment == record.name == "train"
    assert record.script == str(script.resolve())
    assert record.commit_message == "Start: äöü"
    assert record.branch == "trunk"
    assert record.is_dirty is True
    assert len(record.commit or "") == 40
    assert "+# coding: latin-1" in (folder / "source.diff").read_text(encoding="utf-8")


def test_the_code_and_the_environment_are_recorded(tmp_path: Path) -> None:
    script, helper = tmp_path / "train.py", tmp_path / "helper.py"
    script.write_text(
        "from lab_core import experiment\n"
        "from helper import Configs\n"
        "experiment.create(console=False, writers=set(), run_id='it')\n"
        "experiment.calculate_configs(Configs())\n"
        "with experiment.start(): pass\n"
    )
    helper.write_text("from lab_core.configs import BaseConfigs\nclass Configs(BaseConfigs): ...\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(experiment.__file__).parents[2])}
    subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=60)

    record = RunRecord.load(tmp_path / "home" / "runs" / "train" / "it")

    assert record.code is not None
    assert (record.code["module"], record.code["name"]) == ("helper", "Configs")
    assert record.code["path"] == str(helper)
    assert record.code["files"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (helper, script)
    }
    assert len(record.code["digest"]) == 64
    assert record.environment is not None
    assert record.environment["python"] == platform.python_version()
    assert record.environment["device"] == "cpu"


def test_without_git_a_run_is_just_as_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    record = RunRecord.load(trained().folder)
    assert record.commit is None
    assert record.is_dirty is None


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "a\nb", "x" * 200])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="letters, digits"):
        experiment.create(name=name, console=False)


@pytest.mark.parametrize("run_id", ["nobody", "../sample", "", "*"])
def test_loading_a_run_that_is_not_there_is_an_error(run_id: str) -> None:
    trained()
    experiment.create(name="sample", console=False, writers=set())
    with pytest.raises(RunNotFound, match="no run"):
        experiment.load(run_id)


def test_starting_twice_and_saving_too_early_are_errors() -> None:
    experiment.create(name="sample", console=False, writers=set())
    with pytest.raises(LabError, match="only a run in progress"):
        experiment.save_checkpoint()
    with experiment.start():
        with pytest.raises(LabError, match="started before"):
            experiment.start()
        with pytest.raises(LabError, match="before the run is started"):
            experiment.load("any")


def test_wrong_configs_are_all_named_and_no_folder_is_made(home: Path) -> None:
    experiment.create(name="sample", console=False, writers=set())
    with pytest.raises(ConfigError) as caught:
        experiment.calculate_configs(Configs(), {"epoch": 1, "rate": "fast"})
    assert {violation.key for violation in caught.value.violations} == {"epoch", "rate"}
    assert not home.exists()


def test_plain_dicts_are_configs() -> None:
    run = experiment.create(name="plain", console=False, writers=set())
    conf = experiment.calculate_configs({"epochs": 3}, {"epochs": 4})
    with experiment.start():
        assert conf.epochs == 4
    items = yaml.safe_load((run.folder / "configs.yaml").read_text())["items"]
    assert items["epochs"]["value"] == 4


def test_arrays_are_saved() -> None:
    experiment.create(name="arrays", console=False, writers=set())
    with experiment.start():
        path = experiment.save_numpy("weights.1", np.arange(3))
        with pytest.raises(LabError, match="array's name"):
            experiment.save_numpy("../up", np.arange(3))
    assert np.load(path).tolist() == [0, 1, 2]


def test_the_header_lists_the_configs(capsys: pytest.CaptureFixture[str]) -> None:
    run = experiment.create(name="shown", comment="a comment", writers=set())
    experiment.calculate_configs(Configs(), {"epochs": 1})
    with experiment.start():
        pass
    shown = capsys.readouterr().out
    for text in (f"shown: {run.run_id}", "a comment", "Configs:", "*epochs = 1", "rate = 1e-05"):
        assert text in shown


def test_run_calls_main_or_run() -> None:
    calls = []

    class WithRun(BaseConfigs):
        def run(self) -> None:
            calls.append("run")

    class Main:
        def __call__(self) -> None:
            calls.append("main")

    class WithMain(WithRun):
        main: Main

    experiment.run(WithRun())
    experiment.run(WithMain())
    assert calls == ["run", "main"]
    with pytest.raises(LabError, match="neither"):
        experiment.run(Configs())


INTERACTIVE = """
from lab_core import experiment, loop, tracker
{before}
made = experiment.create(name="open", console=False, writers=set(), run_id="it")
made = experiment.start()
{training}
made = experiment.create(name="open", console=False, writers=set(), run_id="next")
"""


@pytest.mark.parametrize(
    ("before", "training", "status"),
    [
        ("", "1 / 0", "failed"),
        ("1 / 0", "tracker.save(1, x=1.0)", "completed"),
        ("", "for step in loop.loop(3): 1 / 0\n", "failed"),
        ("", "a_typo\nfor step in loop.loop(3): tracker.save(x=1.0)\n", "completed"),
    ],
    ids=["raises", "raised before", "raises in a loop", "raised before the loop"],
)
def test_an_interactive_run_ends_by_what_its_training_raised(
    home: Path, before: str, training: str, status: str
) -> None:
    script = INTERACTIVE.format(before=before, training=training)
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=script, check=False, capture_output=True, timeout=60, text=True
    )  # fmt: skip
    record = RunRecord.load(home / "runs" / "open" / "it")
    assert record.status == status, done.stderr
    assert ("ZeroDivisionError" in (record.traceback or "")) == (status == "failed")


FULL_DISK = """
import sys
from pathlib import Path
import torch
from lab_core import experiment, loop, tracker
folder = Path(sys.argv[1])
made = experiment.create(name="full", folder=folder, writers={"sqlite"}, checkpoint_interval=2)
model = torch.nn.Linear(10, 10)
made.add_pytorch_models({"model": model})
with made.start():
    for step in loop.loop(6):
        tracker.save(x=1.0)
        if step == 2:
            with open(folder / "filler", "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(1024))
                except OSError:
                    pass
        if step == 4 and len(sys.argv) > 2:
            loop.request_stop(checkpoint=True)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only who may mount a file system can fill one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(small_disk: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(small_disk)],
        check=False, capture_output=True, timeout=120, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "No space left on device; the training goes on without it" in done.stdout
    record = RunRecord.load(small_disk)
    assert record.status == "completed"
    assert record.end is not None
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["2"]
    assert not (small_disk / ".reserve").exists()


@pytest.mark.slow
def test_a_stop_that_cannot_save_as_it_was_asked_to_is_an_error(small_disk: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(small_disk), "stop"],
        check=False, capture_output=True, timeout=120, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "CheckpointError: cannot write the checkpoint" in done.stderr
    record = RunRecord.load(small_disk)
    assert record.status == "failed"
    assert "CheckpointError" in (record.traceback or "")


def test_a_file_of_ones_own_is_saved_whole_and_told(tmp_path: Path) -> None:
    source = tmp_path / "figure.png"
    source.write_bytes(b"pixels")
    run = experiment.create(name="own", writers=set())
    told: list[Path] = []
    run.on_artifact(told.append)
    with experiment.start():
        copied = experiment.save_artifact("plots/roc.png", source)
        written = experiment.save_artifact("notes.txt", b"one")
        assert experiment.save_artifact("notes.txt", b"two") == written
        array = experiment.save_numpy("weights", np.arange(3))
    assert copied == run.folder / "artifacts" / "plots" / "roc.png"
    assert (copied.read_bytes(), written.read_bytes()) == (b"pixels", b"two")
    assert told == [copied, written, written, array]
    names = {path.name for path in (run.folder / "artifacts").rglob("*") if path.is_file()}
    assert names == {"roc.png", "notes.txt"}  # no drafts


@pytest.mark.parametrize(
    "name", ["", "../up", "/etc/passwd", "a//b", ".hidden", "a/..", "a b", "a/" * 9 + "a", None]
)
def test_a_name_that_is_no_artifacts_is_refused(name: Any) -> None:
    experiment.create(name="own", writers=set())
    with experiment.start(), pytest.raises(LabError, match="an artifact's name is letters"):
        experiment.save_artifact(name, b"x")


def test_a_file_that_is_not_there_is_no_artifact(tmp_path: Path) -> None:
    run = experiment.create(name="own", writers=set())
    with experiment.start():
        for content in (tmp_path / "none", tmp_path, 3):
            with pytest.raises(LabError, match="cannot be saved"):
                experiment.save_artifact("x", content)  # type: ignore[arg-type]
    assert not [path for path in (run.folder / "artifacts").rglob("*") if path.is_file()]
