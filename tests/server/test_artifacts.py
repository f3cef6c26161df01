"""The files of a run, and nothing but the files of a run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lab_server.errors import InvalidRequest, InvalidState, NotFound
from lab_server.files import artifacts
from lab_server.files.artifacts import CHUNK_BYTES, Chunk, list_artifacts, read_chunks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for path, data in {
        "run.yaml": b"id: 1",
        "checkpoints/7/model.pt": b"m" * 100,
        "empty": b"",
        "control": b"secret",
        "spool/1": b"secret",
        "notes/control": b"mine",
        "notes/spool/1": b"mine",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (tmp_path / "outside").write_bytes(b"secret")
    return folder


async def download(folder: Path, path: str, offset: int = 0) -> list[Chunk]:
    return [chunk async for chunk in read_chunks(folder, path, offset)]


async def test_files_are_listed_by_path_without_the_internals(folder: Path) -> None:
    found = {artifact.path: artifact.size_bytes for artifact in await list_artifacts(folder)}

    assert found == {
        "checkpoints/7/model.pt": 100,
        "empty": 0,
        "notes/control": 4,
        "notes/spool/1": 4,
        "run.yaml": 5,
    }
    assert list(found) == sorted(found)


async def test_a_run_without_a_folder_has_no_files(tmp_path: Path) -> None:
    assert await list_artifacts(tmp_path / "none") == []


async def test_a_file_comes_in_chunks_with_size_and_hash(folder: Path) -> None:
    data = os.urandom(2 * CHUNK_BYTES + 17)
    (folder / "big").write_bytes(data)

    chunks = await download(folder, "big")

    assert [len(chunk.data) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 17]
    assert b"".join(chunk.data for chunk in chunks) == data
    assert [chunk.size_bytes for chunk in chunks] == [len(data), 0, 0]
    assert [chunk.sha256 for chunk in chunks] == ["", "", hashlib.sha256(data).hexdigest()]


@pytest.mark.parametrize("offset", [1, CHUNK_BYTES, CHUNK_BYTES + 5, 2 * CHUNK_BYTES + 16])
async def test_a_download_goes_on_at_an_offset_with_the_hash_of_the_whole(
    folder: Path, offset: int
) -> None:
    data = os.urandom(2 * CHUNK_BYTES + 17)
    (folder / "big").write_bytes(data)

    chunks = await download(folder, "big", offset)

    assert b"".join(chunk.data for chunk in chunks) == data[offset:]
    assert chunks[0].size_bytes == len(data)
    assert chunks[-1].sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("path", "offset"), [("empty", 0), ("run.yaml", 5)])
async def test_nothing_left_to_send_is_one_chunk_with_the_hash(
    folder: Path, path: str, offset: int
) -> None:
    data = (folder / path).read_bytes()

    assert await download(folder, path, offset) == [
        Chunk(b"", len(data), hashlib.sha256(data).hexdigest())
    ]


@pytest.mark.parametrize("offset", [6, 2**63])
async def test_an_offset_behind_the_end_is_refused(folder: Path, offset: int) -> None:
    with pytest.raises(InvalidRequest, match="which has 5 bytes"):
        await download(folder, "run.yaml", offset)


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/",
        "checkpoints",
        "checkpoints/7/",
        "../outside",
        "checkpoints/../../outside",
        "checkpoints//7/model.pt",
        "./run.yaml",
        "run.yaml/",
        "RUN.yaml",
        "run.yaml\x00",
        "control",
        "spool/1",
        "no\nfile",
        "x" * 10_000,
        "/etc/passwd",
    ],
)
async def test_a_path_that_was_not_listed_is_not_found(folder: Path, path: str) -> None:
    with pytest.raises(NotFound) as caught:
        await download(folder, path)

    assert caught.value.resource == "artifact"


async def test_an_absolute_path_of_a_file_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFound):
        await download(folder, str(folder / "run.yaml"))


async def test_links_pipes_and_names_without_text_are_not_listed(folder: Path) -> None:
    before = await list_artifacts(folder)
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"caf\xe9")).write_bytes(b"x")

    assert await list_artifacts(folder) == before
    for path in ("link", "linked/outside", "loop/run.yaml", "pipe"):
        with pytest.raises(NotFound):
            await download(folder, path)


@pytest.mark.parametrize("swapped", ["checkpoints", "checkpoints/7", "checkpoints/7/model.pt"])
async def test_a_link_put_in_place_of_what_was_listed_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    listed = await list_artifacts(folder)

    async def listed_before(_: Path) -> list[artifacts.Artifact]:
        return listed

    monkeypatch.setattr(artifacts, "list_artifacts", listed_before)
    (folder / swapped).rename(folder.parent / "moved")
    (folder / swapped).symlink_to(folder.parent / "moved")

    with pytest.raises(NotFound, match="just now"):
        await download(folder, "checkpoints/7/model.pt")


async def test_a_file_that_grows_is_read_up_to_the_size_it_had(folder: Path) -> None:
    data = os.urandom(CHUNK_BYTES + 10)
    (folder / "log.txt").write_bytes(data)
    chunks = []
    async for chunk in read_chunks(folder, "log.txt"):
        chunks.append(chunk)
        with (folder / "log.txt").open("ab") as file:
            file.write(b"more")

    assert b"".join(chunk.data for chunk in chunks) == data
    assert chunks[-1].sha256 == hashlib.sha256(data).hexdigest()


async def test_a_file_that_shrinks_is_an_error_and_not_a_wrong_file(folder: Path) -> None:
    (folder / "big").write_bytes(bytes(CHUNK_BYTES + 10))
    chunks = read_chunks(folder, "big")
    await anext(chunks)
    os.truncate(folder / "big", CHUNK_BYTES)

    with pytest.raises(InvalidState, match="became shorter while it was read"):
        await anext(chunks)


async def test_no_file_stays_open(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    await download(folder, "run.yaml")
    for path in ("run.yaml", "none", "checkpoints/7/model.pt"):
        with pytest.raises((InvalidRequest, NotFound)):
            await download(folder, path, 1000)

    assert len(os.listdir("/proc/self/fd")) == before
