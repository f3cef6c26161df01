"""What a search does next: a function of its log and of the time, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from lab_server.model.search import Sampler, SearchState, TrialState
from lab_server.model.search_log import Ended, Promoted
from lab_server.search import grid
from lab_server.search.fold import Search
from lab_server.search.halving import next_promotion

HOPELESS_TRIALS = 20
"""A search ends when the first so many trials failed, all of them."""

_BAD = (TrialState.FAILED, TrialState.INFEASIBLE)


@dataclass(frozen=True, slots=True)
class Ask:
    """Propose a trial.

    Attributes:
        number: the trial's.
        num_seen: it may depend on what trials below this number came to, and on later ones' params.
    """

    number: int
    num_seen: int


Decision: TypeAlias = Ask | Promoted | Ended


def decide(search: Search, now_ns: int) -> Decision | None:
    """Return the next thing to do, None while there is only to wait."""
    if search.state.is_terminal:
        return None
    if search.state is SearchState.STOPPING:
        return None if search.running else Ended(SearchState.STOPPED, search.reason)
    if search.state is SearchState.PAUSED or len(search.running) >= search.spec.budget.parallel:
        return None
    over = _over(search, now_ns)
    spent = over or _spent(search)
    is_all_asked = bool(spent) or not _can_ask(search)
    if not over and search.spec.halving is not None:
        promotion = next_promotion(search, search.spec.halving, is_all_asked=is_all_asked)
        if promotion is not None:
            return promotion
    if not is_all_asked:
        return _ask(search)
    return None if search.running else _end(search, spent)


def seconds_left(search: Search, now_ns: int) -> float | None:
    """Return in how many seconds the search's time is up, None when that is not limited."""
    limit_s = search.spec.budget.max_seconds
    return limit_s - (now_ns - search.create_time_ns) / 1e9 if limit_s else None


def why_no_more(search: Search, now_ns: int) -> str:
    """Return why nothing more is proposed, not even a point that is enqueued now; "" if something may be."""
    if search.state is SearchState.STOPPING:
        return "it is stopping"
    num = len(search.trials)
    if num >= search.spec.budget.max_trials:
        if not extension_problem(search, num + 1):
            return f"all of its trials are made ({num}); extend it first"
        return f"all points of its grid are made ({num})"
    return _over(search, now_ns) or _spent(search)


def extension_problem(search: Search, max_trials: int) -> str:
    """Return why a search can never make so many trials, "" if it can: a grid ends with its points."""
    if search.spec.sampler is not Sampler.GRID:
        return ""
    size = grid.size(search.spec.space)
    num_enqueued = len(search.trials) - search.num_drawn + len(search.points)
    if max_trials <= size + num_enqueued:
        return ""
    points = "1 point" if size == 1 else f"{size} points"
    enqueued = f" and {num_enqueued} enqueued" if num_enqueued else ""
    return (
        f"the grid has {points}{enqueued}: max_trials can be at most {size + num_enqueued},"
        f" got {max_trials}"
    )


def num_seen(search: Search, number: int) -> int:
    """Return up to which trial a proposal may know what trials came to.

    In lockstep that is all but the `parallel` ones before it, whatever else has ended: what is known does
    not depend on who was faster. Where results are not looked at, there is nothing to wait for.
    """
    if not search.spec.is_lockstep:
        return number
    return max(0, number - search.spec.budget.parallel + 1)


def _can_ask(search: Search) -> bool:
    spec = search.spec
    if len(search.trials) >= spec.budget.max_trials:
        return False
    if search.points or spec.sampler is not Sampler.GRID:
        return True
    return search.num_drawn < grid.size(spec.space)


def _ask(search: Search) -> Ask | None:
    number = len(search.trials)
    seen = num_seen(search, number)
    if search.spec.is_lockstep:
        needed = seen if _looks_at_results(search) else min(seen, HOPELESS_TRIALS)
        if search.num_settled < needed:
            return None
    return Ask(number, seen)


def _looks_at_results(search: Search) -> bool:
    spec = search.spec
    return bool(spec.sampler is Sampler.TPE or spec.budget.max_steps or spec.median is not None)


def _over(search: Search, now_ns: int) -> str:
    """Return why nothing at all is to be done any more, "" if something may be."""
    left_s = seconds_left(search, now_ns)
    if left_s is not None and left_s <= 0:
        return f"its {search.spec.budget.max_seconds:g} seconds are over"
    first = search.trials[: min(HOPELESS_TRIALS, num_seen(search, len(search.trials)))]
    if len(first) < HOPELESS_TRIALS or not all(trial.state in _BAD for trial in first):
        return ""
    return f"the first {HOPELESS_TRIALS} trials all failed, the last of them: {first[-1].reason}"


def _spent(search: Search) -> str:
    """Return why nothing more is proposed, "" if something may be."""
    max_steps = search.spec.budget.max_steps
    if not max_steps:
        return ""
    # what the next trial may know of
    seen = search.trials[: num_seen(search, len(search.trials))]
    is_spent = sum(trial.step for trial in seen) >= max_steps
    return f"its {max_steps} steps are used up" if is_spent else ""


def _end(search: Search, spent: str) -> Ended:
    if search.best is not None:
        return Ended(SearchState.COMPLETED, spent or f"all {len(search.trials)} trials are done")
    if not search.trials:
        return Ended(SearchState.FAILED, f"no trial was made: {spent}")
    if spent:
        return Ended(SearchState.FAILED, spent)
    last = search.trials[-1]
    number = len(search.trials)
    if number == 1:
        return Ended(SearchState.FAILED, f"the only trial gave no value: {last.reason}")
    sentence = f"none of the {number} trials gave a value; the last of them: {last.reason}"
    return Ended(SearchState.FAILED, sentence)
