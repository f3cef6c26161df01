"""How much of a run's log is in an attempt's spool: `spool/<attempt>.log`.

It is written when lines are in the spool, so it may be behind: whoever reads it looks for log events in the
spool behind where it says.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from lab_server.descriptors import raise_if_blind

_NUMBERS = struct.Struct("<QQ")
_SIZE = _NUMBERS.size + 4


@dataclass(frozen=True, slots=True)
class LogSent:
    """What of the log had been sent when the spool had some length.

    Attributes:
        log_end: the byte of the log up to which it was in the spool.
        spool_end: the spool's length then.
    """

    log_end: int
    spool_end: int

    def write(self, path: Path) -> None:
        """Write it in place of what was there: a process that is killed leaves the one or the other.

        Raises:
            OSError: If the disk takes no more.
        """
        numbers = _NUMBERS.pack(self.log_end, self.spool_end)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, numbers + zlib.crc32(numbers).to_bytes(4, "little"), 0)
        finally:
            os.close(fd)

    @classmethod
    def read(cls, path: Path) -> LogSent | None:
        """Return what is in a file, None if it is not there, or a power cut tore it.

        Raises:
            OSError: If there is no file descriptor to read it with.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise_if_blind(error)
            return None
        numbers, crc = data[: _NUMBERS.size], data[_NUMBERS.size : _SIZE]
        if len(data) < _SIZE or zlib.crc32(numbers) != int.from_bytes(crc, "little"):
            return None
        return cls(*_NUMBERS.unpack(numbers))
