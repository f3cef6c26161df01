"""Aggregate saved records into batches of columns. Runs off the training thread.

A record is queued by `Tracker.save`: (step, time, entries), where entries maps a name to
[step or None, value, value, ...]; an entry's own step overrides the record's. A record without
entries requests a line on the console.
The state, windows and last values, is guarded by the lock of the tracker that owns it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from lab_core.tracker import values as held
from lab_core.tracker.indicators import Indicator, Kind, Registry
from lab_core.writers.base import (
    Batch,
    HistogramPoint,
    ImagePoint,
    IndexedPoint,
    ScalarColumn,
    TextPoint,
)
from lab_core.writers.summaries import histogram, images_uint8, mean

Entry = list[Any]
Record = tuple[int, float, dict[str, Entry] | None]


class Aggregator:
    """Turns records into a batch, and keeps what outlives one: windows and last values."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.windows: dict[str, deque[float]] = {}
        self.last: dict[str, float] = {}
        self.last_steps: dict[str, int] = {}
        self._lines: list[tuple[int, dict[str, float]]] = []
        self._fresh: set[str] = set()  # measured since the last line, in earlier batches
        self._num_told: dict[
            str, int
        ] = {}  # points of the columns that were there at the last line
        self._columns: dict[str, ScalarColumn] = {}
        self._histograms: list[HistogramPoint] = []
        self._indexed: list[IndexedPoint] = []
        self._texts: list[TextPoint] = []
        self._images: list[ImagePoint] = []
        self._num_rows = 0  # met so far, also those that failed
        self._last_row = 0

    def inherit(self, other: Aggregator) -> None:
        """Take over the batch that another has under construction."""
        self._columns, self._histograms, self._indexed = (
            other._columns,
            other._histograms,
            other._indexed,
        )
        self._texts, self._images, self._lines = other._texts, other._images, other._lines
        self._num_rows, self._last_row = other._num_rows, other._last_row
        self._fresh, self._num_told = other._fresh, other._num_told

    def restore(
        self,
        windows: Mapping[str, list[float]],
        last: Mapping[str, float],
        last_steps: Mapping[str, int],
    ) -> None:
        """Go on from the windows and last values of a checkpoint."""
        self.windows = {
            name: deque(window, maxlen=max(len(window), 1)) for name, window in windows.items()
        }
        self.last = dict(last)
        self.last_steps = dict(last_steps)

    def take(self, records: Iterable[Record]) -> None:
        """Add records to the batch under construction."""
        records = list(records)
        self._num_rows += sum(entries is not None for _, _, entries in records)
        _fetch_device_values(records)
        columns, resolve = self._columns, self._registry.resolve
        plain: dict[str, ScalarColumn] = {}  # of scalars, met before in these records
        for step, time, entries in records:
            if entries is None:
                self._lines.append((step, self._take_fresh()))
                continue
            for name, entry in entries.items():
                own = entry[0]
                at = step if own is None else own
                column = plain.get(name)
                # The common case by far: one float for a scalar.
                if column is not None and len(entry) == 2 and type(entry[1]) is float:
                    column.steps.append(at)
                    column.times.append(time)
                    column.values.append(entry[1])
                    continue
                indicator = resolve(name)
                self._take_entry(indicator, name, at, time, entry[1:])
                if indicator.kind is Kind.SCALAR:
                    plain[name] = columns[name]
        self._last_row = self._num_rows

    def _take_entry(
        self, indicator: Indicator, name: str, step: int, time: float, new: list[Any]
    ) -> None:
        kind = indicator.kind
        if kind is Kind.SCALAR:
            self._point(indicator, name, step, time, mean(new))
        elif kind.is_numeric:
            if indicator.window is not None:
                window = self.windows.get(name)
                # One from a checkpoint has yet to learn how long it may become.
                if window is None or window.maxlen != indicator.window:
                    window = self.windows[name] = deque(window or (), maxlen=indicator.window)
                for value in new:
                    window.extend([value] if isinstance(value, float) else value.ravel().tolist())
                new = list(window)
            self._point(indicator, name, step, time, mean(new))
            self._histograms.append(histogram(name, step, time, new))
        elif kind is Kind.INDEXED:
            sums: dict[int, list[float]] = {}
            for index, value in new:
                sums.setdefault(index, []).append(float(value))
            means = {
                index: math.fsum(vs) / len(vs) if len(vs) > 1 else vs[0]
                for index, vs in sums.items()
            }
            self._indexed.append(
                IndexedPoint(name, step, time, tuple(means), tuple(means.values()))
            )
        elif kind is Kind.TEXT:
            self._texts.append(TextPoint(name, step, time, "\n\n".join(new), indicator.is_print))
        else:
            pictures = tuple(image for array in new for image in images_uint8(array))
            self._images.append(ImagePoint(name, step, time, pictures))

    def _point(self, indicator: Indicator, name: str, step: int, time: float, value: float) -> None:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = ScalarColumn(name, [], [], [], indicator.is_print)
        column.steps.append(step)
        column.times.append(time)
        column.values.append(value)

    def batch(self) -> Batch | None:
        """Return what was taken since the last call; None when that is nothing."""
        columns = self._share_steps()
        for column in columns:
            self.last[column.name] = column.values[-1]
            self.last_steps[column.name] = column.steps[-1]
        batch = Batch(
            columns,
            tuple(self._histograms),
            tuple(self._indexed),
            tuple(self._texts),
            tuple(self._images),
            self._last_row,
        )
        self._note_fresh()
        self._num_told = {}
        self._columns, self._histograms, self._indexed = {}, [], []
        self._texts, self._images = [], []
        is_empty = not (columns or batch.histograms or batch.indexed or batch.texts or batch.images)
        return None if is_empty else batch

    def lines(self) -> list[tuple[int, dict[str, float]]]:
        """Return the lines that were asked for since the last call: steps, and values then."""
        lines, self._lines = self._lines, []
        return lines

    def _take_fresh(self) -> dict[str, float]:
        """Return the last values of what is printed and was measured since the last line."""
        self._note_fresh()
        self._num_told = {name: len(column.steps) for name, column in self._columns.items()}
        names, self._fresh = self._fresh, set()
        values = self.last_values()
        return {
            name: value
            for name, value in values.items()
            if name in names and self._registry.peek(name).is_print
        }

    def _note_fresh(self) -> None:
        told = self._num_told
        self._fresh |= {n for n, c in self._columns.items() if len(c.steps) > told.get(n, 0)}

    def last_values(self) -> dict[str, float]:
        """Return the last value of every scalar, those of the batch under construction included."""
        return self.last | {name: column.values[-1] for name, column in self._columns.items()}

    def steps_of_last_values(self) -> dict[str, int]:
        """Return for every scalar the step at which its last value stands."""
        return self.last_steps | {name: c.steps[-1] for name, c in self._columns.items()}

    def _share_steps(self) -> tuple[ScalarColumn, ...]:
        """Let columns with equal steps and times hold the same lists, so that writers may group them."""
        shared: list[ScalarColumn] = []
        out = []
        for column in self._columns.values():
            for other in shared:
                if other.steps == column.steps and other.times == column.times:
                    column = ScalarColumn(
                        column.name, other.steps, column.values, other.times, column.is_print
                    )
                    break
            else:
                shared.append(column)
            out.append(column)
        return tuple(out)


def _fetch_device_values(records: list[Record]) -> None:
    """Replace every device value in the records, in place, with one transfer for all."""
    if not held.DeviceValue.is_used:
        return
    places: list[tuple[Entry, int]] = []
    values: list[held.DeviceValue] = []
    for _, _, entries in records:
        for entry in (entries or {}).values():
            for i, value in enumerate(entry):
                if type(value) is held.DeviceValue:
                    places.append((entry, i))
                    values.append(value)
                elif type(value) is tuple and type(value[1]) is held.DeviceValue:
                    places.append((entry, i))
                    values.append(value[1])
    if not values:
        return
    for (entry, i), array in zip(places, held.fetch(values), strict=True):
        number: Any = float(array.reshape(-1)[0]) if array.size == 1 and array.ndim < 2 else array
        entry[i] = (entry[i][0], number) if type(entry[i]) is tuple else number
