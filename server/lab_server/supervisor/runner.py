"""Gives waiting runs a slot and takes each one through its attempts. Owns the queue and the slots."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from lab_core.errors import ConfigError, LabError, Violation
from lab_server.errors import InvalidState, StoreError
from lab_server.executors.protocol import Executor
from lab_server.files.home import Home
from lab_server.files.run_folder import RunFolder
from lab_server.logs import RUNS
from lab_server.model.run import OUT_OF_TIME, Begun, Run, RunOptions, RunState
from lab_server.model.slot import Wants, agent_of
from lab_server.processes.patience import patiently, seen
from lab_server.store.protocol import Store
from lab_server.supervisor.attempt import Attempt
from lab_server.supervisor.conclusion import INTERRUPTED, conclude
from lab_server.supervisor.launching import launch_spec
from lab_server.supervisor.live_runs import LiveRuns
from lab_server.supervisor.options import SupervisorOptions
from lab_server.supervisor.queue import RunQueue
from lab_server.supervisor.records import AttemptResult
from lab_server.supervisor.run_files import RunFiles
from lab_server.supervisor.slot_table import SlotTable
from lab_server.supervisor.time_limit import seconds_trained

_log = structlog.get_logger(RUNS)

_FILES_RETRY_S = 5.0


class Runner:
    """Runs what is queued: each live run is in its queue or has an attempt."""

    def __init__(
        self,
        live_runs: LiveRuns,
        store: Store,
        executor: Executor,
        home: Home,
        options: SupervisorOptions,
        files: RunFiles,
    ) -> None:
        self._live_runs = live_runs
        self._store = store
        self._files = files
        self._executor = executor
        self._home = home
        self._options = options
        self.queue = RunQueue(options.queue_limit)
        self.slots = SlotTable(lambda: executor.slots, executor.obstacle)
        self._attempts: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        # why a run waits for its files, by its id
        self.without_files: dict[str, str] = {}
        executor.observe(self.dispatch)

    def lag_s(self, run_id: str) -> float:
        """Age of the oldest event that is in the run's spool and not in the log."""
        attempt = self._attempts.get(run_id)
        return 0.0 if attempt is None else attempt.lag_s

    def check_place(self, options: RunOptions, *, is_upload: bool) -> None:
        """Refuse a run that no slot can ever have, as things are.

        Args:
            options: of the run.
            is_upload: whether its experiment is in code that a client sent.

        Raises:
            ConfigError: If there is no such pool, no slot has the device, or none takes such code.
        """
        pool, pools = options.pool, self._executor.pools
        if pool and pool not in pools:
            there = f"it has {', '.join(pools)}" if pools else "it has none"
            message = f"this server has no pool {pool!r}; {there}"
            raise ConfigError([Violation("options.pool", message)])
        wants = Wants(options.device, pool, is_upload=is_upload)
        if not self._executor.may_come(wants):
            self.slots.check(wants)

    def enqueue(self, run: Run) -> None:
        """Add a QUEUED run to the queue; it gets a slot when its turn comes."""
        self.queue.add(run)
        self.dispatch()

    def dispatch(self) -> None:
        """Start waiting runs while there are free slots for them."""
        while not self._is_closing:
            run_id = self.queue.first(lambda wants: self.slots.find_free(wants) is not None)
            if run_id is None:
                return
            slot = self.slots.find_free(self.queue.wants(run_id))
            assert slot is not None, "first() found one"
            self.queue.take(run_id)
            queued = self._live_runs.find(run_id)
            if queued is not None:  # else it was stopped just now
                self.slots.take(slot.name, run_id)
                self._spawn(self._start(queued, slot.name), run_id)

    async def adopt(self, run: Run) -> None:
        """Continue a run that an earlier server left; its slot is taken when this returns."""
        self._live_runs.track(run)
        if run.state is RunState.QUEUED:
            self.queue.add(run)
            return
        self.slots.keep(run.slot, run.id)
        folder = self._home.run_folder(run.experiment, run.id)
        begun = Begun(run.slot, run.process, run.spool_offset)
        process = await self._executor.inspect(folder.path, run.attempt, begun)
        # a server with another home has no such file: then its trainer, if it was recorded, is out of reach
        was_launched = run.process is not None or folder.pid_file(run.attempt).exists()
        run = replace(run, process=process)
        self._live_runs.track(run)
        spec = (
            None
            if was_launched or run.is_stop_requested
            else launch_spec(run, folder, self._options, self.slots.num_threads)
        )
        attempt = Attempt(self._live_runs, self._executor, self._options, run, folder, spec)
        if run.is_stop_requested:
            if not await seen(lambda: folder.was_sent(run.attempt, "stop")):
                # the earlier server ended between recording the request and this
                await self._send_stop(run, folder, checkpoint=True)
            attempt.stop_within(self._options.grace_s)
        trainer = "alive" if process else "gone" if was_launched else "never started"
        _log.info("adopted a run", run=run.id, trainer=trainer)
        self._attempts[run.id] = attempt
        self._spawn(self._follow_attempt(run.id, attempt), run.id)

    async def stop(
        self, run_id: str, *, checkpoint: bool, grace_s: float | None, reason: str
    ) -> Run:
        """Ask a run to stop, and end it by signals if it does not stop in time.

        Raises:
            InvalidState: If it has ended.
        """
        return await self._live_runs.exclusively(
            run_id, lambda: self._stop(run_id, checkpoint, grace_s, reason)
        )

    async def save_checkpoint(self, run_id: str) -> Run:
        """Ask a run's trainer for a checkpoint.

        Raises:
            InvalidState: If it has none, or is stopping.
            StoreError: If the request cannot be written.
        """
        return await self._live_runs.exclusively(run_id, lambda: self._save_checkpoint(run_id))

    async def _save_checkpoint(self, run_id: str) -> Run:
        run = await self._live_runs.get(run_id)
        if run.state not in (RunState.STARTING, RunState.RUNNING):
            raise InvalidState(
                f"run {run.id} is {run.state.word}: only a run that trains can save a checkpoint"
            )
        folder = self._home.run_folder(run.experiment, run_id)
        try:
            # the time tells requests apart: an agent takes each line once
            await asyncio.to_thread(folder.send, run.attempt, "checkpoint", at_ns=time.time_ns())
            await self._executor.relay(folder.path, run.attempt)
        except OSError as error:
            raise StoreError(f"the request cannot be written: {error.strerror}") from error
        return run

    async def shut_down(self, *, stop_trainers: bool) -> None:
        """Release all runs; trainers go on, or are interrupted and retried by the next server."""
        self._is_closing = True
        if stop_trainers:
            # agents train on without a server
            here = {id for id in self._attempts if not agent_of(self._live_runs.current(id).slot)}
            for run_id in here:
                self._attempts[run_id].interrupt(self._options.grace_s, INTERRUPTED)
            tasks = {task for task in self._tasks if task.get_name() in here}
            if tasks:
                await asyncio.wait(tasks, timeout=self._options.grace_s + 15)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop(self, run_id: str, checkpoint: bool, grace_s: float | None, reason: str) -> Run:
        run = await self._live_runs.get(run_id)
        if run.state.is_terminal:
            raise InvalidState(f"run {run.id} cannot be stopped: it is already {run.state.word}")
        if not run.state.has_process:
            when = "while it was queued" if run.queue_key else "before it was started"
            stopped = replace(run, queue_key=0, end_time_ns=time.time_ns(), is_stop_requested=True)
            stopped = await self._live_runs.change_state(
                stopped, RunState.STOPPED, f"{reason} {when}"
            )
            self.queue.remove(run.id)
            return stopped
        attempt = self._attempts[run_id]
        if not run.is_stop_requested:
            # recorded before it is sent: what the store refuses is not carried out
            run = await self._live_runs.change_state(
                replace(run, is_stop_requested=True), RunState.STOPPING, reason
            )
            folder = self._home.run_folder(run.experiment, run_id)
            if not await self._send_stop(run, folder, checkpoint=checkpoint):
                grace_s = 0
        attempt.stop_within(self._options.grace_s if grace_s is None else grace_s)
        return run

    async def _send_stop(self, run: Run, folder: RunFolder, *, checkpoint: bool) -> bool:
        send = partial(folder.send, run.attempt, "stop", checkpoint=checkpoint)
        try:
            await patiently(lambda: asyncio.to_thread(send))
            await self._executor.relay(folder.path, run.attempt)
        except OSError as error:
            _log.warning("cannot send the stop command; killing", run=run.id, error=str(error))
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, None], run_id: str) -> None:
        task = asyncio.create_task(work, name=run_id)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("gave up on a run", run=task.get_name(), exc_info=task.exception())

    async def _start(self, queued: Run, slot: str) -> None:
        """Start a run in its slot, as it was when its turn came."""
        attempt, has_files = None, False
        try:
            has_files = await self._has_files(queued)
            if has_files:
                attempt = await self._live_runs.persist(lambda: self._begin_attempt(queued, slot))
        finally:
            if attempt is None:
                self._release(slot, queued.id)
        if attempt is not None:
            await self._follow_attempt(queued.id, attempt)
        elif not has_files:
            await self._wait_for_files(queued)

    async def _has_files(self, queued: Run) -> bool:
        """Bring a run's files here, and note why if that cannot be."""
        run_id = queued.id
        try:
            await self._files.bring(queued)
        except LabError as error:
            if run_id not in self.without_files:
                _log.warning("a run waits for its files", run=run_id, reason=str(error))
            self.without_files[run_id] = str(error)
            return False
        self.without_files.pop(run_id, None)
        return True

    async def _wait_for_files(self, queued: Run) -> None:
        """Put a run whose files cannot be brought now into the queue again, a little later."""
        await asyncio.sleep(_FILES_RETRY_S)
        if waiting := self._still_queued(queued):
            self.enqueue(waiting)
        else:
            self.without_files.pop(queued.id, None)

    def _still_queued(self, queued: Run) -> Run | None:
        """Return a run as it is now; None if it was stopped meanwhile, also where it waits again since."""
        run = self._live_runs.find(queued.id)
        if run is None or run.state is not RunState.QUEUED:
            return None
        return run if run.queue_key == queued.queue_key else None

    async def _begin_attempt(self, queued: Run, slot: str) -> Attempt | None:
        """Commit that a run is STARTING; return its attempt, None if it is not to begin any more."""
        run_id = queued.id
        async with self._live_runs.lock(run_id):
            run = self._still_queued(queued)
            if run is None or self._is_closing:
                return None
            starting = replace(
                run,
                attempt=run.attempt + 1,
                slot=slot,
                spool_offset=0,
                process=None,
                has_resumed=run.attempt > 0,
                home=self._files.home_id,
            )
            run = await self._live_runs.change_state(starting, RunState.STARTING)
            folder = self._home.run_folder(run.experiment, run_id)
            spec = launch_spec(run, folder, self._options, self.slots.num_threads)
            attempt = Attempt(self._live_runs, self._executor, self._options, run, folder, spec)
            self._attempts[run_id] = attempt
            return attempt

    async def _follow_attempt(self, run_id: str, attempt: Attempt) -> None:
        begun = self._live_runs.current(run_id)
        limit = asyncio.create_task(self._limit_runtime(begun))
        try:
            result = await attempt.run()
        finally:
            limit.cancel()
        try:
            run = await self._live_runs.persist(lambda: self._conclude_attempt(run_id, result))
        finally:
            self._release(begun.slot, run_id)
        self._executor.forget(run_id, run.attempt)
        _log.info("attempt ended", run=run_id, attempt=run.attempt, state=run.state.value)
        if run.state.is_terminal:
            folder = self._home.run_folder(run.experiment, run_id)
            # all of it is in the store
            await asyncio.to_thread(folder.clear_spool, run.attempt)

    async def _conclude_attempt(self, run_id: str, result: AttemptResult) -> Run:
        # between two tries the lock is free: who asks for something gets an answer
        async with self._live_runs.lock(run_id):
            # what a server that died had no time for, or the store refused
            await self._live_runs.renew_extremes(run_id)
            run = self._live_runs.current(run_id)
            if not self._attempts[run_id].is_lost:
                run = replace(run, home=self._files.home_id)  # an agent uploaded all of it here
            run = await self._conclude(run, result)
            del self._attempts[run_id]
            if run.state is RunState.QUEUED:
                self.queue.add(run)
            return run

    def _release(self, slot: str, run_id: str) -> None:
        self.slots.release(slot, run_id)
        self.dispatch()

    async def _limit_runtime(self, run: Run) -> None:
        limits_s = (self._options.max_runtime_s, run.request.options.max_runtime_s)
        limit_s = min((limit for limit in limits_s if limit > 0), default=0.0)
        if not limit_s:
            return
        trained_s = await self._live_runs.persist(
            lambda: seconds_trained(self._store, run.id, time.time_ns())
        )
        await asyncio.sleep(max(0.0, limit_s - trained_s))
        reason = f"{OUT_OF_TIME} {limit_s:g} s"
        with contextlib.suppress(InvalidState):
            await self._live_runs.persist(
                lambda: self.stop(run.id, checkpoint=True, grace_s=None, reason=reason)
            )

    async def _conclude(self, run: Run, result: AttemptResult) -> Run:
        """Commit what follows from an attempt's result, with what its trainer printed last."""
        run, event = conclude(run, result, self._options.max_retries)
        return await self._live_runs.commit(run, [*result.lines, event])
