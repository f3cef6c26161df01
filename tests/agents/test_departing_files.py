"""Files of a run that leave an agent: with each checkpoint all that was recorded before it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from lab_server.agent.files import RunFiles
from lab_server.files.run_folder import RunFolder
from lab_server.model.agent import AttemptKey


class Received:
    """A server that has nothing, and notes what comes."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.committed: list[list[str]] = []

    async def compare(self, key: AttemptKey, files: list[Any]) -> list[bytes]:
        del key
        return [chunk for file in files for chunk in file.chunks]

    async def upload(self, key: AttemptKey, chunks: list[bytes]) -> None:
        del key
        self.chunks += chunks

    async def commit(self, key: AttemptKey, files: list[Any], removed: list[str]) -> None:
        del key, removed
        self.committed.append([file.path for file in files])


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
