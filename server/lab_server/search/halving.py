"""Successive halving with promotion: which trial that was paused at a rung may go on.

Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys 2020). In lockstep a rung is
compared when all of it is there; else (ASHA) whenever one trial in eta can go on.
"""

from __future__ import annotations

from lab_server.model.search import Halving, TrialState
from lab_server.model.search_log import Promoted
from lab_server.search.fold import Search, Trial


def next_promotion(search: Search, halving: Halving, *, is_all_asked: bool) -> Promoted | None:
    """Return which trial goes on next, None when none may as yet.

    Args:
        search: as its log tells.
        halving: its rungs.
        is_all_asked: that no new trial comes.
    """
    if search.spec.is_lockstep and not is_all_asked:
        return None
    for rung, told in enumerate(_rungs(search)):
        is_closed = is_all_asked and not any(t.rung <= rung for t in search.running.values())
        if search.spec.is_lockstep and not is_closed:
            return None
        # the last comparison has one winner, which trains to its end
        quota = len(told) // halving.eta
        is_last = is_closed and quota <= 1
        best = sorted(told, key=lambda t: (search.rank(_value_at(t, rung)), t.number))
        for trial in best[: max(1, quota) if is_closed else quota]:
            if trial.state is TrialState.PAUSED and trial.rung == rung:
                until_step = 0 if is_last else halving.min_steps * halving.eta ** (rung + 1)
                return Promoted(trial.number, rung + 1, until_step)
    return None


def _rungs(search: Search) -> list[list[Trial]]:
    """Return for each rung the trials that have come to it with a verdict about their configs."""
    rungs: list[list[Trial]] = []
    for trial in search.trials:
        if trial.state is TrialState.LEFT_OUT:
            continue
        for rung in trial.values:
            while len(rungs) <= rung:
                rungs.append([])
            rungs[rung].append(trial)
    return rungs


def _value_at(trial: Trial, rung: int) -> float | None:
    # one that has failed or run out of time since was not worth its place: the next best gets it
    is_out = trial.state in (TrialState.FAILED, TrialState.PRUNED)
    return None if is_out else trial.values[rung]
