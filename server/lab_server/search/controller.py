"""Takes one search from where its log ends to its end: decide, write it down, carry it out.

The log is written before anything is done, and what is done may be done again. So wherever a server is
killed, the next one reads the same log and goes on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from lab_core.errors import ConfigError
from lab_server.errors import (
    CannotBeChecked,
    LimitReached,
    NotFound,
    QueueFull,
    StoreError,
    Unavailable,
)
from lab_server.executors.catalogue import Catalogue
from lab_server.messages import search_log
from lab_server.messages.searches import record_of
from lab_server.model.search import SearchState, TrialState
from lab_server.model.search_log import Asked, Ended, Entry, LogEntry, Started, Told
from lab_server.search import policy, sampling
from lab_server.search.fold import Search, Trial
from lab_server.search.loading import load
from lab_server.search.policy import Ask
from lab_server.search.seeds import trial_seed
from lab_server.search.trial_runs import TrialRuns
from lab_server.store import SearchStore
from lab_server.supervisor.live_runs import run_to_completion

_log = structlog.get_logger("lab_server.search")

_RETRY_S = 1.0
_LOOK_S = 30.0
_WAITING = (CannotBeChecked, LimitReached, QueueFull, Unavailable)
_PASSING = (*_WAITING, StoreError)
"""What goes by: a full queue, a full disk, experiments that are being loaded, or edited and broken as yet."""


class Controller:
    """The one writer of a search's log. Used by the event loop's thread only.

    Attributes:
        search: as its log tells.
        obstacle: why it does not go on for now, "" while it does.

    Args:
        search: as its log tells.
        store: that keeps the log.
        trial_runs: carries out what the log says of trials.
        catalogue: knows the experiment.
        publish: is called after entries are in the store, and without any when the obstacle has changed.
    """

    def __init__(
        self,
        search: Search,
        store: SearchStore,
        trial_runs: TrialRuns,
        catalogue: Catalogue,
        publish: Callable[[Controller, Sequence[Entry]], None],
    ) -> None:
        self.search = search
        self.obstacle = ""
        self._store, self._trial_runs, self._catalogue = store, trial_runs, catalogue
        self._publish = publish
        self._has_news = asyncio.Event()
        # entries are decided and written by one task at a time
        self._lock = asyncio.Lock()
        # whether `search` may have entries that the store has not
        self._is_stale = False

    def wake(self) -> None:
        """Look again at what there is to do: a run has changed, say."""
        self._has_news.set()

    async def append(self, decide: Callable[[Search], Sequence[Entry]]) -> None:
        """Write what somebody asked for, given the search as it then is.

        Raises:
            StoreError: If nothing was written.
        """
        async with self._writing():
            await self._append(decide(self.search))
        self.wake()

    async def run(self) -> None:
        """Work until the search has ended; what goes by is tried again, what does not ends it."""
        failure = ""
        while not self._has_ended:
            try:
                await (self._fail(failure) if failure else self._work())
                continue
            except _PASSING as error:
                if str(error) != self.obstacle:
                    _log.info("a search waits", search=self.search.id, reason=str(error))
                self._note_obstacle(str(error))
            except Exception as error:
                _log.exception("a search failed", search=self.search.id)
                if not failure:
                    failure = f"the server failed: {error!r}; its log has more"
                    continue
            await asyncio.sleep(_RETRY_S)

    @property
    def _has_ended(self) -> bool:
        return self.search.state.is_terminal and not self._is_stale

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Have the search for oneself, as the store has it.

        Raises:
            StoreError: If it had to be read again, and cannot be.
        """
        async with self._lock:
            if self._is_stale:
                await self._reload()
            yield

    async def _reload(self) -> None:
        self.search = await load(self._store, self.search.id)
        self._is_stale = False

    async def _work(self) -> None:
        while not self._has_ended:
            self._has_news.clear()
            has_grown, obstacle = await self._advance_trials()
            if await self._decide() or has_grown:
                continue
            if obstacle is not None:
                raise obstacle
            self._note_obstacle("")
            await self._wait()

    def _note_obstacle(self, obstacle: str) -> None:
        if obstacle != self.obstacle:
            self.obstacle = obstacle
            self._publish(self, ())

    async def _wait(self) -> None:
        """Wait for news; look again now and then, as nothing tells of a run that was deleted."""
        left_s = policy.seconds_left(self.search, time.time_ns())
        wait_s = _LOOK_S if left_s is None or left_s <= 0 else min(left_s, _LOOK_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._has_news.wait()

    async def _advance_trials(self) -> tuple[bool, Exception | None]:
        """Do what is next for each running trial.

        Returns:
            Whether the log has grown, and what one of them waits for, which holds up no other.
        """
        has_grown, obstacle = False, None
        for number in list(self.search.running):
            async with self._writing():
                trial = self.search.running.get(number)
                try:
                    entry = await self._advance(trial) if trial is not None else None
                except _WAITING as error:
                    obstacle = obstacle or error
                    continue
                if entry is not None:
                    await self._append([entry])
                    has_grown = True
        return has_grown, obstacle

    async def _advance(self, trial: Trial) -> Entry | None:
        try:
            return await self._trial_runs.advance(self.search, trial)
        except CannotBeChecked:
            raise
        except (ConfigError, NotFound) as error:
            # since it was proposed, the experiment or the device that it wants has gone
            await self._refuse_if_broken(error)
            return Told(
                trial.number, trial.rung, TrialState.FAILED, step=trial.step, reason=str(error)
            )

    async def _decide(self) -> bool:
        """Decide one thing and write it down; return whether there was one."""
        async with self._writing():
            decision = policy.decide(self.search, time.time_ns())
            if decision is None:
                return False
            if isinstance(decision, Ask):
                await self._append(await self._ask(decision))
            else:
                await self._append([decision])
            return True

    async def _ask(self, ask: Ask) -> Sequence[Entry]:
        search = self.search
        point = search.points[0] if search.points else None
        if point is not None and set(point) == set(search.spec.space):
            params, sampler = dict(point), "enqueued"
        else:
            # a thread: a proposal takes tens of milliseconds
            params, sampler = await asyncio.to_thread(
                sampling.propose, search, ask.number, ask.num_seen
            )
            params |= point or {}
        asked = Asked(
            ask.number,
            params,
            trial_seed(search.spec.seed, ask.number),
            num_seen=ask.num_seen,
            seen_seq=search.last_seq,
            sampler=sampler,
            is_enqueued=point is not None,
        )
        try:
            await self._catalogue.plan(
                search.spec.experiment,
                {**search.spec.fixed, **params},
                search.spec.run_order,
                search.spec.models,
            )
        except CannotBeChecked:
            raise
        except ConfigError as error:
            return [asked, Told(ask.number, 0, TrialState.INFEASIBLE, reason=str(error))]
        except NotFound as error:
            await self._refuse_if_broken(error)
            return [Ended(SearchState.FAILED, f"the experiment is gone: {error}")]
        return [asked]

    async def _refuse_if_broken(self, error: ConfigError | NotFound) -> None:
        """Take nothing for gone while a module that may have it cannot be imported.

        Raises:
            Unavailable: If there is such a module.
        """
        why = await self._catalogue.broken() if isinstance(error, NotFound) else ""
        if why:
            raise Unavailable(f"{error}; {why}") from error

    async def _append(self, entries: Sequence[Entry]) -> None:
        if entries:
            await run_to_completion(self._commit(entries))

    async def _commit(self, entries: Sequence[Entry]) -> None:
        search, time_ns = self.search, time.time_ns()
        log = [
            LogEntry(seq, time_ns, entry) for seq, entry in enumerate(entries, search.last_seq + 1)
        ]
        self._is_stale = True
        try:
            for log_entry in log:
                search.apply(log_entry)
            await self._store.append(record_of(search.view()), list(map(search_log.encode, log)))
        except Exception:
            # without what was not written; if the store cannot be read either, before anything else is done
            with contextlib.suppress(StoreError):
                await self._reload()
            raise
        self._is_stale = False
        self._publish(self, entries)
        for entry in entries:
            self._say(entry)

    async def _fail(self, reason: str) -> None:
        async with self._writing():
            if not self.search.state.is_terminal:
                await self._append([Ended(SearchState.FAILED, reason)])

    def _say(self, entry: Entry) -> None:
        match entry:
            case Ended(state, reason):
                _log.info("search ended", search=self.search.id, state=state.value, reason=reason)
            case Started(number, run_id):
                _log.info("trial started", search=self.search.id, trial=number, run=run_id)
            case _:
                pass
