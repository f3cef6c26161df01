"""Files of a run that leave an agent: with each checkpoint all that was recorded before it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab_server.agent.files import RunFiles
from lab_server.agent.link import Refused
from lab_server.files.run_folder import RunFolder
from lab_server.model.agent import AttemptKey


class Received:
    """A server that has nothing, and notes what comes."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.committed: list[list[str]] = []
        self.refusals = 0

    async def compare(self, key: AttemptKey, files: list[Any]) -> list[bytes]:
        del key
        return [chunk for file in files for chunk in file.chunks]

    async def upload(self, key: AttemptKey, chunks: list[bytes]) -> None:
        del key
        self.chunks += chunks

    async def commit(self, key: AttemptKey, files: list[Any], removed: list[str]) -> None:
        del key, removed
        if self.refusals:
            self.refusals -= 1
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "chunks are missing")
        self.committed.append([file.path for file in files])


async def test_a_server_with_another_home_gets_all_files_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.make()
    (folder.path / "run.yaml").write_text("id: r-1")
    (folder.checkpoints / "10").mkdir(parents=True)
    (folder.checkpoints / "10" / "model.pt").write_bytes(b"weights")
    received: Any = Received()
    files = RunFiles(received, AttemptKey("r-1", 1), folder)
    await files.upload()
    all_files = [["run.yaml"], ["checkpoints/10/model.pt"]]
    assert received.committed == all_files
    await files.upload()
    assert received.committed == all_files
    files.forget()
    assert files.has_new_checkpoint
    await files.upload()
    assert received.committed == all_files * 2


async def test_what_a_server_lost_of_what_it_got_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_server.agent.files._RETRY_S", 0.0)
    folder = RunFolder(tmp_path / "run")
    folder.make()
    (folder.path / "run.yaml").write_text("id: r-1")
    received: Any = Received()
    received.refusals = 1
    await RunFiles(received, AttemptKey("r-1", 1), folder).upload()
    assert received.committed == [["run.yaml"]]
    assert received.chunks == [b"id: r-1"] * 2


async def test_rows_that_are_in_a_databases_journal_alone_are_sent(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.make()
    received: Any = Received()
    files = RunFiles(received, AttemptKey("r-1", 1), folder)
    with contextlib.closing(sqlite3.connect(folder.path / "sqlite.db")) as writing:
        writing.executescript("PRAGMA journal_mode=WAL; CREATE TABLE rows (step INTEGER);")
        for step in (1, 2):
            writing.execute("INSERT INTO rows VALUES (?)", (step,))
            writing.commit()
            await files.upload()
        await files.upload()
    assert received.committed == [["sqlite.db"], ["sqlite.db"]]
    arrived = tmp_path / "arrived.db"
    arrived.write_bytes(received.chunks[-1])
    with contextlib.closing(sqlite3.connect(arrived)) as reading:
        assert reading.execute("SELECT step FROM rows").fetchall() == [(1,), (2,)]
