"""Files of a run that arrive in chunks: whole or not at all, and nowhere but in the run's folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab_server.errors import InvalidRequest, InvalidState
from lab_server.files.chunks import CHUNK_BYTES, Arrivals, FileChunks, chunks_of
from lab_server.files.run_folder import RunFolder

BIG = bytes(range(256)) * (CHUNK_BYTES // 256) + b"and a little more"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "server" / "run")
    folder.make()
    return folder


@pytest.fixture
def arrivals(folder: RunFolder) -> Arrivals:
    return Arrivals(folder, 1)


def file_of(tmp_path: Path, path: str, data: bytes) -> FileChunks:
    source = tmp_path / "source"
    source.write_bytes(data)
    return chunks_of(source, path)


def test_what_is_missing_is_uploaded_and_the_file_is_there(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals
) -> None:
    file = file_of(tmp_path, "data/big.bin", BIG)
    assert arrivals.missing([file]) == list(file.chunks)
    arrivals.keep(BIG[:CHUNK_BYTES])
    assert arrivals.missing([file]) == [file.chunks[1]]
    arrivals.keep(BIG[CHUNK_BYTES:])
    assert arrivals.missing([file]) == []
    arrivals.commit([file], [])
    assert (folder.path / "data/big.bin").read_bytes() == BIG
    assert list(folder.spool_folder.iterdir()) == []


def test_of_a_file_that_has_grown_only_the_end_travels(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals
) -> None:
    (folder.path / "log.txt").write_bytes(BIG[:CHUNK_BYTES] + b"old end")
    file = file_of(tmp_path, "log.txt", BIG)
    assert arrivals.missing([file]) == [file.chunks[1]]
    arrivals.keep(BIG[CHUNK_BYTES:])
    arrivals.commit([file], [])
    assert (folder.path / "log.txt").read_bytes() == BIG


def test_an_empty_file_is_a_file(tmp_path: Path, folder: RunFolder, arrivals: Arrivals) -> None:
    arrivals.commit([file_of(tmp_path, "empty", b"")], [])
    assert (folder.path / "empty").read_bytes() == b""


def test_without_a_chunk_nothing_is_changed(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals
) -> None:
    (folder.path / "log.txt").write_bytes(b"old")
    with pytest.raises(InvalidState, match="missing"):
        arrivals.commit([file_of(tmp_path, "log.txt", b"new")], [])
    assert (folder.path / "log.txt").read_bytes() == b"old"


def test_the_files_of_a_checkpoint_appear_together(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals
) -> None:
    model = file_of(tmp_path, "checkpoints/10/model.pt", b"model")
    manifest = file_of(tmp_path, "checkpoints/10/manifest.json", b"manifest")
    arrivals.keep(b"model")
    with pytest.raises(InvalidState):
        arrivals.commit([model, manifest], [])
    assert not (folder.checkpoints / "10").exists()
    arrivals.keep(b"model")
    arrivals.keep(b"manifest")
    arrivals.commit([model, manifest], [])
    assert {f.name for f in (folder.checkpoints / "10").iterdir()} == {"model.pt", "manifest.json"}


def test_a_checkpoint_that_is_taken_again_replaces_the_old_one(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals
) -> None:
    (folder.checkpoints / "10").mkdir(parents=True)
    (folder.checkpoints / "10" / "old.pt").write_bytes(b"old")
    arrivals.keep(b"new")
    arrivals.commit([file_of(tmp_path, "checkpoints/10/new.pt", b"new")], [])
    assert [f.name for f in (folder.checkpoints / "10").iterdir()] == ["new.pt"]


def test_what_is_gone_is_removed(folder: RunFolder, arrivals: Arrivals) -> None:
    (folder.checkpoints / "10").mkdir(parents=True)
    (folder.path / "notes.txt").write_text("x")
    arrivals.commit([], ["checkpoints/10", "notes.txt", "never there"])
    assert not (folder.checkpoints / "10").exists()
    assert not (folder.path / "notes.txt").exists()


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "control", "spool/1", "parent/x", "a\0b"],
)
def test_a_path_that_leads_elsewhere_is_refused(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals, path: str
) -> None:
    file = file_of(tmp_path, path, b"")
    with pytest.raises(InvalidRequest, match="no path of a run's file"):
        arrivals.missing([file])
    with pytest.raises(InvalidRequest):
        arrivals.commit([file], [])
    with pytest.raises(InvalidRequest):
        arrivals.commit([], [path])


def test_a_link_that_leads_out_of_the_folder_is_not_followed(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder.path / "link").symlink_to(outside)
    with pytest.raises(InvalidRequest):
        arrivals.commit([file_of(tmp_path, "link/x", b"")], [])
    assert list(outside.iterdir()) == []


def test_chunks_that_do_not_fit_the_size_are_refused(arrivals: Arrivals) -> None:
    with pytest.raises(InvalidRequest, match="bytes are not"):
        arrivals.missing([FileChunks("x", 5, ())])


def test_a_file_of_another_size_than_was_announced_does_not_come(
    folder: RunFolder, arrivals: Arrivals
) -> None:
    arrivals.keep(b"abc")
    with pytest.raises(InvalidState, match="has 3 bytes, not 5"):
        arrivals.commit([FileChunks("x", 5, (hashlib.sha256(b"abc").digest(),))], [])
    assert not (folder.path / "x").exists()


def test_a_chunk_that_has_moved_within_its_file_does_not_travel(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals
) -> None:
    (folder.path / "log.txt").write_bytes(b"." * CHUNK_BYTES + BIG)
    file = file_of(tmp_path, "log.txt", BIG)
    assert arrivals.missing([file]) == []
    arrivals.commit([file], [])
    assert (folder.path / "log.txt").read_bytes() == BIG


def test_of_a_file_that_grows_meanwhile_come_the_bytes_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "log.txt"
    source.write_bytes(b"old and new")
    monkeypatch.setattr(os, "fstat", lambda _: SimpleNamespace(st_size=3))
    assert chunks_of(source, "x") == FileChunks("x", 3, (hashlib.sha256(b"old").digest(),))


def test_files_are_synced_before_they_are_in_their_places(
    tmp_path: Path, folder: RunFolder, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append((folder.path / "x").exists()))
    arrivals.keep(b"new")
    arrivals.commit([file_of(tmp_path, "x", b"new")], [])
    assert synced == [False]


def test_a_chunk_that_could_not_be_written_whole_is_missing(
    tmp_path: Path, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("the disk is full")

    file = file_of(tmp_path, "x", b"new")
    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="full"):
        arrivals.keep(b"new")
    assert arrivals.missing([file]) == list(file.chunks)
