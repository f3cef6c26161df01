"""What a run uses of its machine while it trains, as metrics whose names begin with `system.`."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Final

from lab_rpc.metric_names import SYSTEM_PREFIX
from lab_server.processes.family import own_use

CPU_CORES: Final = f"{SYSTEM_PREFIX}cpu_cores"
"""Cores that the trainer and its descendants kept busy since the last reading."""

MEMORY_BYTES: Final = f"{SYSTEM_PREFIX}memory_bytes"
"""Their resident memory."""

GPU_BUSY: Final = f"{SYSTEM_PREFIX}gpu_busy"
"""Fraction of time in which the run's GPU was busy, whoever used it."""

GPU_MEMORY_BYTES: Final = f"{SYSTEM_PREFIX}gpu_memory_bytes"
"""Memory in use on the run's GPU, whoever uses it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one metric, as `messages.events.encode_metrics` takes it."""

    name: str
    steps: tuple[int]
    values: tuple[float]


class Usage:
    """Reads what this process uses, at most once an interval and once a step. For one thread.

    Args:
        interval_s: how long from one reading to the next; 0 for none at all.
        device: of the run, such as "cuda:0"; the trainer sees it alone.
        now: the present, in seconds of a clock that `read` is given, too.
        step: the present step, at which an earlier attempt may have had a reading.
    """

    def __init__(self, interval_s: float, device: str, now: float, step: int = 0) -> None:
        self._interval_s = interval_s
        self._gpu = _Gpu() if interval_s and device.startswith("cuda:") else None
        self._at = now
        self._cpu_s = own_use().cpu_s if interval_s else 0.0
        self._step = step

    def read(self, now: float, step: int) -> list[Reading]:
        """Return the readings at a step, none when it is not time for them.

        A step that takes longer than the interval has one reading: CPU is the mean of all its time.
        """
        if not self._interval_s or now - self._at < self._interval_s or step == self._step:
            return []
        use = own_use()
        values = {
            # a process that was killed and not waited for takes its time with it
            CPU_CORES: max(0.0, use.cpu_s - self._cpu_s) / (now - self._at),
            MEMORY_BYTES: float(use.memory_bytes),
        }
        if self._gpu is not None:
            values |= self._gpu.read()
        self._at, self._cpu_s, self._step = now, use.cpu_s, step
        return [Reading(name, (step,), (value,)) for name, value in values.items()]


class _Gpu:
    """The GPU that this process sees, through NVML, which needs no CUDA context."""

    def __init__(self) -> None:
        self._nvml: Any = None
        with contextlib.suppress(Exception):  # NVML's own errors, an absent or foreign library
            import pynvml

            pynvml.nvmlInit()
            name = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
            self._handle = (
                pynvml.nvmlDeviceGetHandleByIndex(int(name))
                if name.isdecimal()
                else pynvml.nvmlDeviceGetHandleByUUID(name)
            )
            self._nvml = pynvml

    def read(self) -> dict[str, float]:
        """Return what the GPU reports; not every one reports everything."""
        found: dict[str, float] = {}
        if self._nvml is None:
            return found
        with contextlib.suppress(self._nvml.NVMLError):
            found[GPU_BUSY] = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
        with contextlib.suppress(self._nvml.NVMLError):
            found[GPU_MEMORY_BYTES] = float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        return found
