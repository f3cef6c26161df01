"""Gives waiting runs a slot, and sees each one through its attempts. Owns the queue and the slots."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from lab_server.errors import InvalidState
from lab_server.executors.protocol import Executor
from lab_server.files.home import Home
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.launch import DISK_FULL, LaunchSpec
from lab_server.model.run import Run, RunState
from lab_server.supervisor.attempt import Attempt, Ending
from lab_server.supervisor.journal import Journal
from lab_server.supervisor.options import SupervisorOptions
from lab_server.supervisor.queue import RunQueue
from lab_server.supervisor.slot_table import SlotTable

_log = logging.getLogger(__name__)

_INTERRUPTED = "the server was shut down meanwhile"


class Runner:
    """Runs what is queued. A run is in its queue, or has an attempt, or is none of its business."""

    def __init__(
        self, journal: Journal, executor: Executor, home: Home, options: SupervisorOptions
    ) -> None:
        self._journal = journal
        self._executor = executor
        self._home = home
        self._options = options
        self.queue = RunQueue(options.queue_limit)
        self.slots = SlotTable(executor.slots)
        self._attempts: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def lag_s(self, run_id: str) -> float:
        """For how long the run's spool has held something that is not in the log."""
        attempt = self._attempts.get(run_id)
        return 0.0 if attempt is None else attempt.lag_s

    def enqueue(self, run: Run) -> None:
        """Let a run that is QUEUED have a slot when its turn comes."""
        self.queue.add(run)
        self.dispatch()

    def dispatch(self) -> None:
        """Start as many of the waiting runs as there are slots for."""
        while not self._is_closing:
            run_id = self.queue.first(lambda device: self.slots.find_free(device) is not None)
            if run_id is None:
                return
            run = self._journal.current(run_id)
            slot = self.slots.find_free(run.request.options.device)
            assert slot is not None, "first() found one"
            self.queue.remove(run)
            self.slots.take(slot.name, run_id)
            self._spawn(self._start(run_id, slot.name), run_id)

    async def adopt(self, run: Run) -> None:
        """Go on with a run as an earlier server left it; its slot is taken when this returns."""
        self._journal.keep(run)
        if run.state is RunState.QUEUED:
            self.queue.add(run)
            return
        self.slots.take(run.slot, run.id)
        folder = self._home.run_folder(run.experiment, run.id)
        process = await self._executor.inspect(folder.path, run.attempt)
        run = replace(run, process=process)
        self._journal.keep(run)
        was_launched = folder.pid_file(run.attempt).exists()
        spec = None if was_launched or run.is_stop_requested else self._spec(run)
        attempt = Attempt(self._journal, self._executor, self._options, run, folder, spec)
        if run.is_stop_requested:
            # the order itself is in the control file: it was written before the request was committed
            attempt.stop_within(self._options.grace_s)
        how = "lives" if process else "is gone" if was_launched else "was never started"
        _log.info("run %s: taken over, its trainer %s", run.id, how)
        self._attempts[run.id] = attempt
        self._spawn(self._see_through(run.id, attempt), run.id)

    async def stop(
        self, run_id: str, *, checkpoint: bool, grace_s: float | None, reason: str
    ) -> Run:
        """Ask a run to stop, and end it by signals when it does not in time.

        Raises:
            InvalidState: If it has ended.
        """
        async with self._journal.lock(run_id):
            run = await self._journal.get(run_id)
            if run.state.is_terminal:
                raise InvalidState(
                    f"run {run.id} cannot be stopped: it is {run.state.value} already"
                )
            if not run.state.has_process:
                stopped = replace(run, queue_key=0, end_time_ns=time.time_ns())
                stopped = await self._journal.change_state(
                    stopped, RunState.STOPPED, f"{reason} while it waited"
                )
                self.queue.remove(run)
                return stopped
            attempt = self._attempts[run_id]
            if not run.is_stop_requested:
                folder = self._home.run_folder(run.experiment, run_id)
                try:
                    await asyncio.to_thread(folder.send, run.attempt, "stop", checkpoint=checkpoint)
                except OSError as error:
                    _log.warning("run %s: cannot ask it to stop: %s; it is made to", run_id, error)
                    grace_s = 0
                run = await self._journal.change_state(
                    replace(run, is_stop_requested=True), RunState.STOPPING, reason
                )
            attempt.stop_within(self._options.grace_s if grace_s is None else grace_s)
            return run

    async def shut_down(self, *, stop_trainers: bool) -> None:
        """Let go of all runs; trainers go on, or are interrupted to go on with the next server."""
        self._is_closing = True
        if stop_trainers:
            for attempt in self._attempts.values():
                attempt.interrupt(self._options.grace_s, _INTERRUPTED)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._options.grace_s + 15)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None], run_id: str) -> None:
        task = asyncio.create_task(work, name=f"run {run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s was given up", task.get_name(), exc_info=task.exception())

    async def _start(self, run_id: str, slot: str) -> None:
        async with self._journal.lock(run_id):
            run = self._journal.find(run_id)
            if run is None or run.state is not RunState.QUEUED:
                self._release(run_id)  # it was stopped just now
                return
            starting = replace(
                run,
                attempt=run.attempt + 1,
                slot=slot,
                spool_offset=0,
                process=None,
                has_resumed=run.attempt > 0,
            )
            run = await self._journal.persist(
                lambda: self._journal.change_state(starting, RunState.STARTING)
            )
            folder = self._home.run_folder(run.experiment, run_id)
            attempt = Attempt(
                self._journal, self._executor, self._options, run, folder, self._spec(run)
            )
            self._attempts[run_id] = attempt
        await self._see_through(run_id, attempt)

    async def _see_through(self, run_id: str, attempt: Attempt) -> None:
        limit = asyncio.create_task(self._limit_runtime(self._journal.current(run_id)))
        try:
            ending = await attempt.run()
        finally:
            limit.cancel()
        try:
            async with self._journal.lock(run_id):
                del self._attempts[run_id]
                run = await self._conclude(self._journal.current(run_id), ending)
                if run.state is RunState.QUEUED:
                    self.queue.add(run)
        finally:
            self._release(run_id)
        _log.info("run %s: attempt %d ended: %s", run_id, run.attempt, run.state.value)
        if run.state.is_terminal:
            folder = self._home.run_folder(run.experiment, run_id)
            await asyncio.to_thread(folder.clear_spool)  # all of it is in the log, on the disk

    def _release(self, run_id: str) -> None:
        self.slots.release(run_id)
        self.dispatch()

    async def _limit_runtime(self, run: Run) -> None:
        limits_s = (self._options.max_runtime_s, run.request.options.max_runtime_s)
        limit_s = min((limit for limit in limits_s if limit > 0), default=0.0)
        if not limit_s:
            return
        # from when it was started, or resumed, by somebody; what a retry repeats counts
        folder = self._home.run_folder(run.experiment, run.id)
        try:
            began = folder.pid_file(run.attempt - run.num_retries).stat().st_mtime
        except OSError:
            began = time.time()
        await asyncio.sleep(max(0.0, began + limit_s - time.time()))
        reason = f"stopped: it has trained for its max_runtime of {limit_s:g} s"
        with contextlib.suppress(InvalidState):
            await self._journal.persist(
                lambda: self.stop(run.id, checkpoint=True, grace_s=None, reason=reason)
            )

    async def _conclude(self, run: Run, ending: Ending) -> Run:
        """Commit what an attempt's end means for the run: another attempt, or its end."""
        run = replace(run, process=None, slot="", steps_per_second=0.0)
        outcome = ending.outcome
        # an error that came of being ended, of a data loader that died first, say, is not its own
        is_own = outcome is not None and not (ending.is_forced and outcome.state is RunState.FAILED)
        if outcome is not None and ending.event is not None and is_own:
            run = replace(run, spool_offset=ending.end_offset)
            if outcome.state is not RunState.STOPPED:
                return await self._end(run, outcome.state, outcome.reason, ending.event)
            reason = run.reason if run.is_stop_requested else "the experiment stopped itself"
            event = events.encode_state(
                run.attempt, _time_ns(ending.event), RunState.STOPPED, reason
            )
            return await self._end(run, RunState.STOPPED, reason, event)
        if run.is_stop_requested:
            return await self._end(run, RunState.STOPPED, f"{run.reason}; {ending.death}")
        if ending.death == _INTERRUPTED:
            return await self._again(run, _INTERRUPTED)
        if ending.death == DISK_FULL:
            return await self._end(run, RunState.FAILED, ending.death)
        allowed = run.request.options.max_retries
        max_retries = self._options.max_retries if allowed is None else allowed
        died = f"the trainer of attempt {run.attempt} died: {ending.death}"
        if run.num_retries >= max_retries:
            tried = f"; it was tried {max_retries + 1} times" if max_retries else ""
            return await self._end(run, RunState.FAILED, died + tried)
        retries = run.num_retries + 1
        again = f"{died}; it is tried again, {retries} of {max_retries} times"
        return await self._again(replace(run, num_retries=retries), again)

    async def _again(self, run: Run, reason: str) -> Run:
        return await self._journal.persist(
            lambda: self._journal.change_state(run, RunState.QUEUED, reason)
        )

    async def _end(
        self, run: Run, state: RunState, reason: str, event: EncodedEvent | None = None
    ) -> Run:
        event = event or events.encode_state(run.attempt, time.time_ns(), state, reason)
        # the trainer's own time: nobody may have listened when it ended
        end_time_ns = _time_ns(event)
        run = replace(run, state=state, reason=reason, end_time_ns=end_time_ns, queue_key=0)
        return await self._journal.commit_whenever_possible(run, [event])

    def _spec(self, run: Run) -> LaunchSpec:
        request = run.request
        folder = self._home.run_folder(run.experiment, run.id)
        parent = request.parent
        return LaunchSpec(
            run_id=run.id,
            attempt=run.attempt,
            folder=folder.path,
            experiment=run.experiment,
            overrides=request.overrides,
            run_order=request.run_order,
            models=request.models,
            writers=request.options.writers,
            name=request.name,
            tags=request.tags,
            notes=request.notes,
            device=self._device_of(run.slot),
            num_threads=self.slots.num_threads,
            is_resume=run.attempt > 1,
            max_checkpoint_step=-1 if run.checkpoint_step is None else run.checkpoint_step,
            parent_run_id=parent.run_id if parent else "",
            parent_folder=folder.parent if parent else None,
            parent_step=parent.step if parent else 0,
        )

    def _device_of(self, slot_name: str) -> str:
        return next((slot.device for slot, _ in self.slots if slot.name == slot_name), "cpu")


def _time_ns(event: EncodedEvent) -> int:
    return events.decode(event.payload).time_unix_ns
