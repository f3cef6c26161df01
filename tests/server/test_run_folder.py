"""Commands to a trainer: each arrives whole or is refused, whatever became of the one before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab_server.files.run_folder import RunFolder
from tests.disks import fill, small_disk


def commands(folder: RunFolder) -> list[str]:
    return [json.loads(line)["command"] for line in folder.commands(1)]


def test_a_command_behind_a_torn_one_arrives(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.send(1, "checkpoint")
    with folder.control.open("a") as file:
        file.write('{"attempt": 1, "comm')  # a server was killed
    folder.send(1, "stop", checkpoint=True)
    assert commands(folder) == ["checkpoint", "stop"]
    assert folder.was_sent(1, "stop")


def test_a_command_that_the_disk_takes_half_of_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path, "64k"):
        folder = RunFolder(tmp_path)
        folder.control.write_text(
            "\n" * 4090
        )  # six bytes are left of what the file has of the disk
        fill(tmp_path)
        with pytest.raises(OSError, match="No space left"):
            folder.send(1, "stop", checkpoint=True)
        assert not folder.was_sent(1, "stop")
        (tmp_path / "fill").unlink()
        folder.send(1, "stop", checkpoint=True)
        assert commands(folder) == ["stop"]
