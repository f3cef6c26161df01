"""An attempt on an agent whose files cannot be shipped is not taken for one that was."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import structlog
import structlog.testing

from lab_server.agent.attempt import HeldAttempt
from lab_server.agent.files import RunFiles
from lab_server.agent.home import AgentHome
from lab_server.agent.link import Link, Refused
from lab_server.agent.uploads import AgentUploads
from lab_server.model.agent import AttemptKey, Ended, FromAgent, Launched
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess
from tests.agents.test_registry import KEY, PROCESS, spec_of
from tests.server.fakes import FakeExecutor


class Trainer(FakeExecutor):
    """Starts a trainer that goes on until the test ends it, or it is killed.

    Attributes:
        asked: set when a trainer is asked for.
        may_start: clear it to have that take long.
        exit: ends the trainer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_launched = 0
        self.asked = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.exit = asyncio.Event()
        self.killed: list[TrainerProcess] = []

    async def launch(self, spec: LaunchSpec) -> TrainerProcess:
        self.num_launched += 1
        self.asked.set()
        await self.may_start.wait()
        return PROCESS

    async def wait(self, process: TrainerProcess) -> str:
        await self.exit.wait()
        return "it exited"

    async def kill(self, process: TrainerProcess, *, grace_s: float) -> None:
        self.killed.append(process)
        self.exit.set()


class Taking(Link):
    """A server that takes everything, until it is told otherwise.

    Attributes:
        refuses: what each call raises, by its name.
        committed: the files that arrived.
    """

    def __init__(self) -> None:
        self.refuses: dict[str, Refused] = {}
        self.committed: list[str] = []

    async def append(self, key: AttemptKey, offset: int, data: bytes) -> int:
        self._check("append")
        return offset + len(data)

    async def compare(self, key: AttemptKey, files: list[Any]) -> list[bytes]:
        self._check("compare")
        return []

    async def commit(self, key: AttemptKey, files: list[Any], removed: list[str]) -> None:
        self.committed += [file.path for file in files]

    async def fetch(
        self, key: AttemptKey, etag: str = "", after_path: str = "", offset: int = 0
    ) -> AsyncIterator[Any]:
        self._check("fetch")
        for answer in list[Any]():
            yield answer

    def _check(self, name: str) -> None:
        if name in self.refuses:
            raise self.refuses[name]


class Rig:
    """A held attempt, its server and its trainer.

    Attributes:
        told: what the server was told.
    """

    def __init__(self, path: Path, **refuses: Refused) -> None:
        self.told: list[FromAgent] = []
        self.link = Taking()
        self.link.refuses |= refuses
        self.trainer = Trainer()
        self._home = AgentHome(path)
        self.spec = spec_of(path / "unused")
        self.folder = self._home.folder(self.spec)
        self.is_launched = asyncio.Event()
        with self._home.opened():
            uploads = AgentUploads(self.link, None)
            self.held = HeldAttempt(
                self._home, self.trainer, self.link, uploads, self.spec, self._tell
            )

    def _tell(self, said: FromAgent) -> None:
        self.told.append(said)
        if isinstance(said, Launched):
            self.is_launched.set()

    async def train(self) -> None:
        """Let the trainer begin, and leave a file."""
        await self.is_launched.wait()
        (self.folder.path / "notes.txt").write_text("x")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in ("files", "attempt"):
        monkeypatch.setattr(f"lab_server.agent.{module}._RETRY_S", 0.0)
    monkeypatch.setattr("lab_server.agent.attempt._UPLOAD_POLL_S", 0.0)
    with structlog.testing.capture_logs():  # tracebacks take long to write
        yield


