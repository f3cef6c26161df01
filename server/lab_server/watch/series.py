"""A run's metrics as arrays: events folded into points by metric, and points thinned for a plot.

Imports numpy, so import it where it is used: the server's start does without.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lab_rpc.v1 import event_pb2
from lab_server.messages.events import decode

T = TypeVar("T", bound=np.generic)

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Points = tuple[Steps, Values]

_MIN_MINMAXLTTB_POINTS = 3


@dataclass(frozen=True, slots=True)
class Series:
    """The history of one metric.

    Attributes:
        steps: int64, strictly ascending.
        values: float64, one a step.
        num_points: how many there were before they were thinned.
        min_value, max_value: of the finite ones of all points, before they were thinned; NaN without
            any.
        last_value: that of the last step.
    """

    name: str
    steps: Steps
    values: Values
    num_points: int
    min_value: float
    max_value: float
    last_value: float


def series_of(
    name: str, steps: Steps, values: Values, num_points: int, max_points: int = 0
) -> Series:
    """Return a series of at most max_points points, 0 for all, that says what it was made of.

    Args:
        name: of the metric.
        steps: strictly ascending, at least one.
        values: one a step; the least, the largest and the last of all points are among them.
        num_points: how many points these stand for.
        max_points: the largest number of points to return; 0 for all.
    """
    keep = thin(steps, values, max_points) if max_points else slice(None)
    finite = values[np.isfinite(values)]
    return Series(
        name=name,
        steps=steps[keep],
        values=values[keep],
        num_points=num_points,
        min_value=float(finite.min()) if len(finite) else math.nan,
        max_value=float(finite.max()) if len(finite) else math.nan,
        last_value=float(values[-1]),
    )


@dataclass(frozen=True, slots=True)
class Tail:
    """What events came to.

    Attributes:
        points: of each metric by step, each step once.
        cut: see `MetricFold`.
    """

    points: Mapping[str, Points]
    cut: int | None


class MetricFold:
    """Folds metrics and truncate events, in the order of seq, into a history without a double step.

    Args:
        is_wanted: which metrics to keep, by name.

    Attributes:
        cut: the last step that truncates left of what came before these events; None without one.
    """

    def __init__(self, is_wanted: Callable[[str], bool] = lambda _: True) -> None:
        self.cut: int | None = None
        self._is_wanted = is_wanted
        self._points: dict[str, _Points] = {}

    def add(self, payloads: Iterable[bytes]) -> None:
        """Fold encoded events; those of other kinds are passed over."""
        for payload in payloads:
            event = decode(payload)
            match event.WhichOneof("kind"):
                case "metrics":
                    self._add(event.metrics)
                case "truncate":
                    self._truncate(event.truncate.after_step)

    def points(self) -> dict[str, Points]:
        """Return each metric's points by step, each step once."""
        return {name: points.all() for name, points in self._points.items()}

    @property
    def num_points(self) -> int:
        """How many points it holds, double steps included."""
        return sum(len(points) for points in self._points.values())

    def tail(self) -> Tail:
        """Return what it holds now; it may grow meanwhile."""
        return Tail(self.points(), self.cut)

    def series(self) -> list[Series]:
        """Return the metrics by name, with all of their points."""
        points = sorted(self.points().items())
        return [series_of(name, steps, values, len(steps)) for name, (steps, values) in points]

    def _add(self, metrics: event_pb2.Metrics) -> None:
        all_steps = metrics.steps
        for column in metrics.columns:
            if not column.values or not self._is_wanted(column.name):
                continue
            points = self._points.get(column.name)
            if points is None:
                points = self._points[column.name] = _Points()
            points.new_steps.extend(
                [all_steps[row] for row in column.rows] if column.rows else all_steps
            )
            points.new_values.extend(column.values)

    def _truncate(self, after_step: int) -> None:
        self.cut = after_step if self.cut is None else min(self.cut, after_step)
        for name, points in list(self._points.items()):
            points.cut(after_step)
            if not len(points):
                del self._points[name]


