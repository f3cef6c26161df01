"""The queue of runs that wait for a slot."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

from lab_server.errors import QueueFull
from lab_server.model.run import Run


class RunQueue:
    """Runs that wait: higher priorities first, and first come, first served within one.

    The supervisor owns it. The order is that of `Run.queue_key`, so a run that is tried again keeps its
    place.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: list[tuple[int, int, str]] = []
        self._devices: dict[str, str] = {}

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
        self._devices[run.id] = run.request.options.device

    def remove(self, run: Run) -> None:
        """Remove a run, if it is there."""
        if self._devices.pop(run.id, None) is not None:
            self._waiting.remove(_key(run))

    def position(self, run_id: str) -> int:
        """Return the run's place, from 1; 0 when it does not wait."""
        return next((place for place, waiting in enumerate(self, 1) if waiting == run_id), 0)

    def first(self, has_slot: Callable[[str], bool]) -> str | None:
        """Return the first run whose device has a slot: a run that waits for a GPU blocks no other."""
        return next((run_id for run_id in self if has_slot(self._devices[run_id])), None)


def _key(run: Run) -> tuple[int, int, str]:
    return -run.request.options.priority, run.queue_key, run.id
