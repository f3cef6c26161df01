"""What each save comes to, on the training thread: for a writer that wants it before `save` returns.

A batch is made off the training thread, a moment later, and is lost with the process; a row is not. It
holds the numbers that are in the process's memory: what is still on a device would have to be waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from lab_core.tracker.indicators import Indicator, Kind, Registry
from lab_core.tracker.values import DeviceValue
from lab_core.writers.base import RowWriter
from lab_core.writers.summaries import mean

_MAX_KNOWN = 1000


class RowKeeper:
    """Passes rows to a writer. Owned by one tracker, and guarded by its lock."""

    def __init__(self, writer: RowWriter, registry: Registry) -> None:
        self._put = writer.put_row
        self._registry = registry
        self._plain: set[tuple[str, ...]] = set()  # names that are scalars, all of them
        self._windows: dict[str, deque[float | None]] = {}

    def restore(self, windows: Mapping[str, list[float]]) -> None:
        """Restore the windows of a checkpoint."""
        self._windows = {name: deque(window) for name, window in windows.items()}

    def keep(self, row: int, step: int, time: float, entries: Mapping[str, list[Any]]) -> bool:
        """Hand over what is about to be saved; return False when the writer has no room now."""
        names = tuple(entries)
        if names in self._plain:
            values = []
            for entry in entries.values():
                # the common case by far: one float for a scalar
                if len(entry) != 2 or entry[0] is not None or type(entry[1]) is not float:
                    break
                values.append(entry[1])
            else:
                return self._put(row, step, time, names, values, None)
        return self._keep_any(row, step, time, names, entries)

    def _keep_any(
        self,
        row: int,
        step: int,
        time: float,
        names: tuple[str, ...],
        entries: Mapping[str, list[Any]],
    ) -> bool:
        indicators = [self._registry.resolve(name) for name in names]
        if all(indicator.kind is Kind.SCALAR for indicator in indicators):
            if len(self._plain) >= _MAX_KNOWN:
                self._plain.clear()
            self._plain.add(names)
        points: list[tuple[str, float, int]] = []
        for name, indicator in zip(names, indicators, strict=True):
            own, *new = entries[name]
            value = self._value(name, indicator, new) if indicator.kind.is_numeric else None
            if value is not None:
                points.append((name, value, step if own is None else own))
        if not points:
            return True
        found, values, steps = zip(*points, strict=True)
        is_one_step = all(at == step for at in steps)
        return self._put(row, step, time, found, values, None if is_one_step else steps)

    def _value(self, name: str, indicator: Indicator, new: list[Any]) -> float | None:
        """Return what the aggregator will come to; None of what is still on a device."""
        # a digest is a pair of a number and what may be on a device
        parts = (value[1] if type(value) is tuple else value for value in new)
        is_here = not any(type(part) is DeviceValue for part in parts)
        if indicator.window is None:
            return mean(new) if is_here else None
        window = self._windows.get(name)
        if window is None or window.maxlen != indicator.window:
            window = self._windows[name] = deque(window or (), maxlen=indicator.window)
        for value in new:
            if type(value) is float:
                window.append(value)
            elif type(value) is DeviceValue:
                window.extend([None] * min(value.tensor.numel(), indicator.window))
            else:
                window.extend(value.ravel().tolist())
        numbers = [value for value in window if value is not None]
        return mean(numbers) if len(numbers) == len(window) else None
