"""Gauges of the machine's GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

from prometheus_client.core import GaugeMetricFamily, Metric

from lab_server.executors.gpu_readings import Devices

# in the order of a reading's fields
_GAUGES = (
    ("lab_device_utilization_ratio", "Fraction of time in which the GPU was busy."),
    ("lab_device_memory_used_bytes", "GPU memory in use."),
    ("lab_device_memory_size_bytes", "Total GPU memory."),
    ("lab_device_temperature_celsius", "GPU temperature."),
    ("lab_device_power_watts", "GPU power draw."),
)


def collect_gpus(devices: Devices) -> Iterator[Metric]:
    """Yield the families, empty ones on a machine without GPUs."""
    families = [GaugeMetricFamily(name, text, labels=("device",)) for name, text in _GAUGES]
    for reading in devices.readings():
        device, *values = astuple(reading)
        for family, value in zip(families, values, strict=True):
            if value is not None:
                family.add_metric((device,), value)
    yield from families
