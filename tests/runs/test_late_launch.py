"""A launch that a server asked for and did not live to see must not happen after all."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from lab_server.files.run_folder import RunFolder
from lab_server.model.generation import GenerationSpec
from lab_server.model.launch import LaunchSpec
from lab_server.processes import proc
from tests.runs.rig import PATIENCE_S, TOYS

# Starts a forkserver, asks a generation of it for a launch, and dies while the forkserver still imports;
# or waits for the answer first.
SERVER = """
import os, socket, subprocess, sys
control, theirs = socket.socketpair()
command = [sys.executable, "-m", "lab_server.trainer.forkserver", "--fd", str(theirs.fileno())]
command += ["--server-pid", str(os.getpid()), "--preload", "lab_server.trainer.train"]
child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=sys.stderr)
theirs.close()
ours, theirs = socket.socketpair()
socket.send_fds(control, [sys.argv[1].encode() + b"\\n"], [theirs.fileno()])
theirs.close()
ours.sendall(sys.argv[2].encode() + b"\\n")
print(child.pid, flush=True)
if sys.argv[3] == "answer":
    # lines for the server's log may come before it
    next(line for line in ours.makefile() if '"id"' in line)
os._exit(0)
"""


def spec(folder: Path) -> LaunchSpec:
    return LaunchSpec(
        run_id="r1",
        attempt=1,
        folder=folder,
        experiment="environment",
        overrides={},
        run_order=(),
        models=(),
        writers=(),
        name="",
        tags=(),
        notes="",
        device="cpu",
        num_threads=1,
    )


def ask_and_die(folder: Path, when: str) -> None:
    """Return when the server and its forkserver are gone."""
    request = json.dumps({"id": 1, "op": "launch", "spec": spec(folder).to_json()})
    generation = json.dumps({"op": "open", "spec": GenerationSpec((str(TOYS),)).to_json()})
    command = [sys.executable, "-c", SERVER, generation, request, when]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        forkserver = os.pidfd_open(int(server.stdout.readline()))
    except ProcessLookupError:  # it is gone already
        forkserver = -1
    server.communicate(timeout=PATIENCE_S)
    if forkserver >= 0:
        assert select.select([forkserver], [], [], PATIENCE_S)[0], (
            "the forkserver outlives its server"
        )
        os.close(forkserver)


@pytest.mark.slow
@pytest.mark.parametrize(("when", "is_launched"), [("answer", True), ("at once", False)])
def test_a_launch_happens_only_while_its_server_lives(
    tmp_path: Path, when: str, is_launched: bool
) -> None:
    folder = RunFolder(tmp_path)
    folder.make()

    ask_and_die(folder.path, when)

    assert folder.pid_file(1).exists() == is_launched


@pytest.mark.slow
def test_a_trainer_that_comes_late_does_not_bring_back_a_deleted_run(tmp_path: Path) -> None:
    ask_and_die(tmp_path / "deleted", "answer")

    assert not (tmp_path / "deleted").exists()


def test_an_attempt_that_is_over_can_still_be_recognised(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.make()
    folder.pid_file(1).write_text("{}")
    folder.spool(1).write_bytes(b"x")
    folder.heartbeat(1).touch()

    folder.clear_spool(1)

    assert os.listdir(folder.spool_folder) == [folder.pid_file(1).name]


def test_the_pid_file_of_a_process_that_is_gone_names_no_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        me = proc.identify(process.pid)
        assert me is not None
        assert proc.is_alive(me)
        process.communicate(b"\n")

    assert not proc.is_alive(me)
