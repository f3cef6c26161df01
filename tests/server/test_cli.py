"""The command `lab-server`."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab_server.cli.commands import app
from lab_server.settings.loading import names

run = CliRunner().invoke


def test_help_tells_every_setting() -> None:
    text = run(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    missing = [name for name in names() if f"--{name.replace('_', '-')}" not in text]
    assert missing == ["pools"]  # of the settings file only
    assert "[[pools]]" in text
    words = " ".join(text.split())
    for part in ("--queue-limit <int>", "--grace-s <float>", "debug, info, warning, error"):
        assert part in words
    assert "--max-runtime-s <float> maximum training time of a run" in words
    assert "in seconds; 0: no limit [default: 0.0]" in words


@pytest.mark.parametrize("command", [["serve"], ["tokens"], ["migrate"], []])
def test_help_cuts_nothing_where_there_is_little_room(command: list[str]) -> None:
    text = run(app, [*command, "--help"], env={"COLUMNS": "80"}).output
    assert "…" not in text
    assert "..." not in text.replace("[ARGS]...", "")
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("command", [[], ["serve"], ["tokens"], ["tokens", "list"]])
def test_help_has_a_short_form(command: list[str]) -> None:
    result = run(app, [*command, "-h"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_version_is_a_flag_too() -> None:
    result = run(app, ["--version"])
    assert result.exit_code == 0
    assert result.output == run(app, ["version"]).output
    assert result.output.startswith("lab-server ")


def test_config_prints_each_setting_with_its_origin(tmp_path: Path) -> None:
    result = run(
        app,
        [
            "config",
            "--slots",
            "cpu:2",
            "--home",
            str(tmp_path),
            "--insecure",
            "--experiments",
            "a, b",
            "--experiments",
            "c",
        ],
        env={"LAB_QUEUE_LIMIT": "7"},
    )
    values = tomllib.loads(result.output)
    assert set(values) < set(names())
    assert values["home"] == str(tmp_path)
    assert "tokens" not in values
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert result.exit_code == 0
    assert f'home = "{tmp_path}" # flag' in lines
    assert "queue_limit = 7 # environment" in lines
    assert "insecure = true # flag" in lines
    assert 'experiments = ["a", "b", "c"] # flag' in lines
    assert "grace_s = 10.0 # default" in lines
    assert "# tokens = # default" in lines
    waits = next(line for line in lines if line.startswith("thread_wait"))
    assert re.fullmatch(
        r'thread_wait = "auto" # default: (spin|sleep), \d+ trainer threads on \d+ cores', waits
    )


def test_a_wrong_setting_is_a_sentence_and_exit_code_2() -> None:
    result = run(app, ["serve", "--queue-limit", "many"])
    assert result.exit_code == 2
    assert "--queue-limit: input should be a valid integer" in result.output
    assert "Traceback" not in result.output


def test_without_the_extra_one_line_says_what_to_install() -> None:
    # As in an environment of the thin client: the packages of [server] cannot be found.
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "gone = {'torch', 'sqlalchemy'}\n"
        "importlib.util.find_spec = lambda name: None if name in gone else find(name)\n"
        "from lab_server.cli import main\n"
        "assert 'typer' not in sys.modules and 'grpc' not in sys.modules\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "lab-server needs sqlalchemy, torch; install them with: pip install 'lab-train[server]'"
    ]


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    result = run(app, ["serve", "--home", str(file / "home")])
    assert result.exit_code == 2
    assert "cannot make the folder" in result.output


def test_slots_and_experiments_that_are_not_there_are_told_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("package").mkdir()
    Path("package/__init__.py").write_text("raise SystemExit('nobody asked to import it')")
    Path("package/there.py").touch()
    Path("file.py").touch()
    there, gone = ["./file.py", "file", "package.there"], ["./gone.py", "gone", "package.gone"]
    flags = [flag for name in [*there, *gone] for flag in ("--experiments", name)]
    flags += ["--preload", "json", "--preload", "gone"]
    home = tmp_path / "home"
    result = run(app, ["serve", *flags, "--home", str(home)], env={"LAB_SLOTS": "cuda:999"})
    assert result.exit_code == 2
    slots, *experiments = result.output.splitlines()
    assert slots.startswith("lab-server: LAB_SLOTS names cuda:999, but this machine has ")
    assert experiments == [
        "--experiments names ./gone.py, but there is no such file",
        "--experiments names gone, but there is no module gone",
        "--experiments names package.gone, but there is no module package.gone",
        "--preload names gone, but there is no module gone",
    ]
    assert not home.exists()


@pytest.mark.parametrize("command", ["serve", "config"])
def test_an_unknown_flag_is_a_usage_error(command: str) -> None:
    assert run(app, [command, "--no-such-flag"]).exit_code == 2
