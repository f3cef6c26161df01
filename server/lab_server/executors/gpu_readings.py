"""What the machine's GPUs do just now, through NVML where there is a driver."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from lab_server.model.gpu import GpuReading


class Devices:
    """Reads NVML, which needs neither torch nor a CUDA context; without a driver there are no readings."""

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

    def readings(self) -> Sequence[GpuReading]:
        """Return one for each GPU."""
        return [self._read(f"cuda:{index}", handle) for index, handle in enumerate(self._handles)]

    def _read(self, device: str, handle: Any) -> GpuReading:
        nvml = self._nvml

        def known(read: Callable[[], float]) -> float | None:
            try:
                return read()
            except nvml.NVMLError:  # not every GPU reports everything
                return None

        return GpuReading(
            device,
            known(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
            known(lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).used)),
            known(lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).total)),
            known(lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
            known(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        )
