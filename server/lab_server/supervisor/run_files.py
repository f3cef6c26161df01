"""Runs whose files are in the home of another server: brought to this one when they are needed here."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol
from weakref import WeakValueDictionary

from lab_server.errors import NotFound
from lab_server.files.home import Home, remove
from lab_server.model.run import Run
from lab_server.supervisor.live_runs import LiveRuns


class OtherHomes(Protocol):
    """The homes of the other servers of the store."""

    def has(self, run: Run) -> bool:
        """Whether a run's files are in one of them."""

    async def bring(self, run: Run) -> None:
        """Copy a run's files to this server's home.

        Raises:
            StoreError: If they cannot be written.
            Unavailable: If the server that has them is away.
        """

    async def bring_code(self, run: Run) -> None:
        """Have the code here that a client sent for a run, if one of them has it.

        Raises:
            StoreError: If it cannot be written.
            Unavailable: If a server that may have it is away.
        """

    async def drop(self, run: Run) -> None:
        """Have a run's files removed there, if its server is not away."""


class NoOtherHomes:
    """Of a server that has its store for itself."""

    def has(self, run: Run) -> bool:
        """See OtherHomes."""
        del run
        return False

    async def bring(self, run: Run) -> None:
        """See OtherHomes."""

    async def bring_code(self, run: Run) -> None:
        """See OtherHomes."""

    async def drop(self, run: Run) -> None:
        """See OtherHomes."""


class RunFiles:
    """Moves the files of runs to this server's home. The supervisor owns it.

    Attributes:
        home_id: of this server's home.
    """

    def __init__(self, live_runs: LiveRuns, elsewhere: OtherHomes, home: Home) -> None:
        self.home_id = home.server_id()
        self._home = home
        self._live_runs = live_runs
        self._elsewhere = elsewhere
        # guards a run's files while they are brought
        self._bringing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._dropping: set[asyncio.Task[None]] = set()

    async def bring(self, run: Run) -> Run:
        """Return a run whose files and code are here.

        Files are copied from the other home first, and removed there.

        Raises:
            NotFound: If the run is deleted meanwhile.
            StoreError: If they cannot be written.
            Unavailable: If the server that has them is away.
        """
        await self._elsewhere.bring_code(run)
        if not self._elsewhere.has(run):
            return run
        lock = self._bringing.setdefault(run.id, asyncio.Lock())
        async with lock:
            run = await self._live_runs.get(run.id)
            if not self._elsewhere.has(run):
                return run
            await self._elsewhere.bring(run)
            try:
                here = await self._live_runs.exclusively(run.id, lambda: self._note(run.id))
            except NotFound:
                folder = self._home.run_folder(run.experiment, run.id)
                await asyncio.to_thread(remove, folder.path)
                raise
        self.drop(run)
        return here

    def drop(self, run: Run) -> None:
        """Have a run's files removed where they were."""
        if self._elsewhere.has(run):
            task = asyncio.create_task(self._elsewhere.drop(run))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

    async def _note(self, run_id: str) -> Run:
        run = await self._live_runs.get(run_id)
        return await self._live_runs.commit(replace(run, home=self.home_id))
