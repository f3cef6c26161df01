"""Usage of the lab command: help, wrong usage, exit statuses, connections, and doctor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import deque

import grpc
import pytest
import typer
from typer.testing import CliRunner

from lab_client.cli.app import app
from lab_client.cli.arguments import complete_configs, complete_runs
from lab_client.cli.context import Settings
from lab_client.cli.doctor import examine
from lab_rpc.v1 import event_pb2
from tests.client.cli.conftest import Lab
from tests.client.twin import Twin, TwinRun


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


@pytest.mark.parametrize("command", [[], ["run"], ["search"], ["runs"], ["fork"]])
def test_help_cuts_nothing_where_there_is_little_room(command: list[str]) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*command, "--help"])
    assert "…)" in result.output or "…" not in result.output  # "(create_time, duration, …)"
    assert "..." not in result.output.replace("]...", "]")
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        (["run"], "run [OPTIONS] EXPERIMENT [KEY=VALUE]..."),
        (["fork"], "fork [OPTIONS] RUN [KEY=VALUE]..."),
        (["compare"], "compare [OPTIONS] RUN..."),
        (["status"], "status [OPTIONS] RUN..."),
        (["stop"], "stop [OPTIONS] RUN..."),
        (["show"], "show [OPTIONS] EXPERIMENT"),
        (["search"], "search [OPTIONS] EXPERIMENT [KEY=WHAT]..."),
        (["search-try"], "search-try [OPTIONS] SEARCH KEY=VALUE..."),
        (["download"], "download [OPTIONS] RUN [FILE]..."),
        (["media"], "media [OPTIONS] RUN [NAME]..."),
        ([], "--token TOKEN"),
    ],
)
def test_help_names_what_is_to_be_given(command: list[str], usage: str) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*command, "--help"])
    words = " ".join(result.stdout.split())
    assert usage in words.replace("{", "").replace("}", "")  # typer's, around what must be given


def test_old_habits_find_runs_and_rm(lab: Lab, twin: Twin, run: TwinRun) -> None:
    assert lab("ls").stdout == lab("runs").stdout
    assert "deleted" in lab("delete", run.message.id, "--yes").stdout
    help_text = lab("--help").stdout
    assert not any(line.split()[1:2] in (["ls"], ["delete"]) for line in help_text.splitlines())


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


def test_a_run_is_found_by_the_beginning_of_its_id(lab: Lab, run: TwinRun) -> None:
    assert run.message.id in lab("status", run.message.id[:-2]).stdout


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
        (["run", "mnist", "-m", "loss"], "--metric goes with --watch only"),
        (["fork", "2", "-m", "loss"], "--metric goes with --watch only"),
        (["resume", "2", "-m", "loss"], "--metric goes with --watch only"),
        (["history", "2", "--csv", "--json"], "give --csv or --json, not both"),
        (["media", "2", "--to", "x", "--json"], "give --json or --to FOLDER, not both"),
        (["run", "mnist", "--until-step", "9" * 20], "cannot be sent: Value out of range"),
        (["status", "\udcff"], "cannot be sent"),
        (["run", "\udcff"], "cannot be sent"),
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


def bad(settings: Settings) -> tuple[str, str]:
    findings = list(examine(settings))
    wrong = [(item.what, item.text) for item in findings if not item.is_good]
    assert len(wrong) <= 1
    return wrong[0] if wrong else ("", "")


def test_doctor_finds_nothing_wrong_with_a_good_connection(twin: Twin) -> None:
    assert bad(Settings(twin.address)) == ("", "")


def test_doctor_says_that_the_store_of_a_server_that_lives_is_away(twin: Twin) -> None:
    twin.failures["ListRuns"] = deque([grpc.StatusCode.UNAVAILABLE])
    what, text = bad(Settings(twin.address))
    assert what == "store"
    assert "ListRuns fails as the test says" in text


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


def test_the_command_without_its_extra_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from lab_client.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "lab: this command needs: pip install 'lab-train[cli]'\n"


@pytest.mark.slow
def test_a_server_that_is_no_machine_is_told_without_words_of_grpc(lab: Lab) -> None:
    result = lab("runs", server="no-such-host.invalid")
    assert result.exit_code == 3
    assert result.stderr.startswith("lab: 'no-such-host.invalid' cannot be resolved")


@pytest.mark.parametrize("command", [["experiments"], ["experiments", "--json"]])
def test_a_reader_that_has_gone_is_no_error(twin: Twin, command: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    code = "from lab_client.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--server", twin.address, *command],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_terminal_has_no_letters_for_is_replaced(twin: Twin) -> None:
    twin.add_run(name="größe 漢")
    code = "from lab_client.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--server", twin.address, "runs"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "größe ?".encode("latin-1") in done.stdout
