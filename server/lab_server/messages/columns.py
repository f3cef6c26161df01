"""Metrics by columns: what the tracker measured, as a Metrics message."""

from __future__ import annotations

import dataclasses
import itertools
import operator
import sys
from array import array
from collections.abc import Sequence
from typing import Final, Protocol

from lab_rpc.v1 import event_pb2
from lab_server.messages import wire

_TAG_COLUMN: Final = wire.tag(
    event_pb2.Metrics.DESCRIPTOR.fields_by_name["columns"].number, wire.BYTES
)
_TAG_VALUES: Final = wire.tag(
    event_pb2.MetricColumn.DESCRIPTOR.fields_by_name["values"].number, wire.BYTES
)


class Column(Protocol):
    """What `encode_metrics` needs of a scalar column of lab_core.writers."""

    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> Sequence[int]: ...
    @property
    def values(self) -> Sequence[float]: ...


def encode_columns(columns: Sequence[Column]) -> bytes:
    """Return the columns, of which none is empty, as an encoded Metrics message.

    Doubles are copied as they lie in memory, which is their wire format.
    """
    steps: Sequence[int] = columns[0].steps
    is_regular = all(column.steps == steps for column in columns) and _is_ascending(steps)
    rows_of_steps: dict[int, int] = {}
    if not is_regular:
        steps = sorted({step for column in columns for step in column.steps})
        rows_of_steps = {step: row for row, step in enumerate(steps)}
    parts = [event_pb2.Metrics(steps=steps).SerializeToString()]
    for column in columns:
        message = event_pb2.MetricColumn(name=wire.text_of(column.name))
        if not is_regular:
            rows = [rows_of_steps[step] for step in column.steps]
            if len(rows) != len(steps) or not _is_ascending(rows):
                message.rows.extend(rows)
        doubles = array("d", column.values)
        if sys.byteorder == "big":
            doubles.byteswap()
        body = message.SerializeToString() + wire.message(_TAG_VALUES, doubles.tobytes())
        parts.append(wire.message(_TAG_COLUMN, body))
    return b"".join(parts)


def _is_ascending(numbers: Sequence[int]) -> bool:
    return all(map(operator.lt, numbers, itertools.islice(numbers, 1, None)))


@dataclasses.dataclass(frozen=True, slots=True)
class _Slice:
    name: str
    steps: Sequence[int]
    values: Sequence[float]


def halves(columns: Sequence[Column]) -> tuple[list[Column], list[Column]] | None:
    """Split by steps, so that a step's metrics stay together; by columns when there is one step."""
    steps = sorted({step for column in columns for step in column.steps})
    if len(steps) > 1:
        middle = steps[len(steps) // 2]
        return (
            [_where(column, [step < middle for step in column.steps]) for column in columns],
            [_where(column, [step >= middle for step in column.steps]) for column in columns],
        )
    if len(columns) > 1:
        half = len(columns) // 2
        return list(columns[:half]), list(columns[half:])
    return None


def _where(column: Column, mask: Sequence[bool]) -> _Slice:
    return _Slice(
        column.name,
        [step for step, keep in zip(column.steps, mask, strict=True) if keep],
        [value for value, keep in zip(column.values, mask, strict=True) if keep],
    )
