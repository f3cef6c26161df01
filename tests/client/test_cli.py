"""The lab command, against the twin: what it prints and how it exits."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from lab_client import Client
from lab_client.cli.app import app
from lab_client.cli.arguments import complete_configs, complete_runs, literal, parse_value
from lab_client.cli.context import Settings
from lab_client.cli.doctor import examine
from lab_client.cli.listing import since_ns
from lab_client.cli.live import LiveView
from lab_client.cli.plot import plot
from lab_client.cli.render import lasting
from lab_client.configs import ConfigItem, ExperimentSchema
from lab_client.history import History
from lab_client.sync.shell import SyncShell
from lab_rpc.v1 import event_pb2
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


def test_experiments_are_listed_and_shown(lab: Lab) -> None:
    assert "mnist" in lab("experiments").stdout
    shown = lab("show", "mnist").stdout
    for text in ("For digits.", "epochs", "int", "10", "≥ 1", "mnist_5k | mnist", "set_seed, main"):
        assert text in shown


def test_the_slots_are_listed_with_who_has_them(lab: Lab) -> None:
    shown = lab("slots").stdout
    assert "cpu:0" in shown
    assert "free" in shown


def test_all_that_list_or_show_print_json(lab: Lab, run: TwinRun) -> None:
    run.files["log.txt"] = b"x"
    run_id = run.message.id
    for arguments in (
        ["experiments"],
        ["slots"],
        ["show", "mnist"],
        ["plan", "mnist", "epochs=1"],
        ["runs"],
        ["status", run_id],
        ["history", run_id],
        ["compare", run_id, run_id],
        ["artifacts", run_id],
        ["run", "mnist"],
        ["doctor"],
    ):
        result = lab(*arguments, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)


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


def test_runs_are_filtered_and_sorted(lab: Lab, twin: Twin, run: TwinRun) -> None:
    twin.add_run(name="second")
    listed = lab("runs", "--state", "completed", "--tag", "a", "--sort", "accuracy").stdout
    assert "first" in listed
    assert "second" not in listed
    assert twin.requests[-1].order_by == "accuracy desc"
    lab("runs", "--sort", "step", "--asc", "-n", "1")
    assert (twin.requests[-2].order_by, twin.requests[-2].page_size) == ("step", 1)


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


@pytest.mark.parametrize("command", [[], ["run"], ["search"], ["runs"], ["fork"]])
def test_help_cuts_nothing_where_there_is_little_room(command: list[str]) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*command, "--help"])
    assert "…)" in result.output or "…" not in result.output  # "(create_time, duration, …)"
    assert "..." not in result.output.replace("]...", "]").replace("RUN...", "RUN")
    assert result.exit_code == 0


def test_old_habits_find_runs_and_rm(lab: Lab, twin: Twin, run: TwinRun) -> None:
    assert lab("ls").stdout == lab("runs").stdout
    assert "deleted" in lab("delete", run.message.id, "--yes").stdout
    help_text = lab("--help").stdout
    assert not any(line.split()[1:2] in (["ls"], ["delete"]) for line in help_text.splitlines())


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


def test_config_keys_and_options_complete(twin: Twin) -> None:
    def complete(experiment: str, incomplete: str) -> list[str]:
        context = typer.Context(typer.main.get_command(app))
        context.params = {"server": twin.address}
        inner = typer.Context(typer.main.get_command(app), parent=context)
        inner.params = {"experiment": experiment}
        return [value for value, _ in complete_configs(inner, incomplete)]

    assert "epochs=" in complete("mnist", "ep")
    assert complete("mnist", "dataset=") == ["dataset=mnist_5k", "dataset=mnist"]
    assert complete("mnist", "dataset=mnist_") == ["dataset=mnist_5k"]
    assert complete("mnist", "nothing=") == complete("nothing", "ep") == []


def test_a_list_that_is_cut_says_so(lab: Lab, twin: Twin) -> None:
    for index in range(5):
        twin.add_run(name=f"n{index}")
    cut = lab("runs", "--limit", "2", "--where", "name ~ n")
    assert "2 of 5; --all shows them" in cut.stderr
    assert twin.requests[-1].where == "name ~ n"
    for whole in (lab("runs", "--all"), lab("runs", "-n", "5"), lab("runs")):
        assert "of 5" not in whole.stderr
        assert all(f"n{index}" in whole.stdout for index in range(5))


def test_what_may_be_misspelt_is_told(lab: Lab, twin: Twin) -> None:
    twin.warnings = ["no recent run has a config or metric 'acuracy'"]
    result = lab("runs", "--where", "acuracy > 1")
    assert "lab: no recent run has a config or metric 'acuracy'" in result.stderr
    assert result.exit_code == 0


def test_columns_are_what_was_asked_for(lab: Lab, twin: Twin) -> None:
    run = twin.add_run(name="first", tags=["a", "b"], metrics={"acc": 0.123456789})
    run.message.configs["lr"].double_value = 0.1
    run.message.configs["flag"].bool_value = True
    run.message.metric_ranges["acc"].max_value = 0.5
    run.message.start_time.FromSeconds(1000)
    run.message.end_time.FromSeconds(4900)
    columns = "name, lr,acc,max(acc),duration,tags,flag,nothing"
    header, row = lab("runs", "--columns", columns).stdout.splitlines()
    assert header.split() == ["RUN", *columns.replace(",", " ").split()]
    cells = [run.message.id, "first", "0.1", "0.12346", "0.5", "1", "h", "05", "min"]
    assert row.split() == [*cells, "a", "b", "true"]
    (shown,) = json.loads(lab("runs", "--columns", "lr,duration,nothing", "--json").stdout)
    assert shown == {"id": run.message.id, "lr": 0.1, "duration": 3900.0, "nothing": None}
    wrong = lab("runs", "--columns", "max(")
    assert (wrong.exit_code, "names nothing of a run" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (3599.9, "59 min 59 s"),
        (7500, "2 h 05 min"),
        (86400 * 3 + 4 * 3600, "3 d 04 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


def test_a_run_is_found_by_the_beginning_of_its_id(lab: Lab, run: TwinRun) -> None:
    assert run.message.id in lab("status", run.message.id[:-2]).stdout


def test_watch_shows_plain_lines_where_there_is_no_terminal(lab: Lab, twin: Twin) -> None:
    run = twin.add_run(name="digits")
    run.state(event_pb2.RUN_STATE_RUNNING)

    def train() -> None:
        run.measure(0, loss=[1.0, 0.25])
        run.state(event_pb2.RUN_STATE_COMPLETED)

    twin.when_watched(train)
    result = lab("watch", run.message.id)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "digits: COMPLETED step 1 loss=0.25"


def test_a_failed_run_exits_with_1_and_its_traceback(lab: Lab, twin: Twin) -> None:
    run = twin.add_run()
    run.add(
        state=event_pb2.StateChange(
            state=event_pb2.RUN_STATE_FAILED, reason="it broke", traceback="Traceback: here"
        )
    )
    run.message.state = event_pb2.RUN_STATE_FAILED
    run.message.reason = "it broke"
    result = lab("watch", run.message.id)
    assert result.exit_code == 1
    assert "it broke" in result.stderr
    assert "Traceback: here" in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize(
    ("state", "exit_code", "word"),
    [
        (event_pb2.RUN_STATE_COMPLETED, 0, ""),
        (event_pb2.RUN_STATE_FAILED, 1, "ended FAILED: out of memory"),
        (event_pb2.RUN_STATE_STOPPED, 4, "ended STOPPED: asked to by ann"),
    ],
)
def test_a_watched_run_exits_by_how_it_ended(
    lab: Lab, twin: Twin, options: list[str], state: int, exit_code: int, word: str
) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    twin.when_watched(run.state, state, word.partition(": ")[2])
    result = lab("watch", run.message.id, *options)
    assert result.exit_code == exit_code
    assert word in result.stderr


def test_a_watched_run_as_json_is_one_value_a_line_with_the_final_state_last(
    lab: Lab, twin: Twin
) -> None:
    def train() -> None:
        (run,) = twin.runs.values()
        run.state(event_pb2.RUN_STATE_RUNNING)
        run.measure(0, loss=[1.0], **{"model.conv1.weight": [2.0]})
        run.state(event_pb2.RUN_STATE_COMPLETED)

    twin.when_watched(train)
    result = lab("run", "mnist", "--json", "--watch")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    states = [line["state"] for line in lines]
    assert states[0] == "QUEUED"
    assert states[-1] == "COMPLETED"
    assert len(states) == len(set(states))
    assert lines[-1]["metrics"] == {"loss": 1.0}


@pytest.mark.parametrize("command", [["watch"], ["watch", "--json"], ["logs", "-f"]])
def test_an_interrupt_exits_with_130(
    lab: Lab, twin: Twin, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)

    def interrupt(*_: Any, **__: Any) -> Iterator[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(SyncShell, "read", interrupt)
    name, *options = command
    result = lab(name, run.message.id, *options)
    assert result.exit_code == 130
    monkeypatch.setattr(SyncShell, "call", interrupt)
    assert lab("runs").exit_code == 130


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


def test_rm_asks_and_says_what_to_do_where_it_cannot(lab: Lab, twin: Twin, run: TwinRun) -> None:
    run_id = run.message.id
    result = lab("rm", run_id)
    assert result.exit_code == 2
    assert "confirm with --yes" in result.stderr
    answers = CliRunner().invoke(app, ["--server", twin.address, "rm", run_id], input="n\n")
    assert (answers.exit_code, run_id in twin.runs) == (0, True)
    answers = CliRunner().invoke(app, ["--server", twin.address, "rm", run_id], input="y\n")
    assert (answers.exit_code, run_id in twin.runs) == (0, False)


def test_logs_are_printed(lab: Lab, twin: Twin) -> None:
    run = twin.add_run()
    run.add(log=event_pb2.Log(lines=["one", "two"]))
    assert lab("logs", run.message.id).stdout == "one\ntwo\n"
    twin.when_watched(run.state, event_pb2.RUN_STATE_COMPLETED)
    assert lab("logs", run.message.id, "-f").stdout == "one\ntwo\n"


def test_logs_of_a_level_are_those_that_are_as_serious(lab: Lab, twin: Twin) -> None:
    run = twin.add_run()
    for level, line in (
        (event_pb2.LOG_LEVEL_UNSPECIFIED, "printed"),
        (event_pb2.LOG_LEVEL_STDERR, "to stderr"),
        (event_pb2.LOG_LEVEL_WARNING, "look"),
        (event_pb2.LOG_LEVEL_ERROR, "broken"),
    ):
        run.add(log=event_pb2.Log(level=level, lines=[line]))
    found = {
        level: lab("logs", run.message.id, "--level", level).stdout.splitlines()
        for level in ("stdout", "stderr", "warning", "ERROR")
    }
    assert found == {
        "stdout": ["printed", "to stderr", "look", "broken"],
        "stderr": ["to stderr", "look", "broken"],
        "warning": ["look", "broken"],
        "ERROR": ["broken"],
    }
    wrong = lab("logs", run.message.id, "--level", "loud")
    assert wrong.exit_code == 2
    assert "there is no log level 'loud'; there are debug, info, stdout, stderr" in wrong.stderr


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


def test_compare_shows_where_runs_differ(lab: Lab, twin: Twin) -> None:
    one, two = (lab("run", "mnist", "seed=1", f"epochs={n}").stdout.strip() for n in (1, 2))
    twin.runs[one].measure(0, accuracy=[0.5])
    compared = json.loads(lab("compare", one, two, "--json").stdout)
    assert compared["configs"] == {"epochs": [1, 2]}
    assert compared["metrics"] == {"accuracy": [0.5, None]}
    shown = lab("compare", one, two).stdout
    assert "epochs" in shown
    assert "seed" not in shown
    assert "experiment" not in shown
    assert lab("compare", one).exit_code == 2
    twin.runs[two].message.experiment = "other"
    assert "experiment" in lab("compare", one, two).stdout


def test_compare_shows_a_default_that_was_edited_between_two_runs(lab: Lab, twin: Twin) -> None:
    one, two = (lab("run", "mnist").stdout.strip() for _ in range(2))
    for run_id, hidden in ((one, 16), (two, 8)):
        twin.runs[run_id].message.configs["hidden"].int_value = hidden
    assert json.loads(lab("compare", one, two, "--json").stdout)["configs"] == {"hidden": [16, 8]}


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


def test_what_a_run_uses_is_shown_by_status_and_where_it_is_asked_for(lab: Lab, twin: Twin) -> None:
    run = twin.add_run()
    run.measure(0, loss=[3.0, 2.0, 1.0])
    used = {"system.cpu_cores": [1.0, 2.0], "system.memory_bytes": [8e8, 1.6e9]}
    run.measure(1, **used)
    run_id = run.message.id
    status = lab("status", run_id).stdout
    assert re.search(r"CPU +mean 1.50 cores, max 2.00 cores", status)
    assert re.search(r"memory +mean 1.20 GB, max 1.60 GB", status)
    assert "system.cpu_cores" not in status
    assert "more with --all" not in status
    for command in (["history", run_id, "--csv"], ["runs"], ["compare", run_id, run_id]):
        assert "system." not in lab(*command).stdout
    asked = lab("history", run_id, "--csv", "-m", "system.cpu*").stdout
    assert asked == "step,system.cpu_cores\n1,1.0\n2,2.0\n"
    assert "system.cpu_cores" in lab("history", run_id, "--all").stdout
    with Client(twin.address) as client:
        points = list(client.run(run_id).metrics(follow=False))
        assert [point.values for point in points] == [{"loss": value} for value in (3.0, 2.0, 1.0)]
        assert list(client.run(run_id).history()) == ["loss"]
        read = [p.values for p in client.run(run_id).metrics("system.cpu*", follow=False)]
        assert read == [{"system.cpu_cores": 1.0}, {"system.cpu_cores": 2.0}]


def test_download_writes_the_chosen_files(lab: Lab, run: TwinRun, tmp_path: Path) -> None:
    run.files = {"log.txt": b"hello", "checkpoints/1/model": b"m"}
    result = lab("download", run.message.id, "checkpoints/*", "--to", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "checkpoints/1/model").read_bytes() == b"m"
    assert not (tmp_path / "log.txt").exists()
    assert lab("download", run.message.id, "nothing").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status", "nope"], "there is no run 'nope'"),
        (["run", "mnist", "epoch=1"], "unknown config 'epoch'"),
        (["run", "mnist", "epochs"], "'epochs' is not KEY=VALUE"),
        (["run", "nope"], "there is no experiment 'nope'"),
        (["runs", "--state", "asleep"], "there is no state 'asleep'"),
        (["runs", "--limit", "0"], ""),
        (["nonsense"], ""),
        (["runs", "--server", "x"], "comes before the command"),
        (["runs", "--bogus"], "No such option"),
        (["edit", "2", "--name", "x"], "there is no run"),
        (["edit", "2"], "nothing to change: give --name, --tag, --add-tag"),
        (["stop", ""], "id is not empty"),
        (["search", "mnist", "seed=1,2"], "--maximize METRIC or --minimize METRIC"),
        (["search", "./a.py", "seed=1,2", "--maximize", "x"], "not of code that is sent"),
        (["search-extend", "2"], "nothing to change: give --trials, --parallel"),
        (["plan", "mnist", "epochs=1", "epochs=2"], "epochs is given twice"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_sentence(
    lab: Lab, arguments: list[str], sentence: str
) -> None:
    result = lab(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_a_full_queue_exits_with_1_and_is_no_wrong_usage(lab: Lab, twin: Twin) -> None:
    twin.queue_limit = 0
    result = lab("run", "mnist")
    (run_id,) = twin.runs
    created = f"lab: run {run_id} is created but not started; start it with: lab resume {run_id}\n"
    assert (result.exit_code, result.stderr) == (1, f"{created}lab: the queue is full (4)\n")
    twin.queue_limit = 1
    assert lab("resume", run_id).stdout == f"{run_id}\n"
    assert twin.runs[run_id].message.state == event_pb2.RUN_STATE_QUEUED


def test_slots_and_doctor_say_that_the_leader_is_away(lab: Lab, twin: Twin) -> None:
    twin.absent_leader = "a.example:50051"
    assert "the server a.example:50051, which leads, does not answer" in " ".join(
        lab("slots").stdout.split()
    )
    assert "a.example:50051, which leads, does not answer" in " ".join(lab("doctor").stdout.split())


def test_no_connection_exits_with_3(lab: Lab, twin: Twin) -> None:
    twin.token = "secret"
    result = lab("runs")
    assert result.exit_code == 3
    assert "LAB_TOKEN" in result.stderr
    assert lab("runs", LAB_TOKEN="secret").exit_code == 0
    assert lab("runs", server="host:nope").exit_code == 3


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


def test_run_ids_complete(twin: Twin, run: TwinRun) -> None:
    class Context:
        def __init__(self) -> None:
            self.params = {"server": twin.address}

        def find_root(self) -> Context:
            return self

    found = complete_runs(Context(), "2026")  # type: ignore[arg-type]
    assert found == [(run.message.id, "first COMPLETED")]
    assert complete_runs(Context(), "x") == []  # type: ignore[arg-type]
    twin.stop()
    assert complete_runs(Context(), "2026") == []  # type: ignore[arg-type]


def test_a_plot_has_its_scale_and_its_size() -> None:
    lines = plot([0.0, 1.0, float("nan"), 4.0], width=10, height=3)
    assert [len(line) for line in lines] == [13, 13, 13]
    assert lines[0].startswith("4 ┤")
    assert lines[-1].startswith("0 ┤")
    assert plot([]) == []
    assert len(plot([1.0])) == 6


def bad(settings: Settings) -> tuple[str, str]:
    findings = list(examine(settings))
    wrong = [(item.what, item.text) for item in findings if not item.is_good]
    assert len(wrong) <= 1
    return wrong[0] if wrong else ("", "")


def test_doctor_finds_nothing_wrong_with_a_good_connection(twin: Twin) -> None:
    assert bad(Settings(twin.address)) == ("", "")


def test_doctor_says_exactly_what_is_wrong(twin: Twin) -> None:
    assert bad(Settings("host:port"))[0] == "settings"
    assert bad(Settings("no-such-host.invalid:1"))[0] == "name"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        what, text = bad(Settings(f"127.0.0.1:{taken.getsockname()[1]}"))
        assert (what, "nothing listens" in text) == ("port", True)
    what, text = bad(Settings(twin.address, tls=True))
    assert (what, "does not speak TLS" in text) == ("TLS", True)
    twin.version = "9.0.0"
    assert bad(Settings(twin.address))[0] == "version"
    twin.token = "secret"
    assert bad(Settings(twin.address, token="wrong"))[0] == "token"


def start_lab(twin: Twin, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from lab_client.cli import main; main()"]
    return subprocess.Popen(
        [*command, "--server", twin.address, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )


def test_ctrl_c_in_watch_detaches_and_says_how_to_stop(twin: Twin) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    process = start_lab(twin, "watch", run.message.id)
    assert twin.is_watched.wait(60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"lab stop {run.message.id}" in err
    assert "Traceback" not in err
    assert run.message.state == event_pb2.RUN_STATE_RUNNING


def test_the_command_without_its_extra_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from lab_client.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "lab: this command needs: pip install 'lab-train[cli]'\n"


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


def test_what_matches_nothing_is_told(lab: Lab, run: TwinRun) -> None:
    missing = lab("history", run.message.id, "-m", "nope*")
    assert missing.exit_code == 2
    assert f"run {run.message.id} has no metric 'nope*'; it has: loss" in missing.stderr
    assert "No run matches" in lab("runs", "--tag", "nosuch").stderr
    assert "none of these runs has 'bogus' to sort by" in lab("runs", "--sort", "bogus").stderr
    for sort in ("loss", "metrics.loss", "step"):
        assert lab("runs", "--sort", sort).stderr == ""
    columns = lab("runs", "--columns", "loss,bogus").stderr
    assert columns == "lab: none of these runs has 'bogus' to show\n"


def test_all_that_is_wrong_comes_as_a_list(lab: Lab) -> None:
    lines = lab("run", "mnist", "epoch=1", "seeds=1").stderr.splitlines()
    assert lines[0] == "lab: 2 things are wrong:"
    assert [line[:4] for line in lines[1:]] == ["  - ", "  - "]


@pytest.mark.slow
def test_a_server_that_is_no_machine_is_told_without_words_of_grpc(lab: Lab) -> None:
    result = lab("runs", server="no-such-host.invalid")
    assert result.exit_code == 3
    assert result.stderr.startswith("lab: 'no-such-host.invalid' cannot be resolved")


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


def test_a_checkpoint_is_asked_for(lab: Lab, twin: Twin, run: TwinRun) -> None:
    running = twin.add_run(step=5)
    running.state(event_pb2.RUN_STATE_RUNNING)
    assert lab("checkpoint", running.message.id).stdout == f"{running.message.id} checkpoint 5\n"
    refused = lab("checkpoint", run.message.id)
    assert (refused.exit_code, "only a run that trains" in refused.stderr) == (2, True)
    result = lab("run", "mnist", "--no-final-checkpoint")
    assert not twin.runs[result.stdout.strip()].message.options.final_checkpoint
    assert twin.runs[lab("run", "mnist").stdout.strip()].message.options.final_checkpoint


def logged(twin: Twin, *texts: str) -> TwinRun:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    for text in texts:
        run.add(log=event_pb2.Log(lines=[text]))
    return run


def test_logs_begin_with_the_last_lines_or_at_a_time(lab: Lab, twin: Twin) -> None:
    run = logged(twin, "one", "two", "three")
    run.state(event_pb2.RUN_STATE_COMPLETED)
    run_id = run.message.id
    assert lab("logs", run_id, "--tail", "2").stdout == "two\nthree\n"
    assert lab("logs", run_id, "--tail", "0").stdout == ""
    assert lab("logs", run_id, "-n", "1", "-f").stdout == "three\n"
    for event, hour in zip(run.log[1:4], (10, 11, 12), strict=True):
        moment = datetime(2026, 11, 20, hour).astimezone()
        event.time_unix_ns = int(moment.timestamp() * 1e9)
    since = lab("logs", run_id, "--since", "2026-11-20T10:30", "--timestamps").stdout
    assert since == "2026-11-20 11:00:00  two\n2026-11-20 12:00:00  three\n"
    assert lab("logs", run_id, "--since", "5min").stdout == ""
    wrong = lab("logs", run_id, "--since", "monday")
    assert (wrong.exit_code, "since is a duration" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5min", 300), ("5m", 300), ("1.5h", 5400), ("2d", 172800)]
)
def test_a_duration_is_before_now(text: str, seconds: float) -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert since_ns(text, now) == int((now.timestamp() - seconds) * 1e9)


def test_watch_prints_what_the_run_prints_and_the_chosen_metrics(lab: Lab, twin: Twin) -> None:
    run = logged(twin, "said before")

    def train() -> None:
        run.add(log=event_pb2.Log(lines=["said now \x1b[2J"]))
        run.measure(0, loss=[1.0], other=[7.0], third=[3.0])
        run.state(event_pb2.RUN_STATE_COMPLETED)

    twin.when_watched(train)
    result = lab("watch", run.message.id, "-m", "oth*")
    assert "said now \ufffd[2J\n" in result.stdout  # a print cannot clear the screen
    assert "said before" not in result.stdout
    assert "other=7" in result.stdout
    assert "loss=" not in result.stdout


def test_a_screenful_prints_lines_above_and_draws_the_chosen_metrics(twin: Twin) -> None:
    run = logged(twin)
    with Client(twin.address) as client:
        handle = client.run(run.message.id)
        view = LiveView(handle.info, History(handle.id, {}), ["oth*"])
        view.above = Console(file=io.StringIO(), width=80)
        for step in range(5):
            run.measure(step, loss=[1.0], other=[float(step)])
        run.add(log=event_pb2.Log(lines=["[bold]a line[/]"]))
        for event in handle.events(follow=False):
            view.update(event)
    assert view.above.file.getvalue() == "[bold]a line[/]\n"  # type: ignore[attr-defined]
    drawn = Console(file=io.StringIO(), width=80)
    drawn.print(view)
    text = drawn.file.getvalue()  # type: ignore[attr-defined]
    assert "other 4" in text
    assert "loss" not in text


def test_status_tells_when_how_long_and_what_the_metrics_were(lab: Lab, twin: Twin) -> None:
    run = twin.add_run(notes="why not", metrics={"acc": 0.5, "flat": 1.0})
    run.message.options.priority = 3
    run.message.options.device = "cuda:0"
    run.message.start_time.FromSeconds(1000)
    run.message.end_time.FromSeconds(4900)
    run.message.metric_ranges["acc"].min_value = 0.1
    run.message.metric_ranges["acc"].max_value = 0.75
    run.message.metric_ranges["flat"].min_value = run.message.metric_ranges["flat"].max_value = 1.0
    lines = [line.split() for line in lab("status", run.message.id).stdout.splitlines()]
    rows = {words[0]: " ".join(words[1:]) for words in lines}
    started = datetime.fromtimestamp(1000, UTC).astimezone()
    assert rows["started"].startswith(f"{started:%Y-%m-%d %H:%M:%S} (")
    assert (rows["duration"], rows["priority"]) == ("1 h 05 min", "3")
    assert (rows["device"], rows["notes"]) == ("cuda:0", "why not")
    assert rows["acc"] == "0.5 (min 0.1, max 0.75)"
    assert rows["flat"] == "1"
