"""Median stopping: which trial is worse than the median of those before it, at the same step.

Golovin et al., "Google Vizier" (KDD 2017). Values are compared at the steps of the search's own grid, and
each only once it is final, so that in lockstep the verdict does not depend on when somebody looked.
"""

from __future__ import annotations

import statistics
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator

from lab_server.errors import NotFound
from lab_server.model.run import Run, RunState
from lab_server.model.search import MedianStopping, TrialState
from lab_server.model.search_log import Pruned
from lab_server.search.fold import Search, Trial
from lab_server.search.objective import Curve, measure, read_curve
from lab_server.store import Store

MOST_COMPARED = 400
"""A trial is compared with so many of those before it, the latest ones."""

_ENDED = (TrialState.COMPLETED, TrialState.PRUNED)


class MedianJudge:
    """Judges running trials. It keeps nothing that it could not read again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # up to which step a run was found good enough
        self._judged: dict[str, int] = {}
        self._curves: OrderedDict[str, Curve] = OrderedDict()

    async def judge(self, search: Search, trial: Trial, run: Run) -> Pruned | None:
        """Return that a trial is to end early, None if it may go on.

        Raises:
            NotFound: If its run was deleted.
        """
        median = search.spec.median
        if median is None or run.state in (RunState.FAILED, RunState.STOPPED):
            return None
        if not any(_grid(median, self._judged.get(run.id, 0), run.step)):
            return None
        curve = await read_curve(self._store, run.id, search.spec.objective.metric)
        # a value is final when a later one is there, or no more come
        end = run.step if run.state is RunState.COMPLETED else max(curve.steps, default=0)
        for step in _grid(median, self._judged.get(run.id, 0), end):
            pruned = await self._compare(search, trial, curve, step)
            if pruned is not None:
                return pruned
            self._judged[run.id] = step
        return None

    def forget(self, run_id: str) -> None:
        """Forget a run that needs to be judged no more."""
        self._judged.pop(run_id, None)

    async def _compare(
        self, search: Search, trial: Trial, curve: Curve, step: int
    ) -> Pruned | None:
        own = measure(search.spec.objective, curve.up_to(step)).value
        if own is None or search.spec.median is None:
            return None
        others = [value async for value in self._values_at(search, trial, step)]
        if len(others) < search.spec.median.min_trials:
            return None
        middle = statistics.median(others)
        if not search.is_better(middle, own):
            return None
        metric = search.spec.objective.metric
        reason = f"its {metric} of {own:.5g} at step {step} was worse than the median, {middle:.5g}"
        return Pruned(trial.number, step, own, reason)

    async def _values_at(self, search: Search, trial: Trial, step: int) -> AsyncIterator[float]:
        """Yield what the trials that this one is compared with had at a step."""
        known = search.trials[: trial.num_seen] if search.spec.is_lockstep else search.trials
        ended = [t for t in known if t.state in _ENDED and t.step >= step and t is not trial]
        for other in ended[-MOST_COMPARED:]:
            try:
                curve = await self._curve(other.run_id, search.spec.objective.metric)
            except NotFound:
                continue  # its run was deleted
            value = measure(search.spec.objective, curve.up_to(step)).value
            if value is not None:
                yield value

    async def _curve(self, run_id: str, metric: str) -> Curve:
        curve = self._curves.get(run_id)
        if curve is None:
            curve = self._curves[run_id] = await read_curve(self._store, run_id, metric)
            if len(self._curves) > MOST_COMPARED:
                self._curves.popitem(last=False)
        return curve


def _grid(median: MedianStopping, after: int, before: int) -> Iterator[int]:
    """Yield the steps at which values are compared, after one and before another."""
    first = max(after + 1, median.warmup_steps, 1)
    first += -first % median.interval_steps
    return iter(range(first, before, median.interval_steps))
