"""What a trainer printed last and did not send before it died."""

from __future__ import annotations

import os

from lab_server.files.log_levels import LogLevels
from lab_server.files.run_folder import RunFolder
from lab_server.model.log_level import LogLine

_MAX_BYTES = 256 << 10


def unsent_log_lines(folder: RunFolder, attempt: int) -> tuple[list[LogLine], int]:
    """Return the lines of the log that are not in the attempt's spool, and the log's size.

    Only the last ones when there are very many. Call it when no process of the attempt is left.
    """
    try:
        position = int.from_bytes(folder.log_position(attempt).read_bytes(), "little")
        size = folder.log.stat().st_size
    except OSError:
        return [], 0
    begin = max(position, size - _MAX_BYTES)
    if begin >= size:
        return [], size
    with folder.log.open("rb") as file:
        data = os.pread(file.fileno(), size - begin, begin)
    lines = LogLevels(folder.log_levels, begin, size).lines(data, begin)
    if begin > position:
        lines[0] = LogLine(f"[{begin - position} bytes of log.txt are left out here]")
    return lines, size
