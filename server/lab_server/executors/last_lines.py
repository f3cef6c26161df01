"""What a dead trainer printed last, and what of it is not in its spool."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from lab_server.descriptors import raise_if_blind
from lab_server.files.log_levels import LogLevels
from lab_server.files.log_sent import LogSent
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader
from lab_server.messages import events
from lab_server.model.log_level import LogLine

_MAX_BYTES = 256 << 10
_READ_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class LastLines:
    """Lines of the log that are not in the spool.

    Attributes:
        lines: only the last ones when there are very many.
        sent: up to where the log is in the spool, or left out.
    """

    lines: list[LogLine]
    sent: LogSent


def last_lines(folder: RunFolder, attempt: int) -> LastLines | None:
    """Return the lines that a trainer did not send, None if it is not known what it sent.

    Call it when no process of the attempt is left.

    Raises:
        OSError: If there is no file descriptor to read them with.
    """
    noted = LogSent.read(folder.log_position(attempt))
    if noted is None:
        return None
    num_there, spool_end = _lines_behind(folder, attempt, noted.spool_end)
    try:
        log = folder.log.open("rb")
    except OSError as error:
        raise_if_blind(error)
        return None
    with log:
        position = _behind_lines(log, noted.log_end, num_there)
        size = os.fstat(log.fileno()).st_size
        begin = max(position, size - _MAX_BYTES)
        data = os.pread(log.fileno(), max(0, size - begin), begin)
    lines = LogLevels(folder.log_levels, begin, size).lines(data, begin)
    if begin > position:
        lines[0] = LogLine(f"[{begin - position} bytes of log.txt are left out here]")
    return LastLines(lines, LogSent(begin, spool_end))


def _lines_behind(folder: RunFolder, attempt: int, offset: int) -> tuple[int, int]:
    """Return how many lines are in the spool behind an offset, and the end of its last whole record."""
    num_lines = 0
    with SpoolReader(folder.spool(attempt), offset) as spool:
        while records := spool.read():
            for record in records:
                if events.recognise(record.payload).kind == "log":
                    num_lines += len(events.decode(record.payload).log.lines)
        return num_lines, spool.offset


def _behind_lines(log: BinaryIO, offset: int, num_lines: int) -> int:
    """Return where in the log some lines end that begin at an offset."""
    while num_lines and (data := os.pread(log.fileno(), _READ_BYTES, offset)):
        end = 0
        while num_lines and (found := data.find(b"\n", end)) >= 0:
            end = found + 1
            num_lines -= 1
        offset += end if not num_lines else len(data)
    return offset
