"""The owner of every search: creates, changes, watches and deletes them, and keeps one controller each."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest, InvalidState, Unavailable
from lab_server.executors.catalogue import Catalogue
from lab_server.files.home import new_run_id
from lab_server.messages import search_log
from lab_server.messages.searches import record_of
from lab_server.model.run import Run
from lab_server.model.search import Budget, SearchRecord, SearchSpec, SearchState, SearchView
from lab_server.model.search_log import (
    BudgetChanged,
    Created,
    Enqueued,
    Entry,
    LogEntry,
    Params,
    Paused,
    Resumed,
    Started,
    Stopping,
    Taken,
    TakenOver,
)
from lab_server.search import policy
from lab_server.search.controller import Controller
from lab_server.search.fold import Search
from lab_server.search.loading import load
from lab_server.search.trial_runs import TrialRuns
from lab_server.store import (
    IdempotencyRecord,
    SearchQuery,
    SearchStore,
    Store,
    StoredEntry,
    StoredEvent,
)
from lab_server.store.prefixes import full_id
from lab_server.supervisor.live_runs import run_to_completion
from lab_server.supervisor.protocol import RunControl
from lab_server.watch.hub import HEARTBEAT_S, Hub

_log = structlog.get_logger("lab_server.search")

_READ_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class News:
    """What a watcher of a search is told.

    Attributes:
        entries: the log's next ones.
        waits_for: why the search does not go on for now, "" while it does.
    """

    entries: Sequence[StoredEntry]
    waits_for: str


class Searches:
    """Every search of a server. Used by the event loop's thread only.

    Args:
        store: keeps the searches' logs.
        runs: creates, starts and stops runs.
        run_store: has the runs' logs.
        catalogue: knows the experiments.
        hub: tells of every event of a run.
        max_runs: how many runs of one owner may wait or train.
        heartbeat_s: the time between two heartbeats of an idle watcher.
    """

    def __init__(
        self,
        *,
        store: SearchStore,
        runs: RunControl,
        run_store: Store,
        catalogue: Catalogue,
        hub: Hub,
        max_runs: int = 1000,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._store, self._catalogue, self._heartbeat_s = store, catalogue, heartbeat_s
        self._trial_runs = TrialRuns(runs, run_store, catalogue, max_runs=max_runs)
        self._controllers: dict[str, Controller] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._by_run: dict[str, Controller] = {}
        self._watchers: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        # held while a search gets a controller, is changed or deleted: its log has one writer
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._is_closed = False
        hub.observe(self._note)

    async def start_up(self) -> None:
        """Go on with every search that has not ended, from where its log ends; again is fine."""
        for record in await self._store.unfinished():
            async with self._lock(record.id):
                if record.id in self._controllers:  # it was created meanwhile
                    continue
                self._control(await load(self._store, record.id))
            _log.info("went on with a search", search=record.id, entries=record.last_seq)

    def close(self) -> None:
        """End all watches with Unavailable."""
        self._is_closed = True
        for watcher in self._watchers.values():
            watcher.set()

    async def shut_down(self) -> None:
        """Let go of all searches; the next server goes on with them."""
        self.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- state

    def live(self) -> Sequence[SearchView]:
        """Return the searches that have not ended."""
        return [controller.search.view() for controller in self._controllers.values()]

    def needs(self, run: Run) -> bool:
        """Return whether a run is a trial of a search that has not ended: it may go on, or be compared."""
        return run.request.trial is not None and run.request.trial.search_id in self._controllers

    def obstacle(self, search_id: str) -> str:
        """Return why a search does not go on for now, "" while it does."""
        controller = self._controllers.get(search_id)
        return controller.obstacle if controller else ""

    async def find(self, search_id: str) -> SearchRecord:
        """Return a search by its id, or by a prefix that only one has.

        Raises:
            NotFound: If there is none, or several.
        """
        return await self._store.get(await full_id(self._store, "search", search_id))

    async def list(self, query: SearchQuery) -> tuple[SearchRecord, ...]:
        """Return searches, the newest first."""
        return await self._store.list(query)

    async def folded(self, search_id: str) -> Search:
        """Return a search as its log tells, not to be changed.

        Raises:
            NotFound: If there is none.
        """
        controller = self._controllers.get(search_id)
        return controller.search if controller else await load(self._store, search_id)

    async def watch(self, search_id: str, after_seq: int) -> AsyncIterator[News]:
        """Yield the log's entries after a seq in batches, then live, up to the search's end.

        One without entries is a heartbeat, or tells that what the search waits for has changed.

        Raises:
            NotFound: If there is no such search, or it is deleted meanwhile.
            Unavailable: If the server stops.
        """
        cursor, told = after_seq, ""
        while True:
            if self._is_closed:
                raise Unavailable("the server is shutting down; watch again when it is back")
            # taken before reading: what is written from here on wakes us
            news = self._watchers.setdefault(search_id, asyncio.Event())
            record = await self._store.get(search_id)
            entries = await self._store.entries(search_id, cursor, _READ_ENTRIES)
            waits_for = self.obstacle(search_id)
            if entries or waits_for != told:
                cursor, told = (entries[-1].seq if entries else cursor), waits_for
                yield News(entries, waits_for)
            elif record.state.is_terminal and record.last_seq <= cursor:
                return
            else:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        await news.wait()
                except TimeoutError:
                    yield News((), waits_for)

    # ---- changes

    async def created_with(self, idempotency: IdempotencyRecord) -> SearchRecord | None:
        """Return the search that was created with a key, None if none was.

        Raises:
            AlreadyExists: If the key was used for another request.
        """
        return await self._store.with_key(idempotency)

    async def create(
        self,
        spec: SearchSpec,
        *,
        owner: str,
        idempotency: IdempotencyRecord | None,
        taken: Sequence[Taken] = (),
    ) -> SearchRecord:
        """Create a search and begin with it, or return the one of the same key.

        Args:
            spec: what is asked for.
            owner: who asked.
            idempotency: the same key with the same fingerprint gives the same search.
            taken: what it takes over from its `warm_start`; in its log from the first moment on.

        Raises:
            AlreadyExists: If the key was used for another request.
        """
        first: list[Entry] = [Created(spec)]
        first += [TakenOver(tuple(taken))] if spec.warm_start else []
        time_ns = time.time_ns()
        payloads = [
            search_log.encode(LogEntry(seq, time_ns, entry)) for seq, entry in enumerate(first, 1)
        ]
        # decoded: the search is what its log says, for this server as for the next one
        search = Search(new_run_id(), owner, list(map(search_log.decode, payloads)))

        async def create() -> SearchRecord:
            record = await self._store.create(record_of(search.view()), payloads, idempotency)
            if record.id == search.id:
                self._control(search)
            return record

        return await run_to_completion(create())

    async def pause(self, search_id: str) -> SearchRecord:
        """Propose nothing more until it is resumed; what trains goes on."""

        def decide(search: Search) -> Sequence[Entry]:
            if search.state is SearchState.PAUSED:
                return ()
            _require(search, SearchState.RUNNING, "paused")
            return [Paused("paused on request")]

        return await self._change(search_id, decide)

    async def resume(self, search_id: str) -> SearchRecord:
        """Let a paused search go on."""

        def decide(search: Search) -> Sequence[Entry]:
            if search.state is SearchState.RUNNING:
                return ()
            _require(search, SearchState.PAUSED, "resumed")
            return [Resumed()]

        return await self._change(search_id, decide)

    async def change_budget(
        self, search_id: str, change: Callable[[Budget], Budget]
    ) -> SearchRecord:
        """Change the budget; a search that has ended goes on with a larger one.

        Raises:
            InvalidRequest: If it is a grid with fewer points than it is to have trials.
        """

        def decide(search: Search) -> Sequence[Entry]:
            before, budget = search.spec.budget, change(search.spec.budget)
            if budget.max_trials > before.max_trials:
                problem = policy.extension_problem(search, budget.max_trials)
                if problem:
                    raise InvalidRequest([Violation("budget.max_trials", problem)])
            return () if budget == before else [BudgetChanged(budget)]

        return await self._change(search_id, decide, revive=True)

    async def stop(self, search_id: str, *, with_trials: bool) -> SearchRecord:
        """Ask a search to stop; returns when that is recorded.

        Raises:
            InvalidState: If it has ended.
        """

        def decide(search: Search) -> Sequence[Entry]:
            before = search.stopping
            if before is not None and before.with_trials >= with_trials:
                return ()
            return [Stopping(with_trials, "stopped on request")]

        return await self._change(search_id, decide)

    async def enqueue(self, search_id: str, points: Sequence[Params]) -> SearchRecord:
        """Put points in front of what is proposed next.

        Raises:
            InvalidState: If it has ended, or proposes nothing more.
        """

        def decide(search: Search) -> Sequence[Entry]:
            why = policy.why_no_more(search, time.time_ns())
            if why:
                raise InvalidState(f"search {search_id} takes no points any more: {why}")
            return [Enqueued(tuple(points))]

        return await self._change(search_id, decide)

    async def delete(self, search_id: str) -> None:
        """Delete a search that has ended; its runs stay.

        Raises:
            InvalidState: If it has not ended.
        """
        async with self._lock(search_id):
            record = await self._store.get(search_id)
            if not record.state.is_terminal:
                raise InvalidState(
                    f"search {search_id} cannot be deleted: it is {record.state.word}; stop it first"
                )
            await self._store.delete(search_id)
        self._wake(search_id)

    # ---- steps

    def _lock(self, search_id: str) -> asyncio.Lock:
        return self._locks.setdefault(search_id, asyncio.Lock())

    def _controller(self, search: Search) -> Controller:
        return Controller(search, self._store, self._trial_runs, self._catalogue, self._on_entries)

    def _control(self, search: Search) -> None:
        controller = self._controllers[search.id] = self._controller(search)
        for trial in search.trials:  # also those that are paused: they may be promoted
            self._by_run[trial.run_id] = controller
        # its log lines are not those of the call that created it
        context = contextvars.Context()
        self._tasks[search.id] = asyncio.create_task(
            self._run(controller), name=search.id, context=context
        )

    async def _run(self, controller: Controller) -> None:
        await controller.run()
        search = controller.search
        if self._controllers.get(search.id) is controller:
            del self._controllers[search.id], self._tasks[search.id]
        for trial in search.trials:
            self._by_run.pop(trial.run_id, None)

    async def _change(
        self,
        search_id: str,
        decide: Callable[[Search], Sequence[Entry]],
        *,
        revive: bool = False,
    ) -> SearchRecord:
        async with self._lock(search_id):
            await run_to_completion(self._write(search_id, decide, revive))
        return await self._store.get(search_id)

    async def _write(
        self, search_id: str, decide: Callable[[Search], Sequence[Entry]], revive: bool
    ) -> None:
        """Write what somebody asked for; a search that goes on by it gets a controller."""
        controller = self._controllers.get(search_id)
        if controller is None and revive:
            controller = self._controller(await load(self._store, search_id))
        if controller is None:
            record = await self._store.get(search_id)
            if not record.state.is_terminal:
                raise Unavailable("this server does not lead the searches yet; try again")
            raise InvalidState(f"search {search_id} has ended: it is {record.state.word}")

        def decide_unless_ended(search: Search) -> Sequence[Entry]:
            # asked when what is being written, which may be the end, is written
            if search.state.is_terminal and not revive:
                raise InvalidState(f"search {search_id} has ended: it is {search.state.word}")
            return decide(search)

        await controller.append(decide_unless_ended)
        if search_id not in self._controllers and not controller.search.state.is_terminal:
            self._control(controller.search)

    def _note(self, events: Sequence[StoredEvent]) -> None:
        """Wake the searches whose trials' runs have changed."""
        for event in events:
            controller = self._by_run.get(event.run_id)
            if controller is None:
                continue
            is_judged = controller.search.spec.median is not None
            if event.kind == "state" or (event.kind == "metrics" and is_judged):
                controller.wake()

    def _on_entries(self, controller: Controller, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, Started):
                self._by_run[entry.run_id] = controller
        self._wake(controller.search.id)

    def _wake(self, search_id: str) -> None:
        watcher = self._watchers.pop(search_id, None)
        if watcher is not None:
            watcher.set()


def _require(search: Search, state: SearchState, what: str) -> None:
    if search.state is not state:
        raise InvalidState(
            f"search {search.id} cannot be {what}: it is {search.state.word}, not {state.word}"
        )
