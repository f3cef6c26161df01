"""Disk space of the server's own, so that on a full disk a run can still be deleted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

SIZE_BYTES: Final = 8 << 20
_LEAST_BYTES: Final = 256 << 10


class Reserve:
    """A file that takes space, and frees it when it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> None:
        """Take the space, or as much of it as the disk has left."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            there = os.fstat(fd).st_size
            size = SIZE_BYTES
            while size >= max(_LEAST_BYTES, there + 1):
                try:
                    os.posix_fallocate(fd, 0, size)
                except OSError:
                    os.ftruncate(fd, there)
                    size //= 2
                else:
                    return
        finally:
            os.close(fd)

    def release(self) -> bool:
        """Free the space; return False when there is none to free."""
        with contextlib.suppress(OSError):
            is_there = self._path.stat().st_size > 0
            self._path.unlink()
            return is_there
        return False
