"""TensorBoard's events of scalars as records, a whole table of them at once: columns, and no object for each event.

`Event` and `Summary` of tensorboard/compat/proto, encoded by hand: all events of a table differ in a few numbers alone.
Of long tables it takes a third of the time of protobuf's messages, in which the training would wait for the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lab_core.writers.base import ScalarGroup
from lab_core.writers.records import CRC_BYTES, header, masked_crcs

_WALL_TIME, _STEP, _SUMMARY = b"\x09", b"\x10", b"\x2a"  # of Event: double, varint, bytes
_VALUE = b"\x0a"  # of Summary: bytes
_TAG, _SIMPLE_VALUE = b"\x0a", b"\x15"  # of Summary.Value: bytes, float
_BOUNDS = 1 << np.arange(7, 63, 7, dtype=np.int64)  # of steps whose varint is longer by a byte


def framed_scalars(group: ScalarGroup) -> Iterator[bytes]:
    """Yield the events of a table, a row each, as they stand in a file."""
    steps = np.asarray(group.steps, np.int64)
    values_KN = np.asarray([column.values for column in group.columns], np.float64)  # noqa: N806
    times = np.asarray(group.times, np.float64)
    names = tuple(column.name for column in group.columns)
    lengths = np.searchsorted(_BOUNDS, steps, side="right") + 1
    edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(steps)]
    for start, end in pairwise(edges):
        rows = slice(start, end)
        yield _framed(names, int(lengths[start]), steps[rows], times[rows], values_KN[:, rows])


def _framed(
    names: tuple[str, ...],
    step_bytes: int,
    steps: npt.NDArray[np.int64],
    times: npt.NDArray[np.float64],
    values_KN: npt.NDArray[np.float64],  # noqa: N803
) -> bytes:
    template, layout, offsets = _layout(names, step_bytes)
    data = bytearray(template * len(steps))
    records = np.frombuffer(data, layout)
    records["time"] = times
    shifts = 7 * np.arange(step_bytes)
    digits = (steps[:, None] >> shifts) & 0x7F
    digits[:, :-1] |= 0x80
    records["step"] = digits
    with np.errstate(over="ignore", invalid="ignore"):  # what a float32 does not hold is infinite
        for name, values in zip(offsets, values_KN, strict=True):
            records[name] = values
    records["crc"] = masked_crcs(bytes(data), len(template), len(header(0)))
    return bytes(data)


@lru_cache(maxsize=256)
def _layout(
    names: tuple[str, ...], step_bytes: int
) -> tuple[bytes, np.dtype[np.void], tuple[str, ...]]:
    """Return a record with zeros where its numbers belong, its fields, and which of those are the values'."""
    values = [_message(_TAG, name.encode()) + _SIMPLE_VALUE + bytes(4) for name in names]
    parts = [_message(_VALUE, value) for value in values]
    before = _WALL_TIME + bytes(8) + _STEP + bytes(step_bytes)
    summary = _message(_SUMMARY, b"".join(parts))
    body = before + summary
    begin = len(header(len(body)))
    offset = begin + len(body) - sum(map(len, parts))
    fields: dict[str, tuple[object, int]] = {
        "time": ("<f8", begin + 1),
        "step": (("u1", (step_bytes,)), begin + 10),
    }
    for i, part in enumerate(parts):
        offset += len(part)
        fields[f"value{i}"] = ("<f4", offset - 4)
    fields["crc"] = ("<u4", begin + len(body))
    template = header(len(body)) + body + bytes(CRC_BYTES)
    layout = np.dtype(
        {
            "names": list(fields),
            "formats": [kind for kind, _ in fields.values()],
            "offsets": [at for _, at in fields.values()],
            "itemsize": len(template),
        }
    )
    return template, layout, tuple(f"value{i}" for i in range(len(names)))


def _message(tag: bytes, body: bytes) -> bytes:
    return tag + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