class _Points:
    """A metric's points, which grow: what was given to a reader is not copied when more come."""

    def __init__(self) -> None:
        self._steps: Steps = np.empty(0, np.int64)
        self._values: Values = np.empty(0)
        self._num = 0
        # as they were measured; arrays, since numpy's cost more than they hold when events are small
        self.new_steps: array[int] = array("q")
        self.new_values: array[float] = array("d")

    def __len__(self) -> int:
        return self._num + len(self.new_steps)

    def all(self) -> Points:
        """Return all of them by step, each step once."""
        if self.new_steps:
            self._take_in()
        return self._steps[: self._num], self._values[: self._num]

    def cut(self, after_step: int) -> None:
        """Forget the later ones."""
        steps, values = self.all()
        num = int(steps.searchsorted(after_step, side="right"))
        if num < self._num:
            # copies: readers have the others, and what comes next must not take their place
            self._steps, self._values, self._num = steps[:num].copy(), values[:num].copy(), num

    def _take_in(self) -> None:
        steps, values = np.frombuffer(self.new_steps, np.int64), np.frombuffer(self.new_values)
        self.new_steps, self.new_values = array("q"), array("d")
        first = self._num
        is_later = not first or steps[0] > self._steps[first - 1]
        if not (is_later and (steps[1:] > steps[:-1]).all()):
            steps, values = last_of_each_step(
                np.concatenate([self._steps[:first], steps]),
                np.concatenate([self._values[:first], values]),
            )
            self._steps, self._values, self._num = steps, values, len(steps)
            return
        self._num = first + len(steps)
        if self._num > len(self._steps):
            self._steps = _grown(self._steps[:first], self._num)
            self._values = _grown(self._values[:first], self._num)
        self._steps[first : self._num] = steps
        self._values[first : self._num] = values


def _grown(known: npt.NDArray[T], least: int) -> npt.NDArray[T]:
    """Return an array that begins with what is known, and has room for at least so many."""
    larger = np.empty(max(least, 3 * len(known) // 2), known.dtype)
    larger[: len(known)] = known
    return larger


def thin(steps: Steps, values: Values, max_points: int) -> npt.NDArray[np.intp]:
    """Return the indices of at most max_points points that plot much like all of them.

    MinMaxLTTB (Van Der Donckt et al., 2023) over the finite values. It knows no others, so up to a
    quarter of the points go to the beginnings of the stretches of NaN and infinities.
    """
    if len(steps) <= max_points:
        return np.arange(len(steps))
    is_finite = np.isfinite(values)
    finite = np.flatnonzero(is_finite)
    starts = np.flatnonzero(~is_finite & np.append(True, is_finite[:-1]))
    num_others = min(len(starts), max_points // 4 if len(finite) else max_points)
    others = starts[_spread(len(starts), num_others)]
    best = finite[_minmaxlttb(steps[finite], values[finite], max_points - num_others)]
    return np.sort(np.concatenate([others, best]))


def _minmaxlttb(steps: Steps, values: Values, max_points: int) -> npt.NDArray[np.intp]:
    if len(steps) <= max_points:
        return np.arange(len(steps))
    if max_points < _MIN_MINMAXLTTB_POINTS:
        return _spread(len(steps), max_points)
    from tsdownsample import MinMaxLTTBDownsampler

    # steps as float: differences of any two int64 have no room in an int64
    downsampler = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]
    indices = downsampler.downsample(steps.astype(np.float64), values, n_out=max_points)
    return np.unique(indices).astype(np.intp)


def _spread(length: int, num: int) -> npt.NDArray[np.intp]:
    """Return num indices below length, evenly spread, the last one always among them."""
    return np.linspace(length - 1, 0, num).round().astype(np.intp)[::-1]


def last_of_each_step(steps: Steps, values: Values) -> Points:
    """Return points in the order of their steps; of those of one step, the one that came last."""
    if (steps[1:] > steps[:-1]).all():
        return steps, values
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    is_last = np.append(steps[1:] != steps[:-1], True)
    return steps[is_last], values[is_last]
