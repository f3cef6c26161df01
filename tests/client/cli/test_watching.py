"""Runs that the lab command watches: lines, the live view, logs, and how it exits."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from rich.console import Console

from lab_client import Client
from lab_client.cli.live import LiveView
from lab_client.history import History
from lab_client.sync.shell import SyncShell
from lab_rpc.v1 import event_pb2
from tests.client.cli.conftest import Lab
from tests.client.twin import Twin, TwinRun


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
        (event_pb2.RUN_STATE_FAILED, 1, "failed: out of memory"),
        (event_pb2.RUN_STATE_STOPPED, 4, "stopped: asked to by ann"),
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
