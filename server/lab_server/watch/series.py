"""A run's metrics as arrays: events folded into one series a metric, thinned for a plot.

Imports numpy, so import it where it is used: the server's start does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab_rpc.v1 import event_pb2
from lab_server.messages.events import decode

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

_MIN_MINMAXLTTB_POINTS = 3


@dataclass(frozen=True, slots=True)
class Series:
    """The history of one metric.

    Attributes:
        steps: int64, strictly ascending.
        values: float64, one a step.
        num_points: how many there were before they were thinned.
    """

    name: str
    steps: Steps
    values: Values
    num_points: int


class MetricFold:
    """Folds metrics and truncate events, in the order of seq, into a history without a double step.

    Args:
        is_wanted: which metrics to keep, by name.
        min_step: the first step to keep, None for all.
        max_step: the last step to keep, None for all.
    """

    def __init__(
        self,
        is_wanted: Callable[[str], bool] = lambda _: True,
        min_step: int | None = None,
        max_step: int | None = None,
    ) -> None:
        self._is_wanted = is_wanted
        self._min_step, self._max_step = min_step, max_step
        self._chunks: dict[str, list[tuple[Steps, Values]]] = {}

    def add(self, payloads: Iterable[bytes]) -> None:
        """Fold encoded events; those of other kinds are passed over."""
        for payload in payloads:
            event = decode(payload)
            match event.WhichOneof("kind"):
                case "metrics":
                    self._add(event.metrics)
                case "truncate":
                    self._truncate(event.truncate.after_step)

    def series(self, max_points: int = 0) -> list[Series]:
        """Return the metrics by name, each of at most max_points points; 0 for all."""
        found = []
        for name in sorted(self._chunks):
            chunks = self._chunks[name]
            steps = np.concatenate([steps for steps, _ in chunks])
            values = np.concatenate([values for _, values in chunks])
            steps, values = _last_of_each_step(steps, values)
            keep = thin(steps, values, max_points) if max_points else slice(None)
            found.append(Series(name, steps[keep], values[keep], len(steps)))
        return found

    def _add(self, metrics: event_pb2.Metrics) -> None:
        all_steps = np.fromiter(metrics.steps, np.int64, len(metrics.steps))
        for column in metrics.columns:
            if not self._is_wanted(column.name):
                continue
            values = np.fromiter(column.values, np.float64, len(column.values))
            rows = column.rows
            steps = all_steps[np.fromiter(rows, np.int64, len(rows))] if rows else all_steps
            keep = np.ones(len(steps), np.bool_)
            if self._min_step is not None:
                keep &= steps >= self._min_step
            if self._max_step is not None:
                keep &= steps <= self._max_step
            if keep.any():
                self._chunks.setdefault(column.name, []).append((steps[keep], values[keep]))

    def _truncate(self, after_step: int) -> None:
        for name, chunks in list(self._chunks.items()):
            kept = [
                (steps, values) if steps.max() <= after_step else _up_to(steps, values, after_step)
                for steps, values in chunks
            ]
            self._chunks[name] = [chunk for chunk in kept if len(chunk[0])]
            if not self._chunks[name]:
                del self._chunks[name]


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


def _up_to(steps: Steps, values: Values, after_step: int) -> tuple[Steps, Values]:
    keep = steps <= after_step
    return steps[keep], values[keep]


def _last_of_each_step(steps: Steps, values: Values) -> tuple[Steps, Values]:
    if (steps[1:] > steps[:-1]).all():
        return steps, values
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    is_last = np.append(steps[1:] != steps[:-1], True)
    return steps[is_last], values[is_last]
