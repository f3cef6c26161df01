"""What processes and their threads have used of the processor, from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path

_OF_ALL_THREADS = (
    2  # Linux's clocks of processes: what they have run, in the nanoseconds of the scheduler
)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, its ended threads included."""
    return time.clock_gettime((~pid << 3) | _OF_ALL_THREADS)


def thread_cpu_s(pid: int, prefix: str) -> float:
    """Return the CPU seconds of a process's living threads whose name begins with `prefix`."""
    return sum(
        int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
        if (task / "comm").read_text().startswith(prefix)
    )


def core_wait_s(pid: int) -> float:
    """Return for how long a process's living threads were able to run and had no core."""
    return sum(
        int((task / "schedstat").read_text().split()[1]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def memory_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
