"""What a run uses of its machine, over its life, as `lab status` shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lab_client.history import Series
from lab_client.metric_names import SYSTEM_PREFIX
from lab_client.runs import RunInfo
from lab_client.sync.client import Client


def usage_of(client: Client, info: RunInfo) -> list[tuple[str, str]]:
    """Return a label and a text for each thing that a run uses; nothing when none is recorded."""
    if not any(name.startswith(SYSTEM_PREFIX) for name in info.metrics):
        return []
    return usage_lines(client.query_metrics(info.id, [f"{SYSTEM_PREFIX}*"]))


def usage_lines(history: Mapping[str, Series]) -> list[tuple[str, str]]:
    """Return a label and a text for each of the metrics that are known, in a fixed order."""
    return [
        (label, f"mean {write(series.mean)}, max {write(series.max_value)}")
        for name, label, write in _KNOWN
        if (series := history.get(SYSTEM_PREFIX + name)) is not None
    ]


def _cores(value: float) -> str:
    return f"{value:.2f} cores"


def _share(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else "?"


def _memory(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


_KNOWN: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("cpu_cores", "CPU", _cores),
    ("memory_bytes", "memory", _memory),
    ("gpu_busy", "GPU busy", _share),
    ("gpu_memory_bytes", "GPU memory", _memory),
)
