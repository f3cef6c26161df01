"""What a trainer measured last: `spool/<attempt>.tail`, memory that outlives the trainer.

The training thread puts each saved row here before `save` returns; the spool gets it a moment later,
with its batch. When the trainer dies in between, the server takes the rest from here.

A mapped file of two *segments* behind a header. Rows are put into one segment until it is full, then
into the other, if the spool has all that is there; a segment whose rows are all in the spool begins
anew. A record is `<u32 length><u32 crc32><body>`, little endian; a body is a layout, which names columns,
or a row of numbers under a layout. Rows have rising numbers, so that what is left of an earlier use of a
segment is not taken for more.

The header says which rows the spool has, by two *marks* in turn: before a batch is appended to the spool,
a mark says up to which row it goes and where in the spool it will end. A mark holds when the spool is that
long. Whoever appends rows to the spool, the trainer or the server after its death, does it under a mark,
so no row is ever there twice.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab_core.writers.base import ScalarColumn


SEGMENT_BYTES = 256 << 10

_HEADER_BYTES = 4096
_MARK = struct.Struct("<QQQI")  # row, begin and end in the spool, crc32 of these
_MARK_BYTES = 64
_RECORD = struct.Struct("<II")
_LAYOUT = struct.Struct("<cI")
_ROW = struct.Struct("<cIQqd")
_MAX_LAYOUTS = 1000


@dataclass(frozen=True, slots=True)
class Mark:
    """That the spool has all rows up to one, if it is long enough.

    Attributes:
        row: the last row of a batch.
        begin: the spool's length before the batch.
        end: its length with the batch.
    """

    row: int = 0
    begin: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """What one save measured.

    Attributes:
        number: of the save, from 1 on within the attempt.
        time: seconds since 1970.
        points: name, step and value of each metric.
    """

    number: int
    time: float
    points: tuple[tuple[str, int, float], ...]


class _Layout:
    """Names of columns, as they stand in a segment."""

    def __init__(self, number: int, names: tuple[str, ...]) -> None:
        self.number = number
        self.row = struct.Struct(f"{_ROW.format}{len(names)}d").pack
        body = _LAYOUT.pack(b"L", number) + json.dumps(names).encode()
        self.record = _RECORD.pack(len(body), zlib.crc32(body)) + body
        self.use = -1  # of the segment that it was last written to


class TailWriter:
    """The trainer's side: `put` is the training thread's, the rest the spool's writer's.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "1.tail"
        >>> tail = TailWriter(path)
        >>> tail.put(1, 10, 0.0, ("loss",), [0.5], None)
        True
        >>> TailReader(path).rows_after(0)
        [Row(number=1, time=0.0, points=(('loss', 10, 0.5),))]
    """

    def __init__(self, path: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        size = _HEADER_BYTES + 2 * segment_bytes
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # a page that the full disk has no room for would kill the process that writes to it
            os.posix_fallocate(fd, 0, size)
            self._memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._segment_bytes = segment_bytes
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._num_layouts = 0
        self._segment = 0
        self._start = self._position = _HEADER_BYTES
        self._end = _HEADER_BYTES + segment_bytes
        self._use = 0  # goes up with each new beginning of a segment
        self._last_rows = [0, 0]  # of the segments
        self._num_marks = 0
        self.spooled_row = 0

    def put(
        self,
        row: int,
        step: int,
        time: float,
        names: tuple[str, ...],
        values: Sequence[float],
        steps: Sequence[int] | None,
    ) -> bool:
        """Keep a row; return False when there is no room until the spool has more of the rows.

        Args:
            row: its number, higher than that of any row before.
            step: the step of all values.
            time: when it was saved, in seconds since 1970.
            names: of the metrics.
            values: as many.
            steps: the step of each value, where they differ.
        """
        layout = self._layouts.get(names)
        if layout is None:
            layout = self._make_layout(names)
        if steps is None:
            body = layout.row(b"R", layout.number, row, step, time, *values)
        else:
            own = struct.pack(f"<{len(steps)}q", *steps)
            body = layout.row(b"S", layout.number, row, step, time, *values) + own
        record = _RECORD.pack(len(body), zlib.crc32(body)) + body
        if self._position != self._start and self._last_rows[self._segment] <= self.spooled_row:
            self._begin(self._segment)
        if layout.use != self._use:
            record = layout.record + record
        if self._position + len(record) > self._end:
            other = 1 - self._segment
            if self._last_rows[other] > self.spooled_row:
                return False
            self._begin(other)
            record = layout.record + _RECORD.pack(len(body), zlib.crc32(body)) + body
            if len(record) > self._segment_bytes:
                return False
        end = self._position + len(record)
        self._memory[self._position : end] = record
        self._position = end
        layout.use = self._use
        self._last_rows[self._segment] = row
        return True

    def mark(self, mark: Mark) -> None:
        """Say what is about to be appended to the spool."""
        _write_mark(self._memory, self._num_marks % 2, mark)
        self._num_marks += 1

    def rows(self) -> list[Row]:
        """Return the rows that the spool does not have."""
        return _rows_after(self._memory, self._segment_bytes, self.spooled_row)

    def _begin(self, segment: int) -> None:
        self._segment = segment
        self._start = self._position = _HEADER_BYTES + segment * self._segment_bytes
        self._end = self._start + self._segment_bytes
        self._use += 1

    def _make_layout(self, names: tuple[str, ...]) -> _Layout:
        if len(self._layouts) >= _MAX_LAYOUTS:
            self._layouts.clear()
        self._num_layouts += 1
        layout = self._layouts[names] = _Layout(self._num_layouts, names)
        return layout


class TailReader:
    """The server's side, when no process of the attempt is left.

    Raises:
        OSError: If the file is not there, or cannot be read.
        ValueError: If it is empty: the trainer died when it made it.
    """

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(fd, 0)
        finally:
            os.close(fd)

    def marks(self) -> tuple[Mark, Mark]:
        """Return the last two marks, the newer one first."""
        first, second = (_read_mark(self._memory, index) for index in (0, 1))
        return (first, second) if first.row >= second.row else (second, first)

    def rows_after(self, row: int) -> list[Row]:
        """Return the whole rows of a higher number, in order."""
        return _rows_after(self._memory, (len(self._memory) - _HEADER_BYTES) // 2, row)

    def mark(self, mark: Mark) -> None:
        """Say what is about to be appended to the spool, in the place of the older mark."""
        newer, _ = self.marks()
        _write_mark(self._memory, 1 if _read_mark(self._memory, 0) == newer else 0, mark)

    def close(self) -> None:
        """Unmap the file."""
        self._memory.close()


def columns_of(rows: Sequence[Row]) -> list[ScalarColumn]:
    """Return rows as columns, one a metric."""
    # a server needs no writers until a trainer has died, and they are a fiftieth of its start
    from lab_core.writers.base import ScalarColumn

    columns: dict[str, ScalarColumn] = {}
    for row in rows:
        for name, step, value in row.points:
            column = columns.setdefault(name, ScalarColumn(name, [], [], []))
            column.steps.append(step)
            column.values.append(value)
            column.times.append(row.time)
    return list(columns.values())


def _write_mark(memory: mmap.mmap, index: int, mark: Mark) -> None:
    numbers = _MARK.pack(mark.row, mark.begin, mark.end, 0)[:-4]
    place = _MARK_BYTES * (index + 1)
    memory[place : place + _MARK.size] = numbers + zlib.crc32(numbers).to_bytes(4, "little")


def _read_mark(memory: mmap.mmap, index: int) -> Mark:
    place = _MARK_BYTES * (index + 1)
    row, begin, end, crc = _MARK.unpack_from(memory, place)
    # one that was being written was about a batch that is not in the spool
    return Mark(row, begin, end) if zlib.crc32(memory[place : place + 24]) == crc else Mark()


def _rows_after(memory: mmap.mmap, segment_bytes: int, row: int) -> list[Row]:
    found = [
        r
        for segment in (0, 1)
        for r in _rows(memory, _HEADER_BYTES + segment * segment_bytes, segment_bytes)
        if r.number > row
    ]
    return sorted(found, key=lambda r: r.number)


def _rows(memory: mmap.mmap, start: int, size: int) -> Iterator[Row]:
    """Yield the rows of a segment, up to a torn one, or to what an earlier use left."""
    layouts: dict[int, tuple[str, ...]] = {}
    last = 0
    end = start + size
    while start + _RECORD.size <= end:
        length, crc = _RECORD.unpack_from(memory, start)
        start += _RECORD.size
        body = memory[start : start + length]
        if not 0 < length <= end - start or zlib.crc32(body) != crc:
            return
        start += length
        kind, layout = _LAYOUT.unpack_from(body)
        if kind == b"L":
            layouts[layout] = tuple(json.loads(body[_LAYOUT.size :]))
            continue
        _, _, number, step, time = _ROW.unpack_from(body)
        names = layouts.get(layout)
        if names is None or number <= last:
            return
        last = number
        values = struct.unpack_from(f"<{len(names)}d", body, _ROW.size)
        steps: tuple[int, ...] = (step,) * len(names)
        if kind == b"S":
            steps = struct.unpack_from(f"<{len(names)}q", body, _ROW.size + 8 * len(names))
        yield Row(number, time, tuple(zip(names, steps, values, strict=True)))
