"""The machine's GPUs: how many there are, and their gauges, through NVML where there is a driver."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from lab_server.executors.protocol import Slot

_LABELS = ("device",)


def default_slots() -> str:
    """Return a slot for every GPU that a trainer would see, or one on the CPU."""
    return ",".join(f"cuda:{index}" for index in range(num_gpus())) or "cpu:1"


def missing_gpus(slots: Sequence[Slot]) -> str:
    """Return a clause on the slots whose GPU is not there, "" when all are; asks no driver for CPU slots."""
    wanted = sorted({int(s.device[5:]) for s in slots if s.device.startswith("cuda:")})
    if not wanted:
        return ""
    num = num_gpus()
    missing = [f"cuda:{index}" for index in wanted if index >= num]
    if not missing:
        return ""
    there = ("no GPU", "one GPU, cuda:0")[num] if num < 2 else f"GPUs 0 to {num - 1}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    because = "" if hidden is None else f" with CUDA_VISIBLE_DEVICES={hidden!r}"
    return f"names {', '.join(missing)}, but this machine has {there}{because}"


def num_gpus() -> int:
    """Return how many GPUs a trainer would see; as CUDA does, numbers count up to the first wrong one."""
    num = _num_installed()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not num:
        return num
    num_visible = 0
    for part in visible.split(","):
        name = part.strip()
        # else it is a name, of a GPU or of a part of one
        if not name or name.startswith("-") or (name.isdecimal() and int(name) >= num):
            break
        num_visible += 1
    return num_visible


def _num_installed() -> int:
    with contextlib.suppress(Exception):  # as in `Devices.open`
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    # a container may have the GPUs without the library that counts them
    return len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal()])


class Devices:
    """Reads NVML, which needs neither torch nor a CUDA context; no driver, no series."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []

    def open(self) -> None:
        """Load the driver's library, if there is one; takes up to a second on some machines."""
        with contextlib.suppress(Exception):  # NVML's own errors, an absent or foreign library
            import pynvml

            pynvml.nvmlInit()
            self._handles = [
                pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())
            ]
            self._nvml = pynvml

    def collect(self) -> Iterator[Metric]:
        """Yield the families, empty ones on a machine without GPUs."""
        families = [
            GaugeMetricFamily(name, text, labels=_LABELS)
            for name, text in (
                ("lab_device_utilization_ratio", "Part of the time in which the GPU computed."),
                ("lab_device_memory_used_bytes", "Memory of the GPU that is in use."),
                ("lab_device_memory_size_bytes", "Memory of the GPU."),
                ("lab_device_temperature_celsius", "Temperature of the GPU."),
                ("lab_device_power_watts", "Power that the GPU draws."),
            )
        ]
        for index, handle in enumerate(self._handles):
            for family, value in zip(families, self._read(handle), strict=True):
                if value is not None:
                    family.add_metric((f"cuda:{index}",), value)
        yield from families

    def _read(self, handle: Any) -> list[float | None]:
        nvml = self._nvml
        readers = (
            lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).used),
            lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        )
        values: list[float | None] = []
        for read in readers:
            try:
                values.append(read())
            except nvml.NVMLError:  # not every GPU tells everything
                values.append(None)
        return values
