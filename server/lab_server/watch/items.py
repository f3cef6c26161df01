"""A metric's points as a chart's buckets take them: exactly, or by what stands for 256 of them.

Imports numpy, so import it where it is used: the server's start does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab_server.watch.chunks import Steps, Values, means_of_summaries, points_of_summaries

Points = tuple[Steps, Values]


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
    exact_steps = np.concatenate([np.empty(0, np.int64), *(steps for steps, _ in points)])
    exact_values = np.concatenate([np.empty(0), *(values for _, values in points)])
    steps, values = exact_steps, exact_values
    mean_steps, means, weights = exact_steps, exact_values, np.ones(len(exact_steps))
    if summaries:
        some_steps, some_values = points_of_summaries(summaries)
        steps = np.concatenate([exact_steps, some_steps])
        values = np.concatenate([exact_values, some_values])
        of_summaries = means_of_summaries(summaries)
        mean_steps = np.concatenate([exact_steps, of_summaries[0]])
        means = np.concatenate([exact_values, of_summaries[1]])
        weights = np.concatenate([weights, of_summaries[2]])
    order = np.argsort(steps, kind="stable")
    is_finite = np.isfinite(means)
    mean_order = np.argsort(mean_steps[is_finite], kind="stable")
    return Items(
        steps[order],
        values[order],
        mean_steps[is_finite][mean_order],
        means[is_finite][mean_order],
        weights[is_finite][mean_order],
    )
