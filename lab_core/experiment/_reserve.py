"""Room on the disk, so that a full one still takes the record of how a run ended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_SIZE_BYTES = 64 << 10


class Reserve:
    """A file that takes room, and gives it up when it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Take the room; a disk that has none is told of by what needs it."""
        with contextlib.suppress(OSError), self._path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, _SIZE_BYTES)
            else:
                file.write(bytes(_SIZE_BYTES))

    def release(self) -> None:
        """Give it up; again is fine."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
