"""Downloading files: whole, verified, resumed, and never outside the folder that was asked for."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from lab_client import errors
from lab_client.protocol.download import Download
from tests.client.twin import Twin, TwinRun


@pytest.fixture
def run(twin: Twin) -> TwinRun:
    run = twin.add_run()
    run.files = {"checkpoints/10/model.bin": random.Random(0).randbytes(5500), "empty": b""}
    return run


def test_a_file_arrives_whole(client: Any, run: TwinRun, tmp_path: Path) -> None:
    written = client.download(run.message.id, "checkpoints/10/model.bin", tmp_path / "m")
    assert written == tmp_path / "m"
    assert written.read_bytes() == run.files["checkpoints/10/model.bin"]
    assert client.download(run.message.id, "empty", tmp_path).read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "m"]
    assert client.download(run.message.id, "empty", f"{tmp_path}/new/") == tmp_path / "new/empty"


def test_a_folder_in_the_place_of_the_file_is_told(
    client: Any, run: TwinRun, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.DownloadError, match="cannot write"):
        client.download(run.message.id, "empty", tmp_path)


def test_all_files_arrive_in_their_folders(client: Any, run: TwinRun, tmp_path: Path) -> None:
    written = client.run(run.message.id).download_all(tmp_path / "all")
    assert {path.relative_to(tmp_path / "all").as_posix() for path in written} == set(run.files)


def test_a_cut_download_goes_on_where_it_stopped(
    client: Any, twin: Twin, run: TwinRun, tmp_path: Path
) -> None:
    twin.cuts.extend([2, 1])
    written = client.download(run.message.id, "checkpoints/10/model.bin", tmp_path)
    assert written.read_bytes() == run.files["checkpoints/10/model.bin"]
    offsets = [request.offset for request in twin.requests if hasattr(request, "offset")]
    assert offsets == [0, 2000, 3000]


def leave_part(run: TwinRun, folder: Path, data: bytes) -> None:
    name = Download(run.message.id, "checkpoints/10/model.bin", folder)._part
    name.write_bytes(data)


def test_what_an_earlier_try_left_is_not_fetched_again(
    client: Any, twin: Twin, run: TwinRun, tmp_path: Path
) -> None:
    leave_part(run, tmp_path, run.files["checkpoints/10/model.bin"][:1234])
    written = client.download(run.message.id, "checkpoints/10/model.bin", tmp_path)
    assert written.read_bytes() == run.files["checkpoints/10/model.bin"]
    assert [r.offset for r in twin.requests if hasattr(r, "offset")] == [1234]


def test_wrong_bytes_of_an_earlier_try_are_fetched_anew(
    client: Any, twin: Twin, run: TwinRun, tmp_path: Path
) -> None:
    leave_part(run, tmp_path, b"wrong")
    written = client.download(run.message.id, "checkpoints/10/model.bin", tmp_path)
    assert written.read_bytes() == run.files["checkpoints/10/model.bin"]
    assert [r.offset for r in twin.requests if hasattr(r, "offset")] == [5, 0]


def test_more_bytes_than_the_file_has_by_now_are_fetched_anew(
    client: Any, twin: Twin, run: TwinRun, tmp_path: Path
) -> None:
    leave_part(run, tmp_path, b"x" * 9999)
    written = client.download(run.message.id, "checkpoints/10/model.bin", tmp_path)
    assert written.read_bytes() == run.files["checkpoints/10/model.bin"]
    assert [r.offset for r in twin.requests if hasattr(r, "offset")] == [9999, 0]


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "", "a\0b", "..\\x"])
def test_a_path_that_leads_outside_is_refused(
    client: Any, run: TwinRun, tmp_path: Path, path: str
) -> None:
    run.files = {path: b"evil"}
    with pytest.raises(errors.DownloadError):
        client.run(run.message.id).download_all(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_typed_error(
    client: Any, run: TwinRun, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.DownloadError, match="cannot write"):
        client.download(run.message.id, "empty", tmp_path / "file" / "below")
