"""What many events with metrics come to, without decoding each: those of one length are mostly laid out alike.

One event of each length is decoded by hand. Others, whose tags, lengths and names are the same bytes at the same
places, have their steps and values there, too: so numpy finds them in all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from lab_rpc.v1 import event_pb2
from lab_server.messages import wire

_EVENT: Final = event_pb2.RunEvent.DESCRIPTOR.fields_by_name
_METRICS: Final = event_pb2.Metrics.DESCRIPTOR.fields_by_name
_COLUMN: Final = event_pb2.MetricColumn.DESCRIPTOR.fields_by_name
_TIME: Final = wire.tag(_EVENT["time_unix_ns"].number, wire.VARINT)
_KIND: Final = wire.tag(_EVENT["metrics"].number, wire.BYTES)
_STEPS: Final = wire.tag(_METRICS["steps"].number, wire.BYTES)
_COLUMNS: Final = wire.tag(_METRICS["columns"].number, wire.BYTES)
_NAME: Final = wire.tag(_COLUMN["name"].number, wire.BYTES)
_VALUES: Final = wire.tag(_COLUMN["values"].number, wire.BYTES)
_ROWS: Final = wire.tag(_COLUMN["rows"].number, wire.BYTES)

_MAX_LAYOUTS: Final = 4  # of one length
_MAX_STEP_BYTES: Final = 8  # more would not fit an int64 of numpy's
_DOUBLE_BYTES: Final = 8
_MORE: Final = 0x80  # in each byte of a varint but its last

Bytes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Found:
    """What events with metrics come to.

    Attributes:
        step: the last step of any.
        last: of each metric the index of its last event, and its value there.
        extremes: the least and the largest finite value of each metric that has one.
        others: the indices of events that were not read: laid out as no others are.
    """

    step: int = 0
    last: dict[str, tuple[int, float]] = field(default_factory=dict)
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)


def find(payloads: Sequence[bytes]) -> Found:
    """Read encoded events of the kind "metrics"."""
    by_length: dict[int, list[int]] = {}
    for index, payload in enumerate(payloads):
        by_length.setdefault(len(payload), []).append(index)
    found = Found()
    for length, same in by_length.items():
        data = b"".join([payloads[index] for index in same])
        rows, indices = np.frombuffer(data, np.uint8).reshape(-1, length), np.array(same)
        for _ in range(_MAX_LAYOUTS):
            layout = _layout_if_any(payloads[indices[0]]) if len(indices) > 1 else None
            if layout is None:
                break
            is_alike = layout.is_of(rows)
            if is_alike.all():
                layout.read(rows, indices, found)
                indices = indices[:0]
                break
            layout.read(rows[is_alike], indices[is_alike], found)
            rows, indices = rows[~is_alike], indices[~is_alike]
        found.others += indices.tolist()
    return found


@dataclass(slots=True)
class _Layout:
    """Where things are in an event.

    Attributes:
        places: of the bytes that are the same in all that are laid out alike, or of which some bits are.
        bits: which bits of each of them.
        last_step: where the varint of the last step begins and ends.
        columns: of each metric the name, and where its values begin and end.
    """

    places: npt.NDArray[np.intp]
    bits: Bytes
    last_step: tuple[int, int]
    columns: list[tuple[str, int, int]]

    def is_of(self, rows: Bytes) -> npt.NDArray[np.bool_]:
        """Return which events, one a row, have this layout, as the first has."""
        bits = rows[:, self.places] & self.bits
        is_alike: npt.NDArray[np.bool_] = (bits == bits[0]).all(axis=1)
        return is_alike

    def read(self, rows: Bytes, indices: npt.NDArray[np.int64], found: Found) -> None:
        """Add what events of this layout come to."""
        start, end = self.last_step
        bits = (rows[:, start:end] & ~np.uint8(_MORE)).astype(np.int64)
        steps = (bits << (7 * np.arange(end - start))).sum(axis=1)
        found.step = max(found.step, int(steps.max()))
        index = int(indices[-1])
        for name, begin, stop in self.columns:
            values = np.ascontiguousarray(rows[:, begin:stop]).view("<f8")
            if index >= found.last.get(name, (-1, 0.0))[0]:
                found.last[name] = index, float(values[-1, -1])
            low, high = float(values.min()), float(values.max())
            if not np.isfinite(low + high):  # NaN or an infinity among them, or beyond a double
                finite = values[np.isfinite(values)]
                if not len(finite):
                    continue
                low, high = float(finite.min()), float(finite.max())
            if name in found.extremes:
                low, high = min(low, found.extremes[name][0]), max(high, found.extremes[name][1])
            found.extremes[name] = low, high


def _layout_if_any(payload: bytes) -> _Layout | None:
    """Return an event's layout; None where it is not as `messages.columns` writes it."""
    try:
        return _layout_of(payload)
    except (IndexError, ValueError):  # whoever decodes it says what is wrong, if anything is
        return None


def _layout_of(payload: bytes) -> _Layout | None:
    fixed = np.full(len(payload), 0xFF, np.uint8)
    parts: list[slice | tuple[str, int, int] | None] = []
    for tag, position in _tags(payload):
        if tag == _TIME:
            _free_varint(payload, position, fixed)
        elif tag == _KIND:
            start, end = wire.bytes_at(payload, position)
            parts += _parts(payload[start:end], start)
    steps = [part for part in parts if isinstance(part, slice)]
    columns = [part for part in parts if isinstance(part, tuple)]
    if None in parts or len(steps) != 1 or len({column[0] for column in columns}) < len(columns):
        return None
    fixed[steps[0]] = _MORE
    for _, begin, end in columns:
        fixed[begin:end] = 0
    first = end = steps[0].stop
    while first > steps[0].start and (first == end or payload[first - 1] & _MORE):
        first -= 1
    if not 0 < end - first <= _MAX_STEP_BYTES:
        return None
    places = np.flatnonzero(fixed)
    return _Layout(places, fixed[places], (first, end), columns)


def _parts(metrics: bytes, offset: int) -> Iterator[slice | tuple[str, int, int] | None]:
    """Yield where steps are, and columns; None for what is not as we write it."""
    for tag, position in _tags(metrics):
        begin, end = wire.bytes_at(metrics, position)
        if tag == _STEPS:
            yield slice(offset + begin, offset + end)
        elif tag == _COLUMNS:
            yield _column_of(metrics[begin:end], offset + begin)
        else:
            yield None


def _column_of(column: bytes, offset: int) -> tuple[str, int, int] | None:
    """Return a column's name, and where its values begin and end."""
    name, values = "", None
    for tag, position in _tags(column):
        if tag not in {_NAME, _VALUES, _ROWS}:
            return None
        begin, end = wire.bytes_at(column, position)
        if tag == _NAME:
            name = column[begin:end].decode()
        elif tag == _VALUES:
            if values is not None or begin == end or (end - begin) % _DOUBLE_BYTES:
                return None
            values = offset + begin, offset + end
    return (name, *values) if values is not None else None


def _tags(message: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the tag of each field, number and type in one byte, and the position after it; "" for a longer one."""
    for number, position in wire.fields(message):
        tag = message[position - 1 : position]
        yield (tag if tag[0] >> 3 == number else b""), position


def _free_varint(payload: bytes, position: int, fixed: Bytes) -> None:
    while payload[position] & _MORE:
        fixed[position] = _MORE
        position += 1
    fixed[position] = _MORE
