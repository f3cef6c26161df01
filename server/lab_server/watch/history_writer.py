"""Keeps runs' histories up to their logs, and the logs small: behind the commits, never in their way.

What is not written yet, or is lost, only makes a query slower: it reads the rest from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

import structlog

from lab_server.errors import DamagedHistory, NotFound, StoreError
from lab_server.logs import RUNS, Seldom
from lab_server.messages.events import decode_state
from lab_server.store.protocol import NewSeriesChunk, Store, StoredEvent
from lab_server.watch.history import drop_damaged
from lab_server.watch.tails import new_fold, read_on

if TYPE_CHECKING:
    from lab_server.watch.history_plan import Plan

_log = structlog.get_logger(RUNS)

MAX_BEHIND: Final = 4096
"""So many events of a run that trains are left to its queries: about 20 ms of them."""

_EVENTS_AT_ONCE: Final = 16_384
_RETRY_S: Final = 60.0


class HistoryWriter:
    """Folds and compacts a run's log when it has ended, and whenever it has grown by so many events.

    Lives in the event loop's thread; the work itself is done in others.
    """

    def __init__(self, store: Store, max_behind: int = MAX_BEHIND) -> None:
        self._store = store
        self._max_behind = max_behind
        self._due: dict[str, None] = {}
        self._is_due = asyncio.Event()

    def note(self, events: Sequence[StoredEvent]) -> None:
        """Take note of events that were added to a run's log."""
        for event in events:
            has_ended = event.kind == "state" and decode_state(event.payload).state.is_terminal
            if has_ended or event.seq % self._max_behind == 0:
                self._due[event.run_id] = None
                self._is_due.set()

    async def run(self) -> None:
        """Write until cancelled, first what an earlier server has left."""
        outages = Seldom()
        while True:
            try:
                # what failed before comes behind what waits
                self._due |= dict.fromkeys(await self._store.runs_with_history_behind())
                while True:
                    while self._due:
                        run_id = next(iter(self._due))
                        del self._due[run_id]
                        await self._try_to_write(run_id)
                    self._is_due.clear()
                    await self._is_due.wait()
            except StoreError as error:
                if outages.is_due():
                    _log.error("cannot write a history; trying again", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def write(self, run_id: str) -> None:
        """Fold what a run's log has beyond its history, and compact it."""
        with contextlib.suppress(NotFound):  # it was deleted
            last_seq = (await self._store.get(run_id)).last_seq
            while await self._fold(run_id, last_seq):
                pass
            await self._store.compact(run_id, last_seq)

    async def _try_to_write(self, run_id: str) -> None:
        """Do what `write` does; one run that cannot be written keeps no other from its turn.

        Raises:
            StoreError: If the store could not read or write.
        """
        try:
            await self.write(run_id)
        except StoreError:
            raise
        except Exception:
            _log.exception("cannot write a history; queries read the log instead", run=run_id)

    async def _fold(self, run_id: str, last_seq: int) -> bool:
        """Fold some more events; False when there is nothing to do."""
        # numpy takes 0.1 s: not in the event loop
        plans = (await asyncio.to_thread(import_module, "lab_server.watch.history_plan")).plans
        history = await self._store.history(run_id)
        if history.last_seq >= last_seq:
            return False
        end = min(last_seq, history.last_seq + _EVENTS_AT_ONCE)
        fold = new_fold()
        await read_on(self._store, run_id, fold, history.last_seq, end)
        found = await asyncio.to_thread(plans, history.chunks, fold.tail(), is_filling=True)
        merged = [chunk.id for plan in found.values() for chunk in plan.merged]
        dropped = [chunk.id for plan in found.values() for chunk in plan.dropped]
        data = await self._store.chunk_data(merged, "points")
        if len(data) < len(merged):
            return True  # a query found the history damaged, and dropped it
        try:
            added = await asyncio.to_thread(_new_chunks, found, data)
        except DamagedHistory as error:
            await drop_damaged(self._store, run_id, error)
            return True
        return await self._store.write_history(
            run_id, history.last_seq, end, [*merged, *dropped], added
        )


def _new_chunks(found: dict[str, Plan], data: dict[int, bytes]) -> list[NewSeriesChunk]:
    from lab_server.watch.chunks import make_chunks

    return [
        chunk
        for name, plan in found.items()
        if plan.merged or len(plan.new[0])
        for chunk in make_chunks(name, *plan.points(data))
    ]
