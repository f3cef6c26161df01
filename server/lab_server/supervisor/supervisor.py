"""The one owner of every run that has not ended: every change of a run goes through here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lab_core.configs import PlainValue
from lab_server.errors import InvalidState
from lab_server.executors.protocol import Executor
from lab_server.files.home import Home, new_run_id
from lab_server.messages.values import unicode_of
from lab_server.model.run import Run, RunOptions, RunRequest, RunState, TagChange
from lab_server.model.slot import Slot, Wants
from lab_server.store.protocol import IdempotencyRecord, Store
from lab_server.supervisor.creation import Creation
from lab_server.supervisor.deletions import Deletions
from lab_server.supervisor.forecast import Forecast, forecasts
from lab_server.supervisor.live_runs import LiveRuns, run_to_completion
from lab_server.supervisor.options import SupervisorOptions
from lab_server.supervisor.run_files import NoOtherHomes, OtherHomes, RunFiles
from lab_server.supervisor.runner import Runner
from lab_server.watch.hub import Hub


class Supervisor:
    """Creates, starts, stops, changes and deletes runs. Used by the event loop's thread only.

    A change completes even when its caller is cancelled.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        executor: Executor,
        home: Path,
        options: SupervisorOptions = SupervisorOptions(),  # noqa: B008 - frozen
        elsewhere: OtherHomes = NoOtherHomes(),  # noqa: B008 - without state
    ) -> None:
        self._store = store
        self._options = options
        self._home = Home(home)
        self._live_runs = LiveRuns(store, hub)
        self._executor = executor
        self._files = RunFiles(self._live_runs, elsewhere, self._home)
        self._runner = Runner(self._live_runs, store, executor, self._home, options, self._files)
        self._creation = Creation(self._live_runs, store, self._home, self._files, self._runner)
        self._deletions = Deletions(self._live_runs, store, hub, self._home)
        self._last_queue_key = 0

    async def start_up(self) -> None:
        """Continue where the last server ended: finish deletions, adopt trainers, requeue runs."""
        await self._deletions.start_up()
        for run in await self._store.unfinished():
            self._last_queue_key = max(self._last_queue_key, run.queue_key)
            await self._runner.adopt(run)
        self._runner.dispatch()

    async def shut_down(self, *, stop_trainers: bool) -> None:
        """Release all runs. Trainers go on, or are interrupted; the next server continues them."""
        await self._runner.shut_down(stop_trainers=stop_trainers)
        await self._deletions.shut_down()

    # ---- state

    @property
    def leader(self) -> str:
        """See RunControl: it is this one."""
        return ""

    @property
    def queue_limit(self) -> int:
        """The largest number of runs that may wait."""
        return self._options.queue_limit

    def queue_length(self) -> int:
        """Return how many runs wait."""
        return len(self._runner.queue)

    def queue_position(self, run_id: str) -> int:
        """Return a run's place among those that wait, from 1; 0 when it does not wait."""
        return self._runner.queue.position(run_id)

    def waiting(self) -> Sequence[Wants]:
        """Return what each waiting run needs of its slot, in the order of the queue."""
        return [self._runner.queue.wants(run_id) for run_id in self._runner.queue]

    @property
    def devices(self) -> Sequence[str]:
        """The devices that a run may ask for."""
        there = [slot.device for slot in self._executor.slots]
        return tuple(dict.fromkeys([*there, *self._executor.devices_to_come]))

    def slots(self) -> Sequence[tuple[Slot, str]]:
        """Return every slot with the id of the run that has it, "" when it is free."""
        return tuple(self._runner.slots)

    def check_place(self, options: RunOptions, *, is_upload: bool) -> None:
        """See RunControl."""
        self._runner.check_place(options, is_upload=is_upload)

    def forecasts(self) -> Mapping[str, Forecast]:
        """See RunControl."""
        return forecasts(self.live(), self.slots())

    def live(self) -> Sequence[Run]:
        """Return the runs that have a process and then those that wait, in the order of the queue."""
        places = {run_id: place for place, run_id in enumerate(self._runner.queue)}
        return tuple(sorted(self._live_runs, key=lambda run: places.get(run.id, -1)))

    def lag_s(self, run_id: str) -> float:
        """Return the age in seconds of the oldest event that is in the spool and not in the log."""
        return self._runner.lag_s(run_id)

    async def get(self, run_id: str) -> Run:
        """Return a run by its id, or by a prefix that only one has.

        Raises:
            NotFound: If there is none, or several.
        """
        run = await self._live_runs.named(run_id)
        now = self._now(run)
        return replace(
            run, reason=f"{run.reason}; {now}" if run.reason and now else run.reason or now
        )

    def _now(self, run: Run) -> str:
        """Return what is true of a run right now and in no event: why it waits, or is not heard of."""
        if run.state is RunState.QUEUED and run.id in self._runner.without_files:
            return self._runner.without_files[run.id]
        position = self.queue_position(run.id)
        if position:
            waits = f"waits for a slot, position {position} of {self.queue_length()} in the queue"
            wants = self._runner.queue.wants(run.id)
            news = self._executor.news(wants)
            why = news or self._runner.slots.why_waits(wants)
            return f"{waits}: {why}" if why else waits
        if run.process is not None and run.state.has_process:
            away = self._executor.out_of_reach(run.process)
            return f"{away}; it trains on" if away else ""
        return ""

    # ---- changes

    async def create(
        self,
        request: RunRequest,
        *,
        owner: str,
        config_hash: str,
        key: str | None,
        fingerprint: str,
        configs: Mapping[str, PlainValue] | None = None,
        code_digest: str = "",
    ) -> Run:
        """Create a run, or return the one of the same key.

        Args:
            request: what was asked for.
            owner: who asked.
            config_hash: of its plan.
            key: the same key with the same fingerprint gives the same run.
            fingerprint: tells requests apart.
            configs: every config whose value the plan knows, to find the run by.
            code_digest: of the code that it was planned with; "" for any.

        Raises:
            AlreadyExists: If the key was used for another request.
            ConfigError: If no slot has the device that it asks for, or there is no such pool.
            NotFound: If the run or the checkpoint that it continues does not exist.
        """
        run = Run(
            id=new_run_id(),
            request=request,
            owner=owner,
            create_time_ns=time.time_ns(),
            config_hash=config_hash,
            configs={name: unicode_of(value) for name, value in (configs or {}).items()},
            planned_digest=code_digest,
            home=self._files.home_id,
        )
        idempotency = IdempotencyRecord(key, fingerprint) if key else None
        return await run_to_completion(self._creation.create(run, idempotency))

    async def start(
        self,
        run_id: str,
        *,
        resume: bool = False,
        until_step: int = 0,
        key: str | None = None,
        code_digest: str = "",
    ) -> Run:
        """Queue a created run; with resume, a stopped or failed one, from its last checkpoint.

        Args:
            run_id: the run.
            resume: whether it was started before.
            until_step: save and stop it at the first step boundary from this step on; 0 for none.
            key: the same key gives the same answer.
            code_digest: of the code that it is to be trained with; "" for that of before.

        Raises:
            AlreadyExists: If the key was used for another request.
            InvalidState: If the run is in no state for it, or has come to `until_step` already.
            NotFound: If there is no such run.
            QueueFull: If as many runs wait as may.
        """
        run = await self._creation.record(await self._live_runs.named(run_id))
        until = f" until={until_step}" if until_step else ""
        fingerprint = f"start {run.id} resume={resume}{until}"
        idempotency = IdempotencyRecord(key, fingerprint) if key else None
        # after the run was read: one that the same request has started meanwhile is no error
        known = await self._live_runs.with_key(idempotency)
        if known is not None:
            return known
        _check_startable(run, resume, until_step)
        await self._files.bring(run)
        return await self._live_runs.exclusively(
            run.id, lambda: self._queue(run.id, resume, until_step, idempotency, code_digest)
        )

    async def stop(self, run_id: str, *, checkpoint: bool, grace_s: float | None = None) -> Run:
        """Ask a run to stop; returns when the request is recorded.

        Raises:
            InvalidState: If it has ended.
            NotFound: If there is no such run.
        """
        run = await self._live_runs.named(run_id)
        reason = "stopped on request"
        return await self._runner.stop(
            run.id, checkpoint=checkpoint, grace_s=grace_s, reason=reason
        )

    async def save_checkpoint(self, run_id: str) -> Run:
        """Ask a run that trains to save a checkpoint at its next step boundary.

        Raises:
            InvalidState: If it does not train, or is stopping.
            NotFound: If there is no such run.
            StoreError: If the request cannot be written.
        """
        run = await self._live_runs.named(run_id)
        return await self._runner.save_checkpoint(run.id)

    async def bring_files(self, run: Run) -> Run:
        """Return a run whose files are in this server's home; another server may have had them.

        Raises:
            StoreError: If they cannot be written.
            Unavailable: If the server that has them is away.
        """
        return await self._files.bring(run)

    async def update(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: TagChange = TagChange(),  # noqa: B008 - frozen
        notes: str | None = None,
    ) -> Run:
        """Change the tags, and what is not None.

        Raises:
            NotFound: If there is no such run.
        """
        run = await self._live_runs.named(run_id)
        async with self._live_runs.lock(run.id):
            run = await self._live_runs.get(run.id)
            request = replace(
                run.request,
                name=run.request.name if name is None else name,
                tags=tags.of(run.request.tags),
                notes=run.request.notes if notes is None else notes,
            )
            return await self._live_runs.commit(replace(run, request=request))

    async def delete(self, run_id: str) -> None:
        """Delete a run that has ended, or never was started, with its files.

        Raises:
            InvalidState: If it waits or trains.
            NotFound: If there is no such run.
            StoreError: If nothing was deleted.
        """
        run = await self._live_runs.named(run_id)
        await self._live_runs.exclusively(run.id, lambda: self._delete(run.id))

    # ---- steps

    async def _queue(
        self,
        run_id: str,
        resume: bool,
        until_step: int,
        idempotency: IdempotencyRecord | None,
        code_digest: str,
    ) -> Run:
        known = await self._live_runs.with_key(idempotency)
        if known is not None:  # the same request was on its way
            return known
        run = await self._live_runs.get(run_id)
        _check_startable(run, resume, until_step)
        self._runner.check_place(run.request.options, is_upload=run.request.upload is not None)
        self._runner.queue.check_room(run)
        self._last_queue_key = max(self._last_queue_key + 1, time.time_ns())
        queued = replace(
            run,
            queue_key=self._last_queue_key,
            num_retries=0,
            is_stop_requested=False,
            end_time_ns=0,
            until_step=until_step,
            planned_digest=code_digest or run.planned_digest,
        )
        reason = "resumed on request" if resume else ""
        run = await self._live_runs.change_state(
            queued, RunState.QUEUED, reason, idempotency=idempotency
        )
        self._runner.enqueue(run)
        return run

    async def _delete(self, run_id: str) -> None:
        run = await self._live_runs.get(run_id)
        if not run.state.is_terminal and run.state is not RunState.CREATED:
            raise InvalidState(
                f"run {run_id} cannot be deleted: it is {run.state.word}; stop it first"
            )
        await self._deletions.delete(run)
        self._files.drop(run)


def _check_startable(run: Run, resume: bool, until_step: int) -> None:
    state = run.state
    if resume:
        if state in (RunState.STOPPED, RunState.FAILED):
            at = run.checkpoint_step or 0
            if 0 < until_step <= at:
                raise InvalidState(
                    f"run {run.id} is at step {at} already: until_step must be later, "
                    f"got {until_step}"
                )
            return
        what = "only a stopped or failed run can be resumed"
    else:
        if state is RunState.CREATED:
            return
        what = "only a created run can be started"
        if state in (RunState.STOPPED, RunState.FAILED):
            what += "; resume it to continue from its last checkpoint"
    raise InvalidState(f"run {run.id} is {state.word}: {what}")
