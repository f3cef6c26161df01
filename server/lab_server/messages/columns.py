"""Metrics by columns: what the tracker measured, as a Metrics message."""

from __future__ import annotations

import dataclasses
import itertools
import operator
import sys
from array import array
from collections.abc import Iterator, Sequence
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


def split(
    columns: Sequence[Column], max_bytes: int, max_step_bytes: int
) -> Iterator[Sequence[Column]]:
    """Yield the columns in parts of some steps each, as many as about max_bytes take.

    A step's metrics stay together, unless they alone would take more than max_step_bytes.
    """
    size = _size(columns)
    if size <= max_bytes:
        yield columns
        return
    steps = columns[0].steps
    if len(steps) > 1 and _is_ascending(steps) and all(c.steps == steps for c in columns):
        num = max(1, len(steps) * max_bytes // size)
        for start in range(0, len(steps), num):
            end = start + num
            part = [_Slice(c.name, c.steps[start:end], c.values[start:end]) for c in columns]
            yield from split(part, max_bytes, max_step_bytes)
        return
    halves: tuple[Sequence[Column], Sequence[Column]]
    all_steps = sorted({step for column in columns for step in column.steps})
    if len(all_steps) > 1:
        middle = all_steps[len(all_steps) // 2]
        halves = (
            [_where(column, [step < middle for step in column.steps]) for column in columns],
            [_where(column, [step >= middle for step in column.steps]) for column in columns],
        )
    elif len(columns) > 1 and size > max_step_bytes:
        halves = columns[: len(columns) // 2], columns[len(columns) // 2 :]
    else:
        yield columns
        return
    for half in halves:
        yield from split([c for c in half if len(c.steps)], max_bytes, max_step_bytes)


def _size(columns: Sequence[Column]) -> int:
    # a step takes up to 10 bytes, a value 8, its row up to 5
    return sum(24 * len(column.steps) + len(column.name) + 16 for column in columns)


def _where(column: Column, mask: Sequence[bool]) -> _Slice:
    return _Slice(
        column.name,
        [step for step, keep in zip(column.steps, mask, strict=True) if keep],
        [value for value, keep in zip(column.values, mask, strict=True) if keep],
    )
