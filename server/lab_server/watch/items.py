"""A metric's points as a chart's buckets take them: exactly, or by what stands for 256 of them.

Imports numpy, so import it where it is used: the server's start does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab_server.watch.chunks import means_of_summaries, points_of_summaries
from lab_server.watch.series import Points, Steps, Values


@dataclass(frozen=True, slots=True)
class Items:
    """What a bucket's least, largest and last value come from, and what its mean comes from.

    Attributes:
        steps, values: points, by step; the least, the largest and the last of all are among them.
        mean_steps, means, weights: means of finite values, by step, and how many points each stands for.
    """

    steps: Steps
    values: Values
    mean_steps: Steps
    means: Values
    weights: Values


def items_of(points: Sequence[Points], summaries: Sequence[bytes]) -> Items:
    """Return the items of points in pieces and of summaries, which are of other points.

    Raises:
        DamagedHistory: If a summary is damaged.
    """
    there = [part for part in points if len(part[0])]
    if len(there) == 1:
        exact_steps, exact_values = there[0]
    else:
        exact_steps = np.concatenate([np.empty(0, np.int64), *(steps for steps, _ in there)])
        exact_values = np.concatenate([np.empty(0), *(values for _, values in there)])
    if not summaries:
        steps, values = _by_step(exact_steps, exact_values)
        return Items(steps, values, *_finite(steps, values, np.broadcast_to(1.0, len(steps))))
    some_steps, some_values = points_of_summaries(summaries)
    mean_steps, means, weights = means_of_summaries(summaries)
    steps, values = _by_step(
        np.concatenate([exact_steps, some_steps]), np.concatenate([exact_values, some_values])
    )
    mean_steps, means, weights = _by_step(
        np.concatenate([exact_steps, mean_steps]),
        np.concatenate([exact_values, means]),
        np.concatenate([np.ones(len(exact_steps)), weights]),
    )
    return Items(steps, values, *_finite(mean_steps, means, weights))


def _by_step(steps: Steps, *columns: Values) -> tuple[Any, ...]:
    if (steps[1:] >= steps[:-1]).all():
        return steps, *columns
    order = np.argsort(steps, kind="stable")
    return steps[order], *(column[order] for column in columns)


def _finite(steps: Steps, means: Values, weights: Values) -> tuple[Steps, Values, Values]:
    is_finite = np.isfinite(means)
    if is_finite.all():
        return steps, means, weights
    return steps[is_finite], means[is_finite], weights[is_finite]
