"""How trainers ended, as the processes that forked them tell, from a trainer's launch until it is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

from lab_server.model.launch import DISK_FULL, EXIT_DISK_FULL, EXIT_INTERRUPTED


class ExitStatuses:
    """Wait statuses by pid. All its state belongs to the event loop's thread.

    What is told of other processes is not kept: of a trainer that came too late to get its attempt, of orphans.
    """

    def __init__(self) -> None:
        self._expected: dict[int, asyncio.Future[int]] = {}
        self._num_launching = 0
        self._early: dict[int, int] = {}

    def __len__(self) -> int:
        """Return of how many processes something is kept."""
        return len(self._expected) + len(self._early)

    @contextlib.contextmanager
    def launching(self) -> Iterator[None]:
        """Keep all that is told meanwhile: it may be of a trainer whose pid is not known yet."""
        self._num_launching += 1
        try:
            yield
        finally:
            self._num_launching -= 1
            if not self._num_launching:
                self._early.clear()

    def expect(self, pid: int) -> None:
        """Keep the status of a trainer, which may have come already."""
        if pid not in self._expected:
            future = self._expected[pid] = asyncio.get_running_loop().create_future()
            if pid in self._early:
                future.set_result(self._early.pop(pid))

    def note(self, pid: int, status: int) -> None:
        """Take note that a process has ended."""
        future = self._expected.get(pid)
        if future is not None and not future.done():
            future.set_result(status)
        elif future is None and self._num_launching:
            self._early[pid] = status

    def get(self, pid: int) -> asyncio.Future[int] | None:
        """Return what becomes the status of a trainer; None when it is not expected."""
        return self._expected.get(pid)

    def forget(self, pid: int) -> None:
        """Keep the status no longer."""
        self._expected.pop(pid, None)


def describe(status: int) -> str:
    """Return what a wait status says, as a clause."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        hint = "; the machine may have run out of memory" if number == signal.SIGKILL else ""
        return f"it was killed by {name}{hint}"
    if os.WEXITSTATUS(status) == EXIT_DISK_FULL:
        return DISK_FULL
    if os.WEXITSTATUS(status) == EXIT_INTERRUPTED:
        return "it was sent SIGTERM, saved a checkpoint and exited"
    return f"it exited with status {os.WEXITSTATUS(status)}"
