"""What cannot be looked at for want of a file descriptor is not said to be missing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab_server.agent.home import AgentHome
from lab_server.agent.host import HostFolder
from lab_server.descriptors import TOO_MANY_FILES
from lab_server.executors.last_lines import last_lines
from lab_server.files import artifacts, stamps
from lab_server.files.bell import Bell, listen
from lab_server.files.run_folder import RunFolder
from lab_server.files.uploads import UploadStore
from lab_server.model.run import TrainerProcess
from lab_server.model.upload import Upload
from lab_server.processes import lineage, patience, proc
from lab_server.processes.family import own_use
from lab_server.processes.pid_file import read_pid_file, write_pid_file
from lab_server.rpc.calls.status import status_of
from tests.descriptors import no_descriptors

UPLOAD = Upload("0" * 64, "sine")
LOOKS: dict[str, Callable[[Path], Any]] = {
    "a process": lambda _: proc.stat(os.getpid()),
    "whether it lives": lambda _: proc.is_alive(TrainerProcess(os.getpid(), 0)),
    "its family": lambda _: lineage.members(TrainerProcess(os.getpid(), 0)),
    "a pid file": lambda path: read_pid_file(path / "spool" / "1.pid"),
    "commands": lambda path: RunFolder(path).commands(1),
    "checkpoints": lambda path: RunFolder(path).steps(),
    "a file's stamp": lambda path: stamps.stamp(path / "control"),
    "the names in a folder": stamps.stamp,
    "last lines": lambda path: last_lines(RunFolder(path), 1),
    "a file of a run": lambda path: artifacts._part(path, "control", 0, 10),
    "whether code is whole": lambda path: UploadStore(path / "uploads").is_whole(UPLOAD),
    "what an agent holds": lambda path: AgentHome(path).held(),
    "who an agent is": lambda path: AgentHome(path).identity("a1", ""),
    "the agent of the own slots": lambda path: HostFolder(path).running(),
    "the servers of a home": lambda path: HostFolder(path).other_servers,
    "whether an agent is idle": lambda path: HostFolder(path).is_idle,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something of everything that can be looked at."""
    folder = RunFolder(tmp_path)
    folder.make()
    write_pid_file(folder.pid_file(1), TrainerProcess(os.getpid(), 0))
    folder.send(1, "stop")
    folder.log_position(1).write_bytes(b"")
    (tmp_path / "uploads" / UPLOAD.id / "files").mkdir(parents=True)
    (tmp_path / "uploads" / UPLOAD.id / "upload.json").write_text("{}")
    (tmp_path / "attempts").mkdir()
    (tmp_path / "checkpoints").mkdir()
    host = HostFolder(tmp_path)
    host.make()
    (host.path / "attempts").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_without_a_file_descriptor_is_none(folder: Path, name: str) -> None:
    LOOKS[name](folder)
    with no_descriptors(), pytest.raises(OSError, match="Too many open files") as raised:
        LOOKS[name](folder)
    assert raised.value.errno in TOO_MANY_FILES
    status = status_of(raised.value)
    assert status is not None
    assert status.code.name == "UNAVAILABLE"


def test_what_is_only_for_information_fails_nothing(tmp_path: Path) -> None:
    with no_descriptors():
        assert own_use().memory_bytes >= 0
        assert listen(tmp_path / "1") is None
        Bell(tmp_path / "1").ring()


async def test_a_look_is_made_again_until_there_is_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_RETRY_S", 0.01)
    (tmp_path / "file").write_text("there")
    with no_descriptors():
        looking = asyncio.create_task(patience.seen((tmp_path / "file").read_text))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not looking.done()
    assert await looking == "there"


async def test_other_errors_are_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await patience.seen((tmp_path / "nothing").read_text)
