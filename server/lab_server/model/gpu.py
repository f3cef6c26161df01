"""What GPUs do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuReading:
    """A GPU at a moment; None is what it does not report.

    Attributes:
        device: "cuda:0".
        utilization: the fraction of time in which it was busy.
        power_watts: what it draws.
    """

    device: str
    utilization: float | None
    memory_used_bytes: float | None
    memory_size_bytes: float | None
    temperature_celsius: float | None
    power_watts: float | None
