"""Which of many trials are looked at: the best and the latest, so that a look takes as long in a long search."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

NUM_BEST = 100
NUM_LATEST = 400


def best_and_latest(trials: Sequence[T], rank: Callable[[T], Any]) -> Sequence[T]:
    """Return the latest trials and the best of those before them, in their order.

    Args:
        trials: the oldest first.
        rank: sorts them from the best to the worst, all differently.
    """
    if len(trials) <= NUM_BEST + NUM_LATEST:
        return trials
    older = enumerate(trials[:-NUM_LATEST])
    best = heapq.nsmallest(NUM_BEST, older, key=lambda pair: (rank(pair[1]), pair[0]))
    return [trial for _, trial in sorted(best, key=lambda pair: pair[0])] + list(
        trials[-NUM_LATEST:]
    )
