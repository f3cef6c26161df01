"""The smallest and the largest finite value of metrics, kept up to date event by event."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from lab_rpc.v1 import event_pb2
from lab_server.messages import wire

Extremes = Mapping[str, tuple[float, float]]

_MANY: Final = 1024
_VALUES: Final = event_pb2.MetricColumn.DESCRIPTOR.fields_by_name["values"].number


def with_columns(known: Extremes, columns: Iterable[event_pb2.MetricColumn]) -> Extremes:
    """Return what the extremes are after some more values."""
    found = dict(known)
    for column in columns:
        low, high = _of_many(column) if len(column.values) >= _MANY else _of_few(column)
        if low <= high:
            old = found.get(column.name, (low, high))
            found[column.name] = min(low, old[0]), max(high, old[1])
    return found


def _of_few(column: event_pb2.MetricColumn) -> tuple[float, float]:
    finite = [value for value in column.values if math.isfinite(value)]
    return min(finite, default=math.inf), max(finite, default=-math.inf)


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
