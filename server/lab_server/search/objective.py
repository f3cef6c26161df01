"""What a run's history of a metric comes down to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lab_server.model.search import Direction, Objective, Reduction
from lab_server.store import Store
from lab_server.watch import history


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's history of the objective's metric: steps, ascending, and as many values."""

    steps: Sequence[int]
    values: Sequence[float]

    def up_to(self, step: int) -> Curve:
        """Return what was measured up to a step; all of it for 0."""
        if not step:
            return self
        num = sum(1 for at in self.steps if at <= step)
        return Curve(self.steps[:num], self.values[:num])


@dataclass(frozen=True, slots=True)
class Measured:
    """The objective's value, or why there is none."""

    value: float | None
    problem: str = ""


async def read_curve(store: Store, run_id: str, metric: str) -> Curve:
    """Return a run's history of one metric, without what a resume took back.

    Raises:
        NotFound: If there is no such run.
    """
    series = await history.query_metrics(store, run_id, names=(metric,))
    found = next((one for one in series if one.name == metric), None)
    if found is None:
        return Curve((), ())
    return Curve(found.steps.tolist(), found.values.tolist())


def measure(objective: Objective, curve: Curve) -> Measured:
    """Return what a history comes down to; a value that is not finite is none."""
    if not curve.values:
        return Measured(None, f"it did not report the metric {objective.metric!r}")
    value = _reduce(objective, curve.values)
    if math.isfinite(value):
        return Measured(value)
    return Measured(None, f"its {objective.metric} was {value}")


def _reduce(objective: Objective, values: Sequence[float]) -> float:
    match objective.reduction:
        case Reduction.LAST:
            return values[-1]
        case Reduction.MEAN:
            last = values[-objective.num_last :]
            return math.fsum(last) / len(last) if all(map(math.isfinite, last)) else math.nan
        case Reduction.BEST:
            finite = [value for value in values if math.isfinite(value)] or [math.nan]
            is_max = objective.direction is Direction.MAXIMIZE
            return max(finite) if is_max else min(finite)
