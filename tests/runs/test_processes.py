"""What /proc tells of trainers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lab_server.files.run_folder import RunFolder
from lab_server.model.run import TrainerProcess
from lab_server.processes import lineage, proc
from lab_server.processes.pid_file import read_pid_file, write_pid_file


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path)
    folder.make()
    return folder.pid_file(1)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": "x"}', '{"pid": 1}'])
def test_a_pid_file_that_is_no_such_file_names_nobody(pid_file: Path, content: str) -> None:
    pid_file.write_text(content)
    assert read_pid_file(pid_file) is None


def test_a_pid_file_of_an_earlier_boot_names_nobody(pid_file: Path) -> None:
    write_pid_file(pid_file, TrainerProcess(7, 8))
    assert read_pid_file(pid_file) == TrainerProcess(7, 8)
    content = json.loads(pid_file.read_text())
    pid_file.write_text(json.dumps({**content, "boot_id": "another"}))
    assert read_pid_file(pid_file) is None


def test_a_pid_file_is_written_once_and_leaves_nothing_else(pid_file: Path) -> None:
    assert write_pid_file(pid_file, TrainerProcess(7, 8))
    assert not write_pid_file(pid_file, TrainerProcess(9, 10))
    assert read_pid_file(pid_file) == TrainerProcess(7, 8)
    assert list(pid_file.parent.iterdir()) == [pid_file]


def test_a_pid_file_in_a_copy_of_the_folder_names_nobody(pid_file: Path, tmp_path: Path) -> None:
    write_pid_file(pid_file, TrainerProcess(7, 8))
    copy = tmp_path / "copy"
    shutil.copytree(pid_file.parent, copy)
    assert read_pid_file(copy / pid_file.name) is None
    pid_file.parent.rename(tmp_path / "moved")
    assert read_pid_file(tmp_path / "moved" / pid_file.name) == TrainerProcess(7, 8)


def test_this_process_is_alive_and_another_of_its_pid_was_not() -> None:
    me = proc.identify(os.getpid())
    assert me is not None
    assert proc.is_alive(me)
    assert not proc.is_alive(TrainerProcess(me.pid, me.start_ticks - 1))
    assert os.getpid() in [member.pid for member in lineage.members(me)]
    assert lineage.members(TrainerProcess(me.pid, me.start_ticks + 1)) == ()


def test_a_process_that_is_gone_is_nobody() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    me = proc.identify(pid)
    os.waitpid(pid, 0)
    assert proc.stat(pid) is None
    assert me is not None
    assert not proc.is_alive(me)
