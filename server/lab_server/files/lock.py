"""The lock that keeps a second server out of a folder or a file."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from lab_server.errors import StoreError

_WAIT_S: Final = 5.0


def lock(path: Path | str) -> int:
    """Take a lock, and return the file descriptor that holds it until it is closed.

    A server that was just killed may hold it a moment longer, so it is waited for.

    Raises:
        StoreError: If another process has it, or the file cannot be made.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"the store cannot be opened: {error}") from error
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > deadline:
                os.close(fd)
                folder = os.path.dirname(path)
                raise StoreError(
                    f"another server is using {folder}; stop it, or choose another home"
                ) from error
            time.sleep(0.02)
        else:
            return fd
