"""Makes runs: a row and a folder, once for an idempotency key; a fork also gets the checkpoint it starts from."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lab_server.errors import CheckpointNotFound, InvalidState, StoreError
from lab_server.files.home import Home, remove
from lab_server.files.run_folder import RunFolder
from lab_server.model.run import Run, RunParent, RunRequest, RunState
from lab_server.store.protocol import IdempotencyRecord, Store
from lab_server.supervisor.live_runs import LiveRuns
from lab_server.supervisor.run_files import RunFiles
from lab_server.supervisor.runner import Runner


class Creation:
    """Creates runs. Nothing is left of one that is refused. The supervisor owns it."""

    def __init__(
        self,
        live_runs: LiveRuns,
        store: Store,
        home: Home,
        files: RunFiles,
        runner: Runner,
    ) -> None:
        self._live_runs = live_runs
        self._store = store
        self._home = home
        self._files = files
        self._runner = runner

    async def create(self, run: Run, idempotency: IdempotencyRecord | None) -> Run:
        """Create a run, or return the one that the same request has created before.

        Raises:
            AlreadyExists: If the key was used for another request.
            ConfigError: If no slot has the device that it asks for, or there is no such pool.
            NotFound: If the run or the checkpoint that it continues does not exist.
            StoreError: If it cannot be written.
        """
        known = await self._live_runs.with_key(idempotency)
        if known is None:
            is_upload = run.request.upload is not None
            self._runner.check_place(run.request.options, is_upload=is_upload)
            run = replace(run, request=await self._with_parent(run.request))
            known = await self._make(run, idempotency)
        return await self.record(known)

    async def record(self, run: Run) -> Run:
        """Record a run's first event, unless it is there: a server may be killed before it."""
        async with self._live_runs.lock(run.id):
            run = await self._live_runs.get(run.id)
            if run.last_seq:
                return run
            parent = run.request.parent
            reason = f"forked from {parent.run_id} at step {parent.step}" if parent else ""
            return await self._live_runs.change_state(run, RunState.CREATED, reason)

    async def _with_parent(self, request: RunRequest) -> RunRequest:
        if request.parent is None:
            return request
        parent = await self._live_runs.named(request.parent.run_id)
        if parent.experiment != request.experiment:
            raise InvalidState(
                f"a run of {request.experiment!r} cannot continue {parent.id}, "
                f"which is one of {parent.experiment!r}"
            )
        step = request.parent.step or parent.checkpoint_step
        if step is None:
            raise CheckpointNotFound(f"of run {parent.id}", "it has none")
        return replace(request, parent=RunParent(parent.id, step))

    async def _make(self, run: Run, idempotency: IdempotencyRecord | None) -> Run:
        folder = self._home.run_folder(run.experiment, run.id)
        created = None
        try:
            await self._make_folder(run, folder)
            created = await self._store.create(run, idempotency)
        except OSError as error:
            raise StoreError(f"the run's folder cannot be made: {error.strerror}") from error
        finally:
            # also where another request with the key was faster
            if created is None or created.id != run.id:
                await asyncio.to_thread(remove, folder.path)
        return created

    async def _make_folder(self, run: Run, folder: RunFolder) -> None:
        await asyncio.to_thread(folder.make)
        if run.request.upload is not None:
            note = self._home.uploads.note_run
            await asyncio.to_thread(note, run.request.upload, run.id, folder.path)
        if (of := run.request.parent) is not None:
            parent = await self._files.bring(await self._live_runs.get(of.run_id))
            source = self._home.run_folder(parent.experiment, parent.id)
            await asyncio.to_thread(self._home.adopt_checkpoint, source, of.step, folder)
