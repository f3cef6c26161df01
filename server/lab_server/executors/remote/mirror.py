"""A remote attempt's spool, as it arrives: a file that grows at its end, and is read as a local one."""

from __future__ import annotations

import os
from pathlib import Path

from lab_server.errors import InvalidState
from lab_server.files.bell import Bell

MAX_APPEND_BYTES = 1 << 20


class Mirror:
    """Appends what an agent ships, each byte at its offset, and once.

    The file's length is all there is to know of what arrived, so nothing else can disagree with it. A byte
    that a power loss takes from the file is asked for again: the agent keeps its spool to the end. What the store
    has already need not come again: there the file may have a hole, which nobody reads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bell = Bell(path)

    @property
    def size_bytes(self) -> int:
        """How much of the spool is here."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def extend(self, size_bytes: int) -> None:
        """Count so many bytes as here; their events are in the store.

        Raises:
            OSError: If the disk takes no more.
        """
        if self.size_bytes < size_bytes:
            with self._path.open("ab") as file:
                file.truncate(size_bytes)

    def append(self, offset: int, data: bytes) -> int:
        """Append bytes that begin at an offset, without those that are here, and return the new size.

        Raises:
            InvalidState: If the bytes before the offset are not here.
            OSError: If the disk takes no more; the file is then as it was before.
        """
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if offset > size:
                raise InvalidState(
                    f"the bytes from {offset} on cannot follow: the spool has {size} bytes here"
                )
            rest = memoryview(data)[size - offset :]
            end = size + len(rest)
            try:
                while rest:
                    rest = rest[os.write(fd, rest) :]
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        self._bell.ring()
        return end
