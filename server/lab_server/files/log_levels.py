"""Which lines of a run's log.txt are no ordinary output: the file log.levels beside it.

The log is one file, so that its lines keep their order and a crash loses none. Who writes something to it
that has a level appends a record here: where that begins, how long it is, its level. The records of one
process ascend; several processes may append, so those of the same moment may lie in another order.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab_server.descriptors import raise_if_blind
from lab_server.model.log_level import LogLevel, LogLine

RECORD: Final = struct.Struct("<QII")
"""Offset and size in bytes, level."""

_SLACK_RECORDS: Final = 64  # so far records of several processes may be out of order


@dataclass(frozen=True, slots=True, order=True)
class _Range:
    offset: int
    size: int
    level: int


class LogLevels:
    """Reads the levels of a part of a log.

    Args:
        path: of log.levels; a missing one says that all is ordinary output.
        begin: the first byte of the part.
        end: the byte after its last.
    """

    def __init__(self, path: Path, begin: int, end: int) -> None:
        self._ranges = sorted(_read(path, begin, end))
        self._offsets = [item.offset for item in self._ranges]

    def at(self, offset: int) -> LogLevel:
        """Return the level of what is written at a byte of the log."""
        index = bisect_right(self._offsets, offset) - 1
        if index < 0:
            return LogLevel.STDOUT
        found = self._ranges[index]
        return LogLevel(found.level) if offset < found.offset + found.size else LogLevel.STDOUT

    def lines(self, data: bytes, begin: int) -> list[LogLine]:
        """Return the lines of some of the log, each with the level of its first byte.

        Args:
            data: bytes of the log; the last line may be without an end.
            begin: where in the log they begin.
        """
        found = []
        for line in _split(data):
            found.append(LogLine(line.decode("utf-8", "replace").rstrip("\r"), self.at(begin)))
            begin += len(line) + 1
        return found


def _split(data: bytes) -> Sequence[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _read(path: Path, begin: int, end: int) -> Iterator[_Range]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise_if_blind(error)
        return
    try:
        num_records = os.fstat(fd).st_size // RECORD.size
        first = max(0, _first_at(fd, num_records, begin) - _SLACK_RECORDS)
        last = min(num_records, _first_at(fd, num_records, end) + _SLACK_RECORDS)
        data = os.pread(fd, (last - first) * RECORD.size, first * RECORD.size)
    finally:
        os.close(fd)
    known = {int(level) for level in LogLevel}
    for offset, size, level in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
        if level in known:
            yield _Range(offset, size, level)


def _first_at(fd: int, num_records: int, offset: int) -> int:
    """Return the number of the first record that is at an offset of the log or after it."""
    low, high = 0, num_records
    while low < high:
        middle = (low + high) // 2
        (found,) = struct.unpack("<Q", os.pread(fd, 8, middle * RECORD.size))
        low, high = (middle + 1, high) if found < offset else (low, middle)
    return low
