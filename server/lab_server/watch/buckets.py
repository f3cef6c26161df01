"""Curves of a chart in buckets that all of them share, and their smoothing.

Imports numpy, so import it where it is used: the server's start does without.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lab_server.watch.series import Values

Places = npt.NDArray[np.intp]

_MAX_EXPONENT: Final = 500.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve on a chart's x axis, before it is in buckets.

    Attributes:
        x, values: points, by x.
        mean_x, means, weights: means of finite values, by x, and how many points each stands for.
        smooth: the smoothed means, None without smoothing.
    """

    x: Values
    values: Values
    mean_x: Values
    means: Values
    weights: Values
    smooth: Values | None = None


@dataclass(frozen=True, slots=True)
class Bucketed:
    """A curve in buckets: what each column holds, NaN in a bucket where the curve has no finite value.

    Attributes:
        columns: those that are wanted of "min", "max", "mean" and "last", and "smooth" if it was smoothed.
        num_not_finite: how many points were NaN or infinite; at least, if not all points were read.
    """

    columns: dict[str, Values]
    num_not_finite: int


def common_x(curves: Sequence[Curve], num_buckets: int, low: float, high: float) -> Values:
    """Return the x of the buckets of a chart.

    These are the points' own x if there are not more of them than buckets, else the middles of equal parts
    from the first x to the last, or of the range that is asked for.

    Args:
        curves: of the chart.
        num_buckets: the largest number of buckets.
        low: the range's begin, NaN for that of the curves.
        high: its end, NaN for that of the curves.
    """
    each = [curve.x for curve in curves if len(curve.x)]
    if not each:
        return np.empty(0)
    if sum(map(len, each)) <= 20 * num_buckets:
        own = np.unique(np.concatenate(each))
        if len(own) <= num_buckets:
            return own
    low = min(x[0] for x in each) if np.isnan(low) else low
    high = max(x[-1] for x in each) if np.isnan(high) else high
    width = (high - low) / num_buckets
    return (low + width * (np.arange(num_buckets) + 0.5)).astype(np.float64)


def in_buckets(curve: Curve, x: Values, wanted: Collection[str]) -> Bucketed:
    """Return the wanted columns of a curve in the buckets around some x, in which the x are in the middle."""
    edges = (x[1:] + x[:-1]) / 2
    is_finite = np.isfinite(curve.values)
    columns = {name: np.full(len(x), np.nan) for name in ("min", "max", "mean", "last")}
    if len(curve.x):
        at, starts, ends = _places(curve.x, edges)
        finite = curve.values if is_finite.all() else np.where(is_finite, curve.values, np.nan)
        columns["min"][at] = np.fmin.reduceat(finite, starts)
        columns["max"][at] = np.fmax.reduceat(finite, starts)
        columns["last"][at] = finite[ends - 1]
    if len(curve.mean_x):
        if curve.mean_x is not curve.x:
            at, starts, ends = _places(curve.mean_x, edges)
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.add.reduceat(curve.means * curve.weights, starts)
            columns["mean"][at] = sums / np.add.reduceat(curve.weights, starts)
        if curve.smooth is not None:
            columns["smooth"] = np.full(len(x), np.nan)
            columns["smooth"][at] = curve.smooth[ends - 1]
        # a bucket between two means of 256 points each has points, and so a value
        gaps = np.isnan(columns["mean"]) & ~np.isnan(columns["min"])
        columns["mean"][gaps] = (columns["min"][gaps] + columns["max"][gaps]) / 2
    elif curve.smooth is not None:
        columns["smooth"] = np.full(len(x), np.nan)
    kept = {name: column for name, column in columns.items() if name in {*wanted, "smooth"}}
    return Bucketed(kept, int((~is_finite).sum()))


def _places(x: Values, edges: Values) -> tuple[Places, Places, Places]:
    """Return which buckets have points, and where in their order those of each begin and end."""
    bounds = np.concatenate([[0], x.searchsorted(edges), [len(x)]])
    at = np.flatnonzero(bounds[1:] > bounds[:-1])
    return at, bounds[at], bounds[at + 1]


def smoothed(steps: Values, means: Values, weights: Values, window: float) -> Values:
    """Return exponentially weighted means over the last steps, without a bias at the begin.

    A value that is d steps old counts exp(-d / window): by steps, not by points, so that the curve does not
    depend on how many points a bucket has, how long the run is, or which part of it is shown.

    Args:
        steps: ascending.
        means: one a step, finite.
        weights: how many points each stands for.
        window: in steps, more than 0.
    """
    result = np.empty(len(steps))
    total = weight = 0.0
    start = 0
    while start < len(steps):
        # in pieces, since exp() of the whole range is infinite
        end = int(np.searchsorted(steps, steps[start] + _MAX_EXPONENT * window, side="right"))
        if start:
            age = np.exp((steps[start - 1] - steps[start]) / window)
            total, weight = total * age, weight * age
        growth = np.exp((steps[start:end] - steps[start]) / window)
        with np.errstate(over="ignore", invalid="ignore"):
            totals = total + np.cumsum(growth * weights[start:end] * means[start:end])
            sums = weight + np.cumsum(growth * weights[start:end])
            result[start:end] = totals / sums
        total, weight = totals[-1] / growth[-1], sums[-1] / growth[-1]
        start = end
    return result
