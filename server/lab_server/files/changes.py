"""Waits for files to change, by Linux's inotify(7), so that nobody has to look many times a second.

Of Python's libraries for it each brings a thread, a loop or a tree of folders of its own; what is needed are two calls.
Changes by other machines, of a shared file system, are not seen, so whoever waits looks by himself now and then.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.025  # where the system has no inotify, or no more of it for this user
_IN_MODIFY: Final = 0x2
_EVENTS_BYTES: Final = 4096


class Changes:
    """Wakes a thread when one of some files is written to. A file that is not there is made.

    What it takes of the system it keeps until the process ends: `wake` may come from any thread, at any time.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log"
        >>> changes = Changes([path])
        >>> _ = path.write_text("a line")
        >>> changes.wait(60)
        True
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._inotify = _watch(paths)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        if self._inotify >= 0:
            self._poll.register(self._inotify, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """Return True when a file has changed since the last call, or may have; False after `timeout_s`."""
        is_blind = self._inotify < 0
        pause_s = min(timeout_s, _POLL_S) if is_blind else timeout_s
        for fd, _ in self._poll.poll(max(0.0, 1e3 * pause_s)):
            with contextlib.suppress(BlockingIOError):
                os.read(fd, _EVENTS_BYTES)
            is_blind = True
        return is_blind

    def wake(self) -> None:
        """Let `wait` return now, from any thread."""
        os.eventfd_write(self._wake, 1)


def _watch(paths: Iterable[Path]) -> int:
    """Return an inotify descriptor for the files, -1 where it cannot be had for all of them."""
    libc = ctypes.CDLL(None)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd >= 0 and not all(_add(libc, fd, path) for path in paths):
        os.close(fd)
        return -1
    return fd


def _add(libc: ctypes.CDLL, fd: int, path: Path) -> bool:
    with contextlib.suppress(OSError):  # a full disk, say: then it has no watch either
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))
    is_added: bool = libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY) >= 0
    return is_added
