"""The curves of a chart: metrics of several runs over one x axis, in buckets that they share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from lab_server.model.run import Run
from lab_server.store.protocol import Store
from lab_server.watch.history import read_views
from lab_server.watch.step_times import StepTimes

if TYPE_CHECKING:
    from lab_server.watch.buckets import Bucketed, Curve
    from lab_server.watch.chunks import Values
    from lab_server.watch.history_plan import View

    Scale = Callable[[Values], Values]
    Rounding = Callable[[float], int]

Axis = Literal["step", "epoch", "relative", "wall"]
AXES: Final[tuple[Axis, ...]] = ("step", "epoch", "relative", "wall")

MAX_CURVES: Final = 400

_EXACT_POINTS: Final = 1_000_000
"""Of all curves together, so many points at most are read one by one; of more, summaries of 256 points."""

_FINE_POINTS: Final = 256
_MAX_READS: Final = 4
_MEMORY_WINDOWS: Final = 20.0
"""What is so many smoothing windows old counts nothing any more: exp(-20)."""


@dataclass(frozen=True, slots=True)
class CurveQuery:
    """Which curves.

    Attributes:
        names: of the metrics, with * and ? as wildcards.
        axis: x in steps, epochs, seconds since the run's start, or Unix seconds.
        num_buckets: the largest number of x.
        low, high: the range of x, NaN for all of it.
        smoothing: the window of the smoothing, in steps; 0 for none.
        epochs: by run's id, how many epochs the run has; needed for that axis.
    """

    names: Sequence[str]
    axis: Axis = "step"
    num_buckets: int = 600
    low: float = math.nan
    high: float = math.nan
    smoothing: float = 0.0
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
    store: Store, times: StepTimes, runs: Sequence[Run], query: CurveQuery
) -> Chart:
    """Return the curves of some runs.

    Raises:
        NotFound: If a run was deleted meanwhile.
    """
    slots = asyncio.Semaphore(_MAX_READS)

    async def of_run(run: Run) -> tuple[str, Mapping[str, Curve] | None]:
        async with slots:
            return run.id, await _curves_of(store, times, run, query, len(runs))

    found = await asyncio.gather(*map(of_run, runs))
    each = [
        (run_id, name, curve) for run_id, curves in found for name, curve in (curves or {}).items()
    ]
    x, curves = await asyncio.to_thread(_in_buckets, each[:MAX_CURVES], query)
    missing = [run_id for run_id, curves_of_run in found if curves_of_run is None]
    return Chart(x, curves, max(0, len(each) - MAX_CURVES), missing)


async def _curves_of(
    store: Store, times: StepTimes, run: Run, query: CurveQuery, num_runs: int
) -> Mapping[str, Curve] | None:
    """Return a run's curves by the metric's name, None if it cannot be shown on the axis."""
    import numpy as np

    scale = await _scale(store, times, run, query)
    if scale is None:
        return None
    to_x, to_step = scale
    low, high = (float(edge) for edge in to_step(np.array([query.low, query.high])))

    def use(found: Sequence[View], data: Mapping[int, bytes]) -> Mapping[str, Curve]:
        return {view.name: _curve(view, data, query, low, to_x) for view in found}

    return await read_views(
        store,
        run.id,
        use,
        names=query.names,
        max_points=max(1, _EXACT_POINTS // num_runs // _FINE_POINTS),
        min_step=_whole(low - _MEMORY_WINDOWS * query.smoothing, math.floor),
        max_step=_whole(high, math.ceil),
    )


async def _scale(
    store: Store, times: StepTimes, run: Run, query: CurveQuery
) -> tuple[Scale, Scale] | None:
    """Return how steps become x and x become steps, None if nobody knows."""
    import numpy as np

    if query.axis == "step":
        return (lambda steps: steps), (lambda x: x)
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
    first_mean = 0 if math.isnan(low) else int(items.mean_steps.searchsorted(low))
    return Curve(
        to_x(items.steps[first:].astype(np.float64)),
        items.values[first:],
        to_x(items.mean_steps[first_mean:].astype(np.float64)),
        items.means[first_mean:],
        items.weights[first_mean:],
        None if smooth is None else smooth[first_mean:],
    )


def _in_buckets(
    each: Sequence[tuple[str, str, Curve]], query: CurveQuery
) -> tuple[Values, Sequence[RunCurve]]:
    from lab_server.watch.buckets import common_x, in_buckets

    x = common_x([curve for *_, curve in each], query.num_buckets, query.low, query.high)
    return x, [RunCurve(run_id, name, in_buckets(curve, x)) for run_id, name, curve in each]


def _whole(step: float, rounded: Rounding) -> int | None:
    return None if math.isnan(step) else max(-(2**62), min(rounded(step), 2**62))
