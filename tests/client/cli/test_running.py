"""Runs that the lab command plans, starts, changes, stops, forks and removes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lab_client.cli.app import app
from lab_client.cli.arguments import literal, parse_value
from lab_client.configs import ConfigItem, ExperimentSchema
from lab_rpc.v1 import event_pb2
from tests.client.cli.conftest import Lab
from tests.client.twin import Twin, TwinRun


def test_plan_marks_what_was_overridden(lab: Lab) -> None:
    planned = lab("plan", "mnist", "epochs=3", "conv1_kernal=3")
    assert planned.exit_code == 0
    lines = [line.split() for line in planned.stdout.splitlines()]
    assert ["epochs", "3", "override"] in lines
    assert ["dataset", "mnist_5k", "option", "mnist"] in lines


def test_run_starts_with_all_that_was_said(lab: Lab, twin: Twin) -> None:
    result = lab(
        *("run", "mnist", "epochs=2", "learning_rate=0.1", "dataset=mnist_5k"),
        *("--name", "x", "--tag", "y", "--tag", "z", "--notes", "n", "--priority", "3"),
        *("--first", "set_seed"),
    )
    assert result.exit_code == 0, result.output
    message = twin.runs[result.stdout.strip()].message
    assert (message.name, list(message.tags), message.notes) == ("x", ["y", "z"], "n")
    assert message.options.priority == 3
    assert message.state == event_pb2.RUN_STATE_QUEUED
    values = message.config.overrides
    assert values["epochs"].int_value == 2
    assert values["learning_rate"].double_value == 0.1
    assert values["dataset"].string_value == "mnist_5k"


def test_several_runs_are_shown_stopped_and_changed_at_once(lab: Lab, twin: Twin) -> None:
    runs = [twin.add_run(name=f"n{index}", tags=["old"]) for index in range(2)]
    ids = [run.message.id for run in runs]
    for run in runs:
        run.state(event_pb2.RUN_STATE_RUNNING)
    shown = lab("status", *ids).stdout
    assert "n0" in shown
    assert "n1" in shown
    assert [info["id"] for info in json.loads(lab("status", *ids, "--json").stdout)] == ids
    assert json.loads(lab("status", ids[0], "--json").stdout)["id"] == ids[0]
    edited = lab("edit", *ids, "--add-tag", "new", "--remove-tag", "old")
    assert edited.stdout.splitlines() == [f"{ids[0]} n0 new", f"{ids[1]} n1 new"]
    assert lab("stop", *ids).stdout.splitlines() == [f"{id} STOPPED" for id in ids]
    assert lab("resume", *ids).stdout.split() == ids
    assert "only one run can be watched" in lab("resume", *ids, "--watch").stderr
    assert lab("stop", ids[0], "nothing").exit_code == 2
    assert twin.runs[ids[0]].message.state == event_pb2.RUN_STATE_QUEUED  # all are found first
    assert "nothing to change" in lab("edit", *ids).stderr


@pytest.mark.slow
def test_configs_come_from_a_file_and_the_command_line_wins(
    lab: Lab, twin: Twin, tmp_path: Path
) -> None:
    file = tmp_path / "configs.yaml"
    file.write_text("epochs: 5\nlearning_rate: 1e-3\ndataset: mnist_5k\n")
    result = lab("run", "mnist", "--file", str(file), "epochs=2", "--writers", "sqlite")
    message = twin.runs[result.stdout.strip()].message
    values = message.config.overrides
    assert values["epochs"].int_value == 2
    assert values["learning_rate"].double_value == 0.001  # YAML takes it for a text
    assert values["dataset"].string_value == "mnist_5k"
    assert list(message.options.writers) == ["sqlite"]

    file.write_text(
        "configs: Configs\nitems:\n"
        "  epochs: {value: 7, origin: override}\n"
        "  learning_rate: {value: 0.5, origin: default}\n"
        "  dataset: {value: null, option: mnist_5k, origin: override}\n"
    )
    result = lab("run", "mnist", "--file", str(file))
    values = twin.runs[result.stdout.strip()].message.config.overrides
    assert dict(values) == {"epochs": values["epochs"], "dataset": values["dataset"]}
    assert (values["epochs"].int_value, values["dataset"].string_value) == (7, "mnist_5k")


@pytest.mark.parametrize("text", ["- 1\n", "a: [", "\xff"])
def test_a_file_without_configs_is_refused(lab: Lab, tmp_path: Path, text: str) -> None:
    file = tmp_path / "configs.yaml"
    file.write_bytes(text.encode("latin-1"))
    result = lab("run", "mnist", "--file", str(file))
    assert (result.exit_code, str(file) in result.stderr) == (2, True)
    assert lab("run", "mnist", "--file", str(tmp_path / "none")).exit_code == 2


def test_a_fork_has_the_options_of_its_parent_unless_given(lab: Lab, twin: Twin) -> None:
    parent = twin.add_run(checkpoint_step=3)
    parent.message.options.priority = 7
    parent.message.options.device = "cpu"
    result = lab("fork", parent.message.id, "--device", "cuda:0", "--notes", "why")
    message = twin.runs[result.stdout.strip()].message
    assert (message.options.priority, message.options.device) == (7, "cuda:0")
    assert message.notes == "why"


def test_what_may_be_misspelt_is_told(lab: Lab, twin: Twin) -> None:
    twin.warnings = ["no recent run has a config or metric 'acuracy'"]
    result = lab("runs", "--where", "acuracy > 1")
    assert "lab: no recent run has a config or metric 'acuracy'" in result.stderr
    assert result.exit_code == 0


def test_rm_asks_and_says_what_to_do_where_it_cannot(lab: Lab, twin: Twin, run: TwinRun) -> None:
    run_id = run.message.id
    result = lab("rm", run_id)
    assert result.exit_code == 2
    assert "confirm with --yes" in result.stderr
    answers = CliRunner().invoke(app, ["--server", twin.address, "rm", run_id], input="n\n")
    assert (answers.exit_code, run_id in twin.runs) == (0, True)
    answers = CliRunner().invoke(app, ["--server", twin.address, "rm", run_id], input="y\n")
    assert (answers.exit_code, run_id in twin.runs) == (0, False)


def test_stop_resume_fork_edit_and_rm(lab: Lab, twin: Twin) -> None:
    run_id = lab("run", "mnist", "epochs=2").stdout.strip()
    assert "STOPPED" in lab("stop", run_id, "--wait").stdout
    assert lab("resume", run_id).stdout.strip() == run_id
    lab("stop", run_id)
    child = lab("fork", run_id, "epochs=5", "--name", "child").stdout.strip()
    assert twin.runs[child].message.parent.run_id == run_id
    assert twin.runs[child].message.config.overrides["epochs"].int_value == 5
    assert lab("edit", run_id, "--tag", "best", "--notes", "n").exit_code == 0
    assert list(twin.runs[run_id].message.tags) == ["best"]
    refused = lab("rm", child, "--yes")
    assert (refused.exit_code, refused.stderr.strip()) == (2, "lab: the run has not ended; stop it")
    assert lab("rm", run_id, "--yes").exit_code == 0
    assert run_id not in twin.runs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("0.01", 0.01),
        ("1e-3", 1e-3),
        ("inf", float("inf")),
        ("true", True),
        ("False", False),
        ("none", None),
        ("[1,2.5]", [1, 2.5]),
        ('["a"]', ["a"]),
        ("[1,", "[1,"),
        ("mnist_5k", "mnist_5k"),
        ("", ""),
    ],
)
def test_texts_mean_values_with_types(text: str, value: Any) -> None:
    parsed = literal(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_text_stays_one_where_the_item_is_text() -> None:
    def item(key: str, kind: str, *options: str) -> ConfigItem:
        return ConfigItem(key, kind, None, options, "", (), False, False)

    schema = ExperimentSchema(
        "", (item("s", "str"), item("m", "str | None"), item("o", "object", "1", "2")), (), ()
    )
    assert parse_value("3", schema, "s") == "3"
    assert parse_value("none", schema, "s") == "none"
    assert parse_value("none", schema, "m") is None
    assert parse_value("1", schema, "o") == "1"
    assert parse_value("3", schema, "unknown") == 3


def test_all_that_is_wrong_comes_as_a_list(lab: Lab) -> None:
    lines = lab("run", "mnist", "epoch=1", "seeds=1").stderr.splitlines()
    assert lines[0] == "lab: 2 things are wrong:"
    assert [line[:4] for line in lines[1:]] == ["  - ", "  - "]


def test_a_checkpoint_is_asked_for(lab: Lab, twin: Twin, run: TwinRun) -> None:
    running = twin.add_run(step=5)
    running.state(event_pb2.RUN_STATE_RUNNING)
    assert lab("checkpoint", running.message.id).stdout == f"{running.message.id} checkpoint 5\n"
    refused = lab("checkpoint", run.message.id)
    assert (refused.exit_code, "only a run that trains" in refused.stderr) == (2, True)
    result = lab("run", "mnist", "--no-final-checkpoint")
    assert not twin.runs[result.stdout.strip()].message.options.final_checkpoint
    assert twin.runs[lab("run", "mnist").stdout.strip()].message.options.final_checkpoint
