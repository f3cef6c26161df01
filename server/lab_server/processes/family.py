"""What a process and its descendants use: CPU time and memory, by /proc."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab_server.processes.proc import ProcessStat, stat

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class FamilyUse:
    """What this process and its descendants use.

    Attributes:
        cpu_s: CPU time since they began, of those that ended and were waited for, too.
        memory_bytes: resident now; what processes share counts in each.
    """

    cpu_s: float
    memory_bytes: int


def own_use() -> FamilyUse:
    """Return what this process and its living descendants use.

    Reads a file a thread and two a process, and not all of /proc: a machine may have thousands.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s, num_pages = ended.ru_utime + ended.ru_stime, 0
    for member in _family(os.getpid()):
        cpu_s += member.cpu_ticks / _TICKS_PER_S
        num_pages += member.num_pages
    return FamilyUse(cpu_s, num_pages * _PAGE_BYTES)


def _family(pid: int) -> Iterator[ProcessStat]:
    # it ended just now, or the kernel does not list children, or there is no file descriptor to look with
    with contextlib.suppress(OSError):
        found = stat(pid)
        if found is None:
            return
        yield found
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_bytes()
            for child in children.split():
                yield from _family(int(child))
