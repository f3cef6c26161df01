"""Threads to compute with: no more than the CPUs that this process may use.

torch starts a thread for each CPU that it sees. In a container with a quota, or as one of several tasks of
a Slurm job, that is more than may run, and they wait for each other.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from pathlib import Path

__all__ = ["limit_threads", "num_usable_cpus"]

_SET_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SLURM = "SLURM_CPUS_PER_TASK"


def limit_threads() -> int | None:
    """Lower torch's number of threads to that of the usable CPUs, unless the environment sets it.

    Returns:
        The new number of threads, None if nothing was changed.
    """
    torch = sys.modules.get("torch")
    if torch is None or any(name in os.environ for name in _SET_BY_USER):
        return None
    num = num_usable_cpus()
    if num >= torch.get_num_threads():
        return None
    torch.set_num_threads(num)
    return num


def num_usable_cpus(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many CPUs the affinity, the quotas of cgroups and Slurm leave this process.

    Args:
        cgroups: where the file system of cgroups is mounted.
    """
    num = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [float(num), *_quotas(cgroups)]
    if os.environ.get(_SLURM, "").isdecimal():
        limits.append(float(os.environ[_SLURM]))
    return max(1, math.ceil(min(limits)))


def _quotas(cgroups: Path) -> list[float]:
    """Return the limits of this process's group and of those around it, in CPUs."""
    own = "/"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                own = line.removeprefix("0::")
    folder = cgroups / own.lstrip("/")
    found = []
    for group in (folder, *folder.parents):
        if not group.is_relative_to(cgroups):
            break
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            quota, period = (group / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))
    with contextlib.suppress(OSError, ValueError):
        quota = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        if int(quota) > 0:  # -1 for none
            found.append(int(quota) / int(period))
    return found
