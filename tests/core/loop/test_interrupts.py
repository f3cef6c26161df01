"""What a script shows of a Ctrl-C: a process of its own, as only that has a way to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab_core.experiment import RunRecord, Status

START = """
import os, signal, sys
from pathlib import Path
from lab_core import loop
from lab_core.experiment import Experiment

folder = Path(sys.argv[1])

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def train():
    for step in loop.loop(range(7, 100)):
        interrupt()
        if is_pressed_again:
            interrupt()

run = Experiment("it", folder=folder, writers=set(), is_code_recorded=False)
"""
WITH = "with run.start(): train()\n"
WITHOUT = "run.start(); train()\n"


def run(script: str, folder: Path, *, again: bool) -> subprocess.CompletedProcess[str]:
    source = f"is_pressed_again = {again}\n{START}{script}"
    return subprocess.run(
        [sys.executable, "-c", source, str(folder)],
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", [WITH, WITHOUT], ids=["with", "without"])
def test_the_first_says_what_it_does_and_the_run_ends_well(tmp_path: Path, script: str) -> None:
    done = run(script, tmp_path, again=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\nstopped at step 8: {tmp_path}\n" in done.stdout
    assert RunRecord.load(tmp_path).status is Status.STOPPED


@pytest.mark.slow
def test_the_notice_is_a_line_of_the_console(tmp_path: Path) -> None:
    wait = "import threading\n"
    # the notice is written by a thread of its own, which the loop does not wait for
    wait += "from lab_core.logger import sink\nheard = threading.Event()\nshow = sink().print\n"
    wait += "sink().print = lambda parts: (show(parts), 'Stopping' in str(parts) and heard.set())\n"
    script = f"{wait}{WITH}assert heard.wait(30)\n"
    done = run(script, tmp_path, again=False)
    assert "Stopping after this iteration; press Ctrl-C again to end now\n" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", [WITH, WITHOUT], ids=["with", "without"])
def test_the_second_ends_in_one_line_and_by_the_signal(tmp_path: Path, script: str) -> None:
    done = run(script, tmp_path, again=True)
    assert done.returncode == -signal.SIGINT, "what a shell tells as 130"
    assert done.stderr == ""
    assert f"\nstopped at step 7: {tmp_path}\n" in done.stdout
    assert RunRecord.load(tmp_path).status is Status.STOPPED


@pytest.mark.slow
def test_a_caller_gets_the_interrupt_and_others_keep_their_traceback(tmp_path: Path) -> None:
    caught = f"""
try:
    {WITH}
except KeyboardInterrupt:
    print("caught")
raise KeyboardInterrupt("another")
"""
    done = run(caught, tmp_path, again=True)
    assert "caught\n" in done.stdout
    assert "KeyboardInterrupt: another" in done.stderr


def test_an_error_keeps_its_traceback(tmp_path: Path) -> None:
    done = run("run.start()\nraise ValueError('mine')\n", tmp_path, again=False)
    assert done.returncode == 1
    assert "ValueError: mine" in done.stderr
    assert RunRecord.load(tmp_path).status is Status.FAILED


def test_the_excepthook_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    hook = "sys.excepthook = lambda *_: print('theirs')\n"
    done = run(hook + WITH, tmp_path, again=True)
    assert "theirs\n" in done.stdout
