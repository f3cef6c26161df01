"""The queue of runs that wait for a slot."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

from lab_server.errors import QueueFull
from lab_server.model.run import Run
from lab_server.model.slot import Wants


class RunQueue:
    """Runs that wait: higher priorities first, and first come, first served within one.

    The supervisor owns it. The order is that of `Run.queue_key`, so a run that is tried again keeps its
    place.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: list[tuple[int, int, str]] = []
        self._wants: dict[str, Wants] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids in order."""
        return (run_id for _, _, run_id in self._waiting)

    def check_room(self) -> None:
        """Check that one more run may wait.

        Raises:
            QueueFull: If the limit is reached.
        """
        if len(self._waiting) >= self.limit:
            raise QueueFull(self.limit)

    def add(self, run: Run) -> None:
        """Add a run, even beyond the limit: it was accepted before."""
        bisect.insort(self._waiting, _key(run))
        self._wants[run.id] = wants_of(run)

    def remove(self, run: Run) -> None:
        """Remove a run, if it is there."""
        if self._wants.pop(run.id, None) is not None:
            self._waiting.remove(_key(run))

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


def _key(run: Run) -> tuple[int, int, str]:
    return -run.request.options.priority, run.queue_key, run.id
