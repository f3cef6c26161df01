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
    deadline = time.monotonic() + _WAIT_S
    while (fd := try_to_lock(path)) < 0:
        if time.monotonic() > deadline:
            folder = os.path.dirname(path)
            raise StoreError(f"another server is using {folder}; stop it, or choose another home")
        time.sleep(0.02)
    return fd


def try_to_lock(path: Path | str) -> int:
    """Take a lock if nobody has it; return -1 if somebody has.

    Raises:
        StoreError: If the file cannot be made.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"the store cannot be opened: {error}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return -1
    return fd
