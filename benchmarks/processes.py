"""What processes and their threads have used of the processor, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, its ended threads included."""
    return _cpu_s(Path(f"/proc/{pid}/stat"))


def thread_cpu_s(pid: int, prefix: str) -> float:
    """Return the CPU seconds of a process's living threads whose name begins with `prefix`."""
    return sum(
        _cpu_s(task / "stat")
        for task in Path(f"/proc/{pid}/task").iterdir()
        if (task / "comm").read_text().startswith(prefix)
    )


def memory_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu_s(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S
