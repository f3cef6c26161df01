"""Processes as /proc describes them, and a signal to exactly one.

What says that there is no process looks at /proc, and raises an OSError where it has no file descriptor to look with.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container, Iterator
from dataclasses import dataclass

from lab_server.descriptors import raise_if_blind
from lab_server.model.run import TrainerProcess


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Fields of /proc/PID/stat; numbers as in proc(5)."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int
    cpu_ticks: int
    num_pages: int
    environ_start: int
    environ_end: int

    @property
    def is_alive(self) -> bool:
        """False for a zombie: it has exited, and its parent has not read its status."""
        return self.state not in "ZXx"


def stat(pid: int, in_sessions: Container[int] | None = None) -> ProcessStat | None:
    """Return what /proc says of a process, None without one, or when it is in another session."""
    try:
        # not Path: it takes longer than the kernel
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise_if_blind(error)
        return None
    try:
        text = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    # The name stands in parentheses and may itself hold parentheses and blanks.
    fields = text[text.rindex(b")") + 2 :].split()
    session = int(fields[3])
    if in_sessions is not None and session not in in_sessions:
        return None
    return ProcessStat(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=session,
        start_ticks=int(fields[19]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        num_pages=int(fields[21]),
        environ_start=int(fields[47]),
        environ_end=int(fields[48]),
    )


def identify(pid: int) -> TrainerProcess | None:
    """Return a process with what tells it from a later one of the same pid."""
    found = stat(pid)
    return None if found is None else TrainerProcess(pid, found.start_ticks)


def is_alive(process: TrainerProcess) -> bool:
    """True while the process itself runs."""
    return find(process) is not None


def find(process: TrainerProcess) -> ProcessStat | None:
    """Return what /proc says of a process while it itself runs, else None."""
    found = stat(process.pid)
    is_it = found is not None and found.is_alive and found.start_ticks == process.start_ticks
    return found if is_it else None


def send_signal(found: ProcessStat, number: signal.Signals) -> None:
    """Signal exactly this process: a pidfd, checked, cannot meet a reused pid."""
    try:
        fd = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return
    try:
        now = stat(found.pid)
        if now is not None and now.start_ticks == found.start_ticks:
            signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def all_processes(in_sessions: Container[int] | None = None) -> Iterator[ProcessStat]:
    """Yield every process, zombies too, or those of some sessions."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = stat(int(name), in_sessions)
            if found is not None:
                yield found
