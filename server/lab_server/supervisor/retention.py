"""Deletes old runs: those that ended too long ago, and those beyond a number."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from lab_server.errors import InvalidState, NotFound
from lab_server.model.run import Run, RunState
from lab_server.store.protocol import RunQuery, Store

_NS_PER_DAY: Final = 24 * 3600 * 10**9
_ENDED: Final = frozenset(state for state in RunState if state.is_terminal)


@dataclasses.dataclass(frozen=True, slots=True)
class Retention:
    """Which ended runs to keep; 0 sets no limit.

    Attributes:
        days: a run is deleted this long after its end.
        count: how many are kept, those that ended last.
    """

    days: float = 0.0
    count: int = 0

    @property
    def is_on(self) -> bool:
        """True when anything is ever to be deleted."""
        return self.days > 0 or self.count > 0

    def expired(self, runs: Iterable[Run], now_ns: int) -> tuple[str, ...]:
        """Return the ids of the runs to delete, ordered by their end.

        Runs that have not ended are never deleted. A fork's parent may be: the fork has its own
        copy of the checkpoint.
        """
        ended = sorted(
            (run for run in runs if run.state.is_terminal),
            key=lambda run: (run.end_time_ns, run.id),
        )
        num_beyond = max(0, len(ended) - self.count) if self.count else 0
        oldest_ns = now_ns - round(self.days * _NS_PER_DAY) if self.days else 0
        return tuple(
            run.id
            for index, run in enumerate(ended)
            if index < num_beyond or run.end_time_ns < oldest_ns
        )

    async def apply(
        self,
        store: Store,
        delete: Callable[[str], Awaitable[None]],
        now_ns: int,
        is_needed: Callable[[Run], bool] = lambda _: False,
    ) -> tuple[str, ...]:
        """Delete the expired runs and return their ids.

        Args:
            store: whose runs.
            delete: deletes a run with its files: `Supervisor.delete`.
            now_ns: the time to count from, Unix time.
            is_needed: whether a run, given without its metrics, is not to be deleted as yet.
        """
        if not self.is_on:
            return ()
        deleted = []
        ended = await _ended_runs(store)
        needed = {run.id for run in ended if is_needed(run)}
        for run_id in self.expired(ended, now_ns):
            if run_id in needed:
                continue
            # somebody deleted or resumed it meanwhile
            with contextlib.suppress(NotFound, InvalidState):
                await delete(run_id)
                deleted.append(run_id)
        return tuple(deleted)


async def _ended_runs(store: Store) -> list[Run]:
    # without their metrics: all are in memory at once
    query = RunQuery(states=_ENDED, limit=1000, metrics=frozenset())
    page = await store.list(query)
    runs = list(page.runs)
    while page.next_after:
        page = await store.list(dataclasses.replace(query, after=page.next_after))
        runs += page.runs
    return runs
