"""The smallest and the largest finite value of metrics, kept up to date event by event."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from lab_rpc.v1 import event_pb2
from lab_server.messages import wire

Extremes = Mapping[str, tuple[float, float]]

_MANY: Final = 1024
_NONE: Final = (math.inf, -math.inf)
_VALUES: Final = event_pb2.MetricColumn.DESCRIPTOR.fields_by_name["values"].number


def merged(known: Extremes, more: Extremes) -> Extremes:
    """Return the extremes of both."""
    found = dict(known)
    for name, (low, high) in more.items():
        old = found.get(name, _NONE)
        found[name] = min(low, old[0]), max(high, old[1])
    return found


def with_columns(known: Extremes, columns: Iterable[event_pb2.MetricColumn]) -> Extremes:
    """Return what the extremes are after some more values."""
    found = dict(known)
    for column in columns:
        name, values = column.name, column.values
        low, high = old = found.get(name, _NONE)
        for value in values if len(values) < _MANY else _of_many(column):
            # most values lie between those that are known
            if not low <= value <= high and math.isfinite(value):
                low = value if value < low else low
                high = value if value > high else high
        if (low, high) != old:
            found[name] = low, high
    return found


def _of_many(column: event_pb2.MetricColumn) -> tuple[float, float]:
    """Return the extremes of a column without making a number of Python of each value."""
    import numpy as np

    payload = column.SerializeToString()
    start, end = next(
        wire.bytes_at(payload, position)
        for number, position in wire.fields(payload)
        if number == _VALUES
    )
    values = np.frombuffer(payload[start:end], "<f8")
    finite = values[np.isfinite(values)]
    if not len(finite):
        return math.inf, -math.inf
    return float(finite.min()), float(finite.max())