@pytest.fixture
async def running(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    await rig.train()
    return rig


def failing(num_times: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the next uploads fail, and return a list that grows with each."""
    upload = cast(Callable[[RunFiles], Any], RunFiles._upload)
    failed: list[int] = []

    async def fail(files: RunFiles) -> Any:
        if len(failed) < num_times:
            failed.append(1)
            raise error
        return await upload(files)

    monkeypatch.setattr(RunFiles, "_upload", fail)
    return failed


@pytest.mark.parametrize("error", [OSError(28, "No space left"), sqlite3.OperationalError("busy")])
async def test_last_files_that_cannot_be_read_are_uploaded_when_they_can(
    running: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failing(3, error, monkeypatch)
    running.trainer.exit.set()
    await running.held.until_told()
    assert running.told[-1] == Ended(KEY, "it exited", 0)
    assert running.link.committed == ["notes.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), sqlite3.OperationalError("busy")])
async def test_an_attempt_whose_files_cannot_be_shipped_ends_incomplete(
    running: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failed = failing(1000, error, monkeypatch)
    running.trainer.exit.set()
    await running.held.until_told()
    assert running.told[-1] == Ended(KEY, f"its agent failed: {error}", 0, is_complete=False)
    assert len(failed) == 60
    running.held.report()
    assert running.told[-1] == running.told[1]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), sqlite3.OperationalError("busy")])
async def test_a_checkpoint_that_cannot_be_read_is_uploaded_when_it_can(
    running: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failed = failing(2, error, monkeypatch)
    (running.folder.checkpoints / "10").mkdir(parents=True)
    (running.folder.checkpoints / "10" / "model.pt").write_bytes(b"weights")
    async with asyncio.timeout(30):
        while "checkpoints/10/model.pt" not in running.link.committed:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(failed) == 2
    assert running.trainer.killed == []
    await running.held.release()


async def test_files_that_the_server_refuses_end_the_attempt_and_are_told(running: Rig) -> None:
    running.link.refuses["compare"] = Refused(grpc.StatusCode.INVALID_ARGUMENT, "no path")
    (running.folder.checkpoints / "10").mkdir(parents=True)
    await running.held.until_told()
    assert running.told[-1] == Ended(KEY, "its agent failed: no path", 0, is_complete=False)
    assert running.trainer.killed == [PROCESS]


async def test_a_file_that_cannot_be_fetched_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path, fetch=Refused(grpc.StatusCode.NOT_FOUND, "there is no file"))
    await rig.held.until_told()
    assert rig.told == [Ended(KEY, "its agent failed: there is no file", 0, is_complete=False)]


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED]
)
async def test_an_attempt_that_is_over_for_the_server_is_left_to_it(
    running: Rig, code: grpc.StatusCode
) -> None:
    over = Refused(code, "it is over")
    running.link.refuses |= {"append": over, "compare": over}
    running.trainer.exit.set()
    await running.held.until_told()
    assert [type(said) for said in running.told] == [Launched]


async def test_a_trainer_that_starts_while_it_is_released_is_ended(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.trainer.may_start.clear()
    await rig.trainer.asked.wait()
    releasing = asyncio.create_task(rig.held.release())
    await asyncio.sleep(0)
    rig.trainer.may_start.set()
    await releasing
    assert rig.trainer.killed == [PROCESS]


async def test_a_trainer_that_starts_while_it_is_to_end_is_ended(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.trainer.may_start.clear()
    await rig.trainer.asked.wait()
    rig.held.end(1.0, "its agent was shut down")
    rig.trainer.may_start.set()
    await rig.held.until_told()
    assert rig.trainer.killed[0] == PROCESS
    assert rig.told[-1] == Ended(KEY, "its agent was shut down", 0)


async def test_a_command_that_the_disk_refuses_is_passed_on_later(running: Rig) -> None:
    lines = [f'{{"attempt": 1, "command": "{command}"}}' for command in ("save", "stop")]
    running.folder.control.mkdir()
    for line in (*lines, *lines):
        running.held.command(line)
    running.folder.control.rmdir()
    async with asyncio.timeout(30):
        while running.folder.commands(1) != lines:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await running.held.release()
