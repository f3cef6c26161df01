"""Gauges of the machine's GPUs, through NVML where there is a driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

_LABELS = ("device",)


class Devices:
    """Reads NVML, which needs neither torch nor a CUDA context; without a driver there are no series."""

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
                ("lab_device_utilization_ratio", "Fraction of time in which the GPU was busy."),
                ("lab_device_memory_used_bytes", "GPU memory in use."),
                ("lab_device_memory_size_bytes", "Total GPU memory."),
                ("lab_device_temperature_celsius", "GPU temperature."),
                ("lab_device_power_watts", "GPU power draw."),
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
            except nvml.NVMLError:  # not every GPU reports everything
                values.append(None)
        return values
