"""What the lab command gets of a run: its history, plots, files and models."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

from lab_client.cli.plot import plot
from tests.client.cli.conftest import Lab
from tests.client.twin import Twin, TwinRun


def test_indicators_of_parameters_are_left_out_unless_asked_for(lab: Lab, twin: Twin) -> None:
    run = twin.add_run()
    run.measure(0, **{"loss": [1.0], "model.conv1.weight": [2.0]})
    run_id = run.message.id
    for arguments in (
        ["history", run_id, "--csv"],
        ["history", run_id, "--json"],
        ["runs", "--json"],
        ["status", run_id, "--json"],
        ["compare", run_id, run_id, "--json"],
    ):
        result = lab(*arguments)
        assert "loss" in result.stdout
        assert "conv1" not in result.stdout
        assert "left out; include with --all" in result.stderr
        everything = lab(*arguments, "--all-metrics" if "runs" in arguments else "--all")
        assert "conv1" in everything.stdout
        assert not everything.stderr
    assert "conv1" in lab("history", run_id, "--csv", "-m", "model.*").stdout


def test_a_run_without_metrics_says_so(lab: Lab, twin: Twin) -> None:
    run_id = twin.add_run().message.id
    assert lab("history", run_id).stderr == f"Run {run_id} has no metrics yet.\n"
    assert json.loads(lab("history", run_id, "--json").stdout) == {}


def test_history_as_csv_has_a_line_for_each_step(lab: Lab, twin: Twin) -> None:
    run = twin.add_run()
    run.measure(0, loss=[1.0, float("nan")])
    run.measure(1, accuracy=[0.5])
    rows = list(csv.DictReader(io.StringIO(lab("history", run.message.id, "--csv").stdout)))
    assert rows == [
        {"step": "0", "loss": "1.0", "accuracy": ""},
        {"step": "1", "loss": "nan", "accuracy": "0.5"},
    ]
    found = json.loads(lab("history", run.message.id, "--json", "-m", "loss").stdout)
    assert found == {"loss": {"steps": [0, 1], "values": [1.0, "nan"]}}
    assert "last 0.5" in lab("history", run.message.id).stdout


def test_download_writes_the_chosen_files(lab: Lab, run: TwinRun, tmp_path: Path) -> None:
    run.files = {"log.txt": b"hello", "checkpoints/1/model": b"m"}
    result = lab("download", run.message.id, "checkpoints/*", "--to", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "checkpoints/1/model").read_bytes() == b"m"
    assert not (tmp_path / "log.txt").exists()
    assert lab("download", run.message.id, "nothing").exit_code == 2


def test_download_refuses_a_name_that_no_file_has(lab: Lab, run: TwinRun, tmp_path: Path) -> None:
    run.files = {"log.txt": b"hello"}
    result = lab("download", run.message.id, "log.txt", "lgo.txt", "--to", str(tmp_path))
    assert result.exit_code == 2
    assert f"run {run.message.id} has no file 'lgo.txt'" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(lab: Lab, run: TwinRun, tmp_path: Path) -> None:
    run.files = {"checkpoints/1/model.pt": b"m"}
    run.add(media={"items": [{"name": "note", "text": "hello"}]})
    file = tmp_path / "file"
    file.touch()
    for command in (["download", run.message.id, "model"], ["media", run.message.id]):
        result = lab(*command, "--to", str(file))
        assert result.exit_code == 1
        assert re.fullmatch(rf"lab: {file}.*: (File exists|Not a directory)\n", result.stderr)


def test_names_with_brackets_are_shown_as_they_are(lab: Lab, run: TwinRun) -> None:
    run.files = {"code/layers[train]/a[/b].py": b"m", "out/:smile:": b"x"}
    shown = lab("artifacts", run.message.id).stdout
    assert all(path in shown for path in run.files)
    assert "list[int]" in lab("show", "mnist").stdout


def test_artifacts_asks_on_one_connection(lab: Lab, twin: Twin, run: TwinRun) -> None:
    lab("artifacts", run.message.id)
    names = [type(request).__name__ for request in twin.requests]
    assert names.count("GetServerInfoRequest") == 1


def test_a_plot_has_its_scale_and_its_size() -> None:
    lines = plot([0.0, 1.0, float("nan"), 4.0], width=10, height=3)
    assert [len(line) for line in lines] == [13, 13, 13]
    assert lines[0].startswith("4 ┤")
    assert lines[-1].startswith("0 ┤")
    assert plot([]) == []
    assert len(plot([1.0])) == 6


def test_the_indicators_of_single_parameters_are_shown_when_asked_for(lab: Lab, twin: Twin) -> None:
    run = twin.add_run()
    run.message.config.overrides["epochs"].int_value = 2
    run.measure(0, **{"loss": [0.5], "model.conv1.weight": [1.5]})
    run_id = run.message.id
    for command in ("status", "history"):
        short = lab(command, run_id).stdout
        assert "loss" in short
        assert "model.conv1" not in short
        assert "1 more with --all" in short
        full = lab(command, run_id, "--all").stdout
        assert "model.conv1.weight" in full
        assert "more with" not in full
    assert "model.conv1" in lab("history", run_id, "-m", "model*").stdout
    lines = [line.split() for line in lab("status", run_id).stdout.splitlines()]
    assert lines.index(["configs"]) < lines.index(["epochs", "2"])


def test_a_model_is_that_of_the_newest_checkpoint(lab: Lab, run: TwinRun, tmp_path: Path) -> None:
    run_id = run.message.id
    assert "lab checkpoint" in lab("download", run_id, "model").stderr
    run.files["checkpoints/9/model.pt"] = b"old"
    run.files["checkpoints/10/model.pt"] = b"new"
    run.files["checkpoints/10/_run.pt"] = b"state"
    run.files["checkpoints/11/manifest.json"] = b"incomplete, as it arrives"
    result = lab("download", run_id, "model", "--to", str(tmp_path / "to"))
    assert result.stdout.strip() == str(tmp_path / "to" / "model.pt")
    assert (tmp_path / "to" / "model.pt").read_bytes() == b"new"
