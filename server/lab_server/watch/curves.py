"""The curves of a chart: metrics of several runs over one x axis, in buckets that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from lab_server.model.run import Run
from lab_server.store.protocol import Store
from lab_server.watch.history import MANY_POINTS, Part, in_thread_if_long, read_views
from lab_server.watch.step_times import StepTimes
from lab_server.watch.tails import Tails

if TYPE_CHECKING:
    from lab_server.watch.buckets import Bucketed, Curve
    from lab_server.watch.history_plan import View
    from lab_server.watch.series import Values

    Scale = Callable[[Values], Values]
    Rounding = Callable[[float], int]

Axis = Literal["step", "epoch", "relative", "wall"]
COLUMNS: Final = ("min", "max", "mean", "last")
AXES: Final[tuple[Axis, ...]] = ("step", "epoch", "relative", "wall")

MAX_CURVES: Final = 400

_EXACT_POINTS: Final = 1_000_000
"""Of all curves together, so many points at most are read one by one; of more, summaries of 256 points."""

_FINE_POINTS: Final = 256
_MEMORY_WINDOWS: Final = 20.0
"""What is so many smoothing windows old counts nothing any more: exp(-20)."""


def _same(values: Values) -> Values:
    return values


_AS_IT_IS: Final = (_same, _same)


@dataclass(frozen=True, slots=True)
class CurveQuery:
    """Which curves.

    Attributes:
        names: of the metrics, with * and ? as wildcards.
        axis: x in steps, epochs, seconds since the run's start, or Unix seconds.
        num_buckets: the largest number of x.
        low, high: the range of x, NaN for all of it.
        smoothing: the window of the smoothing, in steps; 0 for none.
        columns: of each curve.
        epochs: by run's id, how many epochs the run has; needed for that axis.
    """

    names: Sequence[str]
    axis: Axis = "step"
    num_buckets: int = 600
    low: float = math.nan
    high: float = math.nan
    smoothing: float = 0.0
    columns: Sequence[str] = COLUMNS
    epochs: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class RunCurve:
    """A metric of a run in the buckets of a chart."""

    run_id: str
    metric: str
    bucketed: Bucketed


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves with their common x.

    Attributes:
        num_left_out: how many curves there are beyond those that one answer may have.
        without_axis: ids of the runs that cannot be shown on this axis.
    """

    x: Values
    curves: Sequence[RunCurve]
    num_left_out: int
    without_axis: Sequence[str]


async def query_curves(
    store: Store, times: StepTimes, tails: Tails, runs: Sequence[Run], query: CurveQuery
) -> Chart:
    """Return the curves of some runs."""
    scales = {run.id: await _scale(store, times, run, query) for run in runs}
    shown = [run for run in runs if scales[run.id] is not None]
    lows: dict[str, float] = {}
    parts = {}
    max_points = max(1, _EXACT_POINTS // max(1, len(runs)) // _FINE_POINTS)
    for run in shown:
        lows[run.id], high = _steps_of(scales[run.id], query)
        first = lows[run.id] - _MEMORY_WINDOWS * query.smoothing
        parts[run.id] = Part(
            run.last_seq, max_points, _whole(first, math.floor), _whole(high, math.ceil)
        )

    def use(
        run_id: str, found: Sequence[View], data: Mapping[int, bytes]
    ) -> Sequence[tuple[str, str, Curve]]:
        to_x, _ = scales[run_id] or _AS_IT_IS
        return [
            (run_id, view.name, _curve(view, data, query, lows[run_id], to_x)) for view in found
        ]

    found = await read_views(
        store, parts, use, names=query.names, max_views=MAX_CURVES, known=tails
    )
    each = [curve for curves in found.of_runs.values() for curve in curves]
    num_points = sum(len(curve.x) for *_, curve in each)
    x, curves = await in_thread_if_long(num_points, MANY_POINTS, lambda: _in_buckets(each, query))
    missing = [run.id for run in runs if scales[run.id] is None]
    return Chart(x, curves, found.num_left_out, missing)


def _steps_of(scale: tuple[Scale, Scale] | None, query: CurveQuery) -> tuple[float, float]:
    """Return the steps between which the range is, NaN where it is open."""
    import numpy as np

    _, to_step = scale or _AS_IT_IS
    low, high = to_step(np.array([query.low, query.high]))
    return float(low), float(high)


async def _scale(
    store: Store, times: StepTimes, run: Run, query: CurveQuery
) -> tuple[Scale, Scale] | None:
    """Return how steps become x and x become steps, None if nobody knows."""
    import numpy as np

    if query.axis == "step":
        return _AS_IT_IS
    if query.axis == "epoch":
        epochs = (query.epochs or {}).get(run.id, 0)
        if not epochs or not run.total_steps:
            return None
        a_step = epochs / run.total_steps
        return (lambda steps: steps * a_step), (lambda x: x / a_step)
    steps, seconds = await times.of(store, run)
    if len(steps) < 2:
        return None
    if query.axis == "relative":
        seconds = seconds - seconds[0]
    return (
        lambda wanted: np.interp(wanted, steps, seconds),
        lambda x: np.where(np.isnan(x), x, np.interp(x, seconds, steps)),
    )


def _curve(
    view: View, data: Mapping[int, bytes], query: CurveQuery, low: float, to_x: Scale
) -> Curve:
    import numpy as np

    from lab_server.watch.buckets import Curve, smoothed

    items = view.items(data)
    smooth = None
    if query.smoothing > 0:
        steps = items.mean_steps.astype(np.float64)
        smooth = smoothed(steps, items.means, items.weights, query.smoothing)
    first = 0 if math.isnan(low) else int(items.steps.searchsorted(low))
    x = to_x(items.steps[first:].astype(np.float64))
    first_mean, mean_x = first, x
    if items.mean_steps is not items.steps:
        first_mean = 0 if math.isnan(low) else int(items.mean_steps.searchsorted(low))
        mean_x = to_x(items.mean_steps[first_mean:].astype(np.float64))
    return Curve(
        x,
        items.values[first:],
        mean_x,
        items.means[first_mean:],
        items.weights[first_mean:],
        None if smooth is None else smooth[first_mean:],
    )


def _in_buckets(
    each: Sequence[tuple[str, str, Curve]], query: CurveQuery
) -> tuple[Values, Sequence[RunCurve]]:
    from lab_server.watch.buckets import common_x, in_buckets

    x = common_x([curve for *_, curve in each], query.num_buckets, query.low, query.high)
    return x, [
        RunCurve(run_id, name, in_buckets(curve, x, query.columns)) for run_id, name, curve in each
    ]


def _whole(step: float, rounded: Rounding) -> int | None:
    return None if math.isnan(step) else max(-(2**62), min(rounded(step), 2**62))
