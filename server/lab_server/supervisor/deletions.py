"""Deletes runs with their files: no run is shown without them, and a full disk is no obstacle.

A run's folder goes to the trash first. Its place there says, also to the next server, that something of
the run may be left, until nothing is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from lab_server.errors import NotFound, StoreError
from lab_server.files.home import Home, empty, remove
from lab_server.logs import RUNS
from lab_server.model.run import Run
from lab_server.processes.patience import seen
from lab_server.store.protocol import Store
from lab_server.supervisor.live_runs import LiveRuns
from lab_server.watch.hub import Hub

_log = structlog.get_logger(RUNS)


class Deletions:
    """Deletes runs; whoever asks for it holds the run's lock."""

    def __init__(self, live_runs: LiveRuns, store: Store, hub: Hub, home: Home) -> None:
        self._live_runs = live_runs
        self._store = store
        self._hub = hub
        self._home = home
        self._tasks: set[asyncio.Task[None]] = set()

    async def start_up(self) -> None:
        """Finish what an earlier server has left; what a full disk does not let be deleted stays whole."""
        await asyncio.to_thread(self._home.prepare)
        for trash in await seen(self._home.pending_deletions):
            try:
                await self.delete(await self._store.get(trash.name))
            except NotFound:
                self._purge_later(trash)
            except StoreError as error:
                _log.error("cannot delete a run", run=trash.name, error=str(error))

    async def delete(self, run: Run) -> None:
        """Delete a run.

        Raises:
            StoreError: If nothing was deleted.
        """
        try:
            trash = await self._remove_row(run)
        except StoreError:
            # a full disk: the space that deleting takes is far less than what it frees
            if not await asyncio.to_thread(self._home.reserve.release):
                raise
            try:
                trash = await self._remove_row(run)
            except StoreError:
                await asyncio.to_thread(self._home.reserve.fill)
                raise
        self._hub.forget(run.id)
        try:
            await self._purge(trash)
        except StoreError as error:
            self._live_runs.note_outage(error)
            self._purge_later(trash)

    async def shut_down(self) -> None:
        """Leave what is not done to the next server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _remove_row(self, run: Run) -> Path:
        """Move a run's files to the trash and its row out of the store, both or neither."""
        folder = self._home.run_folder(run.experiment, run.id)
        try:
            trash = await asyncio.to_thread(self._home.move_to_trash, folder)
        except OSError as error:
            raise StoreError(f"the run's files cannot be deleted: {error.strerror}") from error
        try:
            await self._store.delete(run.id)
        except StoreError:
            await asyncio.to_thread(trash.rename, folder.path)
            raise
        return trash

    async def _purge(self, trash: Path) -> None:
        """Remove what is left of a run whose row is gone: its files, and then its events."""
        await asyncio.to_thread(empty, trash)
        await self._store.purge(trash.name)
        await asyncio.to_thread(remove, trash)
        await asyncio.to_thread(self._home.reserve.fill)

    def _purge_later(self, trash: Path) -> None:
        task = asyncio.create_task(self._live_runs.persist(lambda: self._purge(trash)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
