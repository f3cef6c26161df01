"""The levels of a log's lines: what was noted beside the log is found for any part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab_server.executors.last_lines import last_lines
from lab_server.files.log_levels import RECORD, LogLevels
from lab_server.files.log_sent import LogSent
from lab_server.files.run_folder import RunFolder
from lab_server.model.log_level import LogLevel, LogLine


def write(folder: Path, *lines: tuple[str, LogLevel]) -> bytes:
    """Write a log with its levels."""
    log = b""
    with (folder / "log.levels").open("wb") as levels:
        for text, level in lines:
            data = f"{text}\n".encode()
            if level is not LogLevel.STDOUT:
                levels.write(RECORD.pack(len(log), len(data), level))
            log += data
    (folder / "log.txt").write_bytes(log)
    return log


def test_a_log_without_levels_is_what_was_printed(tmp_path: Path) -> None:
    levels = LogLevels(tmp_path / "log.levels", 0, 100)
    assert levels.lines(b"one\r\n\ntwo", 0) == [LogLine("one"), LogLine(""), LogLine("two")]
    assert levels.lines(b"", 0) == []


@pytest.mark.parametrize("first", [0, 1, 500, 1998, 1999])
def test_every_part_of_a_long_log_has_its_levels(tmp_path: Path, first: int) -> None:
    kinds = list(LogLevel)
    lines = [(f"line {i}", kinds[i % len(kinds)]) for i in range(2000)]
    log = write(tmp_path, *lines)
    begin = sum(len(text) + 1 for text, _ in lines[:first])
    part = log[begin : begin + 3000]
    part = part[: part.rfind(b"\n") + 1]
    levels = LogLevels(tmp_path / "log.levels", begin, begin + len(part))
    assert (
        levels.lines(part, begin)
        == [LogLine(*line) for line in lines[first:]][: len(part.splitlines())]
    )


def test_the_part_in_a_long_text_has_the_texts_level(tmp_path: Path) -> None:
    write(tmp_path, ("a\nb\nc", LogLevel.ERROR), ("d", LogLevel.STDOUT))
    levels = LogLevels(tmp_path / "log.levels", 2, 8)
    assert [line.level.name for line in levels.lines(b"b\nc\nd\n", 2)] == [
        "ERROR",
        "ERROR",
        "STDOUT",
    ]


def test_a_torn_or_foreign_record_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log.levels"
    path.write_bytes(RECORD.pack(0, 2, 99) + RECORD.pack(2, 2, LogLevel.STDERR) + b"torn")
    levels = LogLevels(path, 0, 4)
    assert [line.level.name for line in levels.lines(b"a\nb\n", 0)] == ["STDOUT", "STDERR"]


def test_what_a_killed_trainer_printed_last_keeps_its_levels(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.make()
    write(tmp_path, ("sent", LogLevel.STDOUT), ("late", LogLevel.STDERR), ("last", LogLevel.STDOUT))
    LogSent(5, 0).write(folder.log_position(1))
    last = last_lines(folder, 1)
    assert last is not None
    assert last.lines == [LogLine("late", LogLevel.STDERR), LogLine("last")]
