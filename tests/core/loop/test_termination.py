"""SIGTERM and SIGHUP to a script on lab_core alone: a process of its own, as only that has a way to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab_core import checkpoints
from lab_core.experiment import RunRecord, Status

pytestmark = pytest.mark.slow

START = """
import os, signal, sys, torch
from pathlib import Path
from lab_core import loop, tracker, writers
from lab_core.experiment import Experiment

folder = Path(sys.argv[1])

def end(by=signal.SIGTERM):
    os.kill(os.getpid(), by)

def new(**options):
    made = Experiment("it", folder=folder, writers={"sqlite"}, is_code_recorded=False, **options)
    made.add_pytorch_models({"model": torch.nn.Linear(1, 1)})
    return made
"""


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Python 3.12 and later warn of a fork in a process that has threads
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + script, str(folder)],
        capture_output=True,
        timeout=120,
        text=True,
        check=False,
    )


def saved(folder: Path) -> list[int]:
    return [c.step for c in checkpoints.list_checkpoints(folder / "checkpoints")]


LOOP = """
    for step in loop.loop(range(5, 100)):
        if step == 7:
            end({by})
        tracker.save(done=step)
print("went on")
"""


@pytest.mark.parametrize("with_", [True, False], ids=["with", "without"])
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_the_step_is_finished_and_the_process_ends(
    tmp_path: Path, by: signal.Signals, with_: bool
) -> None:
    start = "with new(checkpoint_interval=1000).start():" if with_ else (
        "made = new(checkpoint_interval=1000).start()\nif True:"
    )  # fmt: skip
    done = run(start + LOOP.format(by=int(by)), tmp_path)
    assert (done.returncode, done.stderr) == (128 + by, "")
    assert "went on" not in done.stdout, "the script has no next run"
    assert f"stopped at step 8: {tmp_path}" in done.stdout
    assert RunRecord.load(tmp_path).status is Status.STOPPED
    assert saved(tmp_path) == [8]


def test_without_checkpoints_none_is_saved(tmp_path: Path) -> None:
    done = run("with new().start():" + LOOP.format(by=15), tmp_path)
    assert done.returncode == 128 + 15
    assert RunRecord.load(tmp_path).status is Status.STOPPED
    assert saved(tmp_path) == []


def test_the_second_ends_it_at_once(tmp_path: Path) -> None:
    script = """
with new(checkpoint_interval=1000).start():
    for step in loop.loop(range(5, 100)):
        end()
        end()
        print("went on")
"""
    done = run(script, tmp_path)
    assert (done.returncode, done.stderr) == (128 + 15, "")
    assert "went on" not in done.stdout
    assert f"stopped at step 5: {tmp_path}" in done.stdout
    assert RunRecord.load(tmp_path).status is Status.STOPPED
    assert saved(tmp_path) == []


def test_where_nothing_is_iterated_it_ends_at_once(tmp_path: Path) -> None:
    done = run("new().start()\nend()\nprint('went on')\n", tmp_path)
    assert done.returncode == 128 + 15
    assert "went on" not in done.stdout
    assert RunRecord.load(tmp_path).status is Status.STOPPED


def test_after_the_run_and_before_it_the_signal_kills_as_ever(tmp_path: Path) -> None:
    done = run("made = new()\nwith made.start(): pass\nend()\n", tmp_path)
    assert done.returncode == -signal.SIGTERM
    assert RunRecord.load(tmp_path).status is Status.COMPLETED
    assert run("new()\nend()\n", tmp_path).returncode == -signal.SIGTERM


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_one_that_comes_while_the_end_is_written_waits_for_it(
    tmp_path: Path, by: signal.Signals
) -> None:
    script = f"""
class Closing(writers.MemoryWriter):
    def close(self):
        end({int(by)})
        (folder / "is_closed").touch()

made = Experiment("it", folder=folder, writers=[Closing()], is_code_recorded=False)
with made.start():
    for step in loop.loop(3):
        tracker.save(done=step)
print("went on")
"""
    done = run(script, tmp_path)
    assert done.returncode == -by
    assert "went on" not in done.stdout
    record = RunRecord.load(tmp_path)
    assert record.status is Status.COMPLETED
    assert record.end
    assert (tmp_path / "is_closed").exists()


def test_the_second_one_that_comes_while_the_end_is_written_does_not_wait(tmp_path: Path) -> None:
    script = """
class Hanging(writers.MemoryWriter):
    def close(self):
        end()
        while signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            pass
        end()
        (folder / "is_closed").touch()

with Experiment("it", folder=folder, writers=[Hanging()], is_code_recorded=False).start():
    pass
"""
    assert run(script, tmp_path).returncode == -signal.SIGTERM
    assert not (tmp_path / "is_closed").exists()


def test_the_handler_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    script = "signal.signal(signal.SIGTERM, lambda *_: print('theirs'))\nwith new().start():"
    done = run(script + LOOP.format(by=15), tmp_path)
    assert done.returncode == 0
    assert "theirs" in done.stdout  # the console may write its own line behind it
    assert RunRecord.load(tmp_path).status is Status.COMPLETED


def test_a_forked_child_dies_of_it_and_leaves_the_record_alone(tmp_path: Path) -> None:
    script = """
with new().start():
    pid = os.fork()
    if pid == 0:
        end()
        os._exit(7)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert "status: running" in (folder / "run.yaml").read_text()
    assert not (folder / "indicators.yaml").exists()
"""
    done = run(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert RunRecord.load(tmp_path).status is Status.COMPLETED


def test_an_interrupt_before_the_start_shows_no_traceback(tmp_path: Path) -> None:
    done = run("made = new()\nend(signal.SIGINT)\n", tmp_path / "run")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    assert not (tmp_path / "run").exists()
