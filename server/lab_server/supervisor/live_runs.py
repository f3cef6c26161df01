"""The runs that have not ended, in memory, and the one way to change a run: commit, then publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from lab_server.errors import NotFound, StoreError
from lab_server.logs import RUNS, Seldom
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunState
from lab_server.store.prefixes import full_id
from lab_server.store.protocol import IdempotencyRecord, Store, StoredEvent
from lab_server.watch.history import query_metrics
from lab_server.watch.hub import Hub

_log = structlog.get_logger(RUNS)

T = TypeVar("T")

_RETRY_S = 1.0


class LiveRuns:
    """The current state of unfinished runs. Whoever changes a run holds its lock."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._unfinished: dict[str, Run] = {}
        self._outages = Seldom()
        # a run is read, changed and written by one task at a time
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __iter__(self) -> Iterator[Run]:
        """Yield the runs that wait or have a trainer."""
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
        """Return an unfinished run, None if the run has ended or does not exist."""
        return self._unfinished.get(run_id)

    def track(self, run: Run) -> None:
        """Add an unfinished run as the store had it."""
        self._unfinished[run.id] = run

    async def get(self, run_id: str) -> Run:
        """Return any run.

        Raises:
            NotFound: If there is none.
        """
        return self._unfinished.get(run_id) or await self._store.get(run_id)

    async def named(self, text: str) -> Run:
        """Return a run by its id, or by a prefix that only one has.

        Raises:
            NotFound: If there is none, or several.
        """
        try:
            return await self.get(text)
        except NotFound:
            return await self.get(await full_id(self._store, "run", text))

    async def with_key(self, idempotency: IdempotencyRecord | None) -> Run | None:
        """Return the run of an earlier request with the same idempotency key, None if there was none.

        Raises:
            AlreadyExists: If that was another request.
        """
        found = await self._store.idempotency_record(idempotency.key) if idempotency else None
        if idempotency is None or found is None:
            return None
        before, run_id = found
        idempotency.check(before.fingerprint)
        return await self.get(run_id)

    async def commit(
        self,
        run: Run,
        new_events: Sequence[EncodedEvent] = (),
        idempotency: IdempotencyRecord | None = None,
    ) -> Run:
        """Write a changed run with its next events, publish the events, and return the run.

        Completes even when the caller is cancelled, so that memory and store agree.

        Raises:
            StoreError: If nothing was written.
        """
        run = run.changed(last_seq=run.last_seq + len(new_events))

        def committed(stored: Sequence[StoredEvent]) -> None:
            if run.state.has_process or run.state is RunState.QUEUED:
                self._unfinished[run.id] = run
            else:
                self._unfinished.pop(run.id, None)
            self._hub.publish(stored)

        await self._store.commit(run, new_events, idempotency, committed)
        return run

    async def change_state(
        self,
        run: Run,
        state: RunState,
        reason: str = "",
        *,
        idempotency: IdempotencyRecord | None = None,
    ) -> Run:
        """Commit a run in a new state, with its state event."""
        return await self.commit(
            replace(run, state=state, reason=reason),
            [events.encode_state(run.attempt, time.time_ns(), state, reason)],
            idempotency,
        )

    async def renew_extremes(self, run_id: str) -> None:
        """Read the extremes of an unfinished run anew where a resume took steps back; with its lock held."""
        run = self._unfinished[run_id]
        if not run.has_stale_extremes:
            return
        try:
            found = await query_metrics(self._store, run_id, max_points=1)
            extremes = {
                s.name: (s.min_value, s.max_value) for s in found if s.min_value <= s.max_value
            }
            await self.commit(replace(run, extremes=extremes, has_stale_extremes=False))
        except StoreError as error:  # they stay stale until more is measured
            self.note_outage(error)

    async def exclusively(self, run_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Hold the run's lock while some work is done, to its end.

        A caller that is cancelled while it waits for the lock has changed nothing.
        """
        async with self.lock(run_id):
            return await run_to_completion(work())

    async def persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Call `write` until it raises no StoreError. It must not be called with a lock held."""
        while True:
            try:
                return await write()
            except StoreError as error:
                self.note_outage(error)
                await asyncio.sleep(_RETRY_S)

    def note_outage(self, error: StoreError) -> None:
        """Log that the store cannot write: once a minute, whoever tries how often."""
        if self._outages.is_due():
            _log.error("cannot write to the store; trying again", error=str(error))


async def run_to_completion(work: Awaitable[T]) -> T:
    """Return the result of some work; when this task is cancelled, wait for the work's end first."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # nobody else may look at its error
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait((task,))
        raise
