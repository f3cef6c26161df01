"""The runs that have not ended, in memory, and the one way to change a run: commit, then publish."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar
from weakref import WeakValueDictionary

from lab_server.errors import StoreError
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunState
from lab_server.store.protocol import IdempotencyRecord, Store
from lab_server.watch.hub import Hub

_log = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_S = 1.0


class Journal:
    """Keeps the current state of unfinished runs. Who changes a run holds its lock."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._unfinished: dict[str, Run] = {}
        # a run is read, changed and written by one task at a time
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __iter__(self) -> Iterator[Run]:
        """Yield the runs that have not ended: they wait, or have a trainer."""
        return iter(tuple(self._unfinished.values()))

    def lock(self, run_id: str) -> asyncio.Lock:
        """Return the lock that guards a run's changes."""
        lock = self._locks.get(run_id)
        if lock is None:
            lock = self._locks[run_id] = asyncio.Lock()
        return lock

    def current(self, run_id: str) -> Run:
        """Return an unfinished run."""
        return self._unfinished[run_id]

    def find(self, run_id: str) -> Run | None:
        """Return an unfinished run, None when it is none."""
        return self._unfinished.get(run_id)

    def keep(self, run: Run) -> None:
        """Take in a run as the store had it."""
        self._unfinished[run.id] = run

    async def get(self, run_id: str) -> Run:
        """Return any run.

        Raises:
            NotFound: If there is none.
        """
        return self._unfinished.get(run_id) or await self._store.get(run_id)

    async def commit(
        self,
        run: Run,
        news: Sequence[EncodedEvent] = (),
        idempotency: IdempotencyRecord | None = None,
    ) -> Run:
        """Write a changed run with its next events, tell the watchers, and return it.

        Goes through to its end also when the caller is cancelled: memory and store stay one.

        Raises:
            StoreError: If nothing was written.
        """
        return await finish(self._commit(run, news, idempotency))

    async def commit_whenever_possible(self, run: Run, news: Sequence[EncodedEvent] = ()) -> Run:
        """Commit as soon as the store can: what happened cannot be refused."""
        return await self.persist(lambda: self.commit(run, news))

    async def change_state(
        self,
        run: Run,
        state: RunState,
        reason: str = "",
        *,
        idempotency: IdempotencyRecord | None = None,
    ) -> Run:
        """Commit a run in a new state, with the event that says so."""
        return await self.commit(
            replace(run, state=state, reason=reason),
            [events.encode_state(run.attempt, time.time_ns(), state, reason)],
            idempotency,
        )

    async def persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write until the store takes it."""
        while True:
            try:
                return await write()
            except StoreError as error:
                _log.error("%s; trying again", error)
                await asyncio.sleep(_RETRY_S)

    async def _commit(
        self, run: Run, news: Sequence[EncodedEvent], idempotency: IdempotencyRecord | None
    ) -> Run:
        run = replace(run, last_seq=run.last_seq + len(news))
        stored = await self._store.commit(run, news, idempotency)
        if run.state.has_process or run.state is RunState.QUEUED:
            self._unfinished[run.id] = run
        else:
            self._unfinished.pop(run.id, None)
        self._hub.publish(stored)
        return run


async def finish(work: Awaitable[T]) -> T:
    """Await the end of some work also when this task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
