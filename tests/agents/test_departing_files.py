"""Files of a run that leave an agent: with each checkpoint all that was recorded before it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab_rpc.v1 import agent_service_pb2 as pb
from lab_server.agent.files import RunFiles
from lab_server.agent.home import Identity
from lab_server.agent.link import Link, Refused, pages_of
from lab_server.errors import InvalidRequest
from lab_server.files import chunks
from lab_server.files.run_folder import RunFolder
from lab_server.model.agent import AttemptKey
from tests.agents.conftest import Desk
from tests.agents.test_registry import KEY, Side, spec_of


@dataclass
class Rig:
    """A run's files on an agent.

    Attributes:
        here: the run's folder.
        there: the one on the server.
    """

    files: RunFiles
    here: Path
    there: Path


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


@pytest.fixture
async def rig(desk: Desk, tmp_path: Path) -> AsyncIterator[Rig]:
    """An attempt of an agent that is attached to a real service, with its folders there and here."""
    metadata = await desk.joined()
    credential_id, _, secret = metadata[0][1].removeprefix("Bearer lab_").partition("_")
    link = Link(Identity("a1", "gpus", secret, credential_id))
    link.attached(desk.stub)
    side = Side(desk.agents)
    launching = asyncio.create_task(desk.agents.launch(spec_of(tmp_path / "r1")))
    await asyncio.sleep(0)
    here = RunFolder(tmp_path / "agent" / "r1")
    here.make()
    yield Rig(RunFiles(link, KEY, here), here.path, tmp_path / "r1")
    side.agents.close()
    launching.cancel()


async def test_a_checkpoint_of_more_chunks_than_one_message_holds_arrives(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lab_server.files.chunks", "lab_server.agent.files"):
        monkeypatch.setattr(f"{module}.CHUNK_BYTES", 16)
    # the hashes alone are 5 MB, and a message of gRPC has 4 MiB
    written = {"model.pt": b"".join(bytes([n % 5]) * 16 for n in range(150_000)), "empty.pt": b""}
    checkpoint = rig.here / "checkpoints" / "10"
    checkpoint.mkdir(parents=True)
    for name, data in written.items():
        (checkpoint / name).write_bytes(data)
    await rig.files.upload()
    there = rig.there / "checkpoints" / "10"
    assert {path.name: path.read_bytes() for path in there.iterdir()} == written


async def test_many_files_arrive_and_many_are_removed(rig: Rig) -> None:
    (rig.here / "plots").mkdir()
    for number in range(1000):
        (rig.here / "plots" / f"{number:0240}.txt").write_text(str(number))
    await rig.files.upload()
    arrived = {path.name: path.read_text() for path in (rig.there / "plots").iterdir()}
    assert arrived == {f"{number:0240}.txt": str(number) for number in range(1000)}
    for number in range(1, 1000):
        (rig.here / "plots" / f"{number:0240}.txt").unlink()
    await rig.files.upload()
    assert [path.read_text() for path in (rig.there / "plots").iterdir()] == ["0"]


def test_more_chunks_than_can_be_known_at_once_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "MAX_CHUNKS", 3)
    files = chunks.FileList()
    files.add("a", 3 << 20, [bytes(32), bytes(32)])
    files.add("", 0, [bytes(32)])
    (whole,) = files.whole()
    assert (whole.path, whole.size_bytes, len(whole.chunks)) == ("a", 3 << 20, 3)
    with pytest.raises(InvalidRequest, match="at most 3 chunks"):
        files.add("b", 1, [bytes(32)])


def test_no_request_about_files_is_near_the_limit_of_one() -> None:
    sizes = [1] * 1000 + [9000, 0, 20_000]
    files = [chunks.FileChunks("p" * 4000, n << 20, (bytes(32),) * n) for n in sizes]
    pages = list(pages_of(files))
    assert sum(len(file.chunks) for page in pages for file in page) == sum(sizes)
    assert max(pb.CompareFilesRequest(files=page).ByteSize() for page in pages) < 1 << 20


async def test_what_an_experiment_has_beside_its_checkpoints_arrives_and_stays(rig: Rig) -> None:
    there, here = rig.there / "checkpoints", rig.here / "checkpoints"
    for path in ("10/model.pt", "best/model.pt", "best/notes.txt", "10.pt", "1st/model.pt"):
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_text(path)
    await rig.files.upload()
    (here / "best" / "notes.txt").write_text("others")
    await rig.files.upload()
    arrived = {str(p.relative_to(there)): p.read_text() for p in there.rglob("*") if p.is_file()}
    assert arrived == {
        **{path: path for path in ("10/model.pt", "best/model.pt", "10.pt", "1st/model.pt")},
        "best/notes.txt": "others",
    }


async def test_a_file_that_changes_all_the_time_keeps_no_checkpoint_from_the_server(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_server.agent.files._RETRY_S", 0.0)
    status = rig.here / "status.json"
    status.write_text("0")
    (rig.here / "checkpoints" / "10").mkdir(parents=True)
    (rig.here / "checkpoints" / "10" / "model.pt").write_text("weights")
    compare = Link.compare

    async def change_first(link: Link, *arguments: Any) -> list[bytes]:
        status.write_text(str(int(status.read_text()) + 1))
        return await compare(link, *arguments)

    monkeypatch.setattr(Link, "compare", change_first)
    async with asyncio.timeout(60):
        await rig.files.upload()
    assert (rig.there / "checkpoints" / "10" / "model.pt").read_text() == "weights"
    assert (rig.there / "status.json").read_text() == "0", "as it was when it was looked at"
    await rig.files.upload()
    assert (rig.there / "status.json").read_text() != "0"


async def test_databases_of_one_name_and_files_named_so_arrive(rig: Rig) -> None:
    for folder in ("a", "b"):
        (rig.here / folder).mkdir()
        with contextlib.closing(sqlite3.connect(rig.here / folder / "x.db")) as writing:
            writing.execute(f"CREATE TABLE {folder} (step INTEGER)")
    (rig.here / "c.db").write_bytes(b"no database")
    async with asyncio.timeout(60):
        await rig.files.upload()
    for folder in ("a", "b"):
        with contextlib.closing(sqlite3.connect(rig.there / folder / "x.db")) as reading:
            assert reading.execute("SELECT name FROM sqlite_master").fetchall() == [(folder,)]
    assert (rig.there / "c.db").read_bytes() == b"no database"
