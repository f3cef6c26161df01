"""The queue of runs that wait for a slot."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

from lab_server.errors import QueueFull
from lab_server.model.run import Run
from lab_server.model.slot import Wants

_Key = tuple[int, bool, int, int, str]
"""Priority, the larger the later; whether it is a trial; its search's turn; the run's own place; its id."""


class RunQueue:
    """Runs that wait: higher priorities first, and first come, first served within one.

    Trials of searches wait behind all other runs of their priority, and searches take turns: each gets
    as many slots as the next one, however many trials it has.

    The supervisor owns it. The order is that of `Run.queue_key`, so a run that is tried again keeps its
    place; a trial waits for its search's next turn.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: list[_Key] = []
        self._keys: dict[str, _Key] = {}
        self._wants: dict[str, Wants] = {}
        self._turn = 0
        self._last_turns: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids in order."""
        return (key[-1] for key in self._waiting)

    def check_room(self, run: Run) -> None:
        """Check that one more run may wait; trials keep nobody else's run out.

        Raises:
            QueueFull: If the limit is reached.
        """
        is_trial = run.request.trial is not None
        num_waiting = len(self) if is_trial else sum(not key[1] for key in self._waiting)
        if num_waiting >= self.limit:
            raise QueueFull(self.limit)

    def add(self, run: Run) -> None:
        """Add a run, even beyond the limit: it was accepted before."""
        key = self._key(run)
        bisect.insort(self._waiting, key)
        self._keys[run.id] = key
        self._wants[run.id] = wants_of(run)

    def remove(self, run_id: str) -> None:
        """Remove a run, if it is there."""
        key = self._keys.pop(run_id, None)
        if key is not None:
            del self._wants[run_id]
            self._waiting.remove(key)

    def take(self, run_id: str) -> None:
        """Remove a run that gets a slot now."""
        self._turn = max(self._turn, self._keys[run_id][2])
        self._last_turns = {s: turn for s, turn in self._last_turns.items() if turn > self._turn}
        self.remove(run_id)

    def position(self, run_id: str) -> int:
        """Return the run's place, from 1; 0 when it does not wait."""
        return next((place for place, waiting in enumerate(self, 1) if waiting == run_id), 0)

    def wants(self, run_id: str) -> Wants:
        """Return what a waiting run needs of its slot."""
        return self._wants[run_id]

    def first(self, has_slot: Callable[[Wants], bool]) -> str | None:
        """Return the first run that can have a slot: a run that waits for a GPU blocks no other."""
        refused: set[Wants] = set()
        for run_id in self:
            wants = self._wants[run_id]
            if wants not in refused:
                if has_slot(wants):
                    return run_id
                refused.add(wants)
        return None

    def _key(self, run: Run) -> _Key:
        priority, trial = -run.request.options.priority, run.request.trial
        if trial is None:
            return priority, False, 0, run.queue_key, run.id
        # start-time fair queueing: a search that had no trial waiting begins with the turn that is now
        turn = max(self._turn, self._last_turns.get(trial.search_id, 0)) + 1
        self._last_turns[trial.search_id] = turn
        return priority, True, turn, run.queue_key, run.id


def wants_of(run: Run) -> Wants:
    """Return what a run needs of its slot."""
    options = run.request.options
    return Wants(
        options.device,
        options.pool,
        run.experiment,
        run.planned_digest,
        is_upload=run.request.upload is not None,
    )
